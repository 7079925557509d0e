package azure

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// BenchmarkRecommendationReader reads 150 recommendations per subscription, all of them unhealthy,
// in a refresh that also reads names and controls. It reports the queries, and what the result
// keeps.
func BenchmarkRecommendationReader(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			tenant := simulator.Generate(n, 16)
			simulator.GenerateAssessments(&tenant, 150)
			tenant.ResourceGraph.Queries = 1_000_000
			sim, client := start(b, tenant, Config{})
			graph := newResourceGraph(client, graphPageSize, newGraphQuota(1_000_000))
			subscriptions := assess(ids(tenant)...)
			NewRecommendationReader(graph).read(b.Context(), subscriptions[:1]) // the simulator's caches
			before := heap()
			b.ReportAllocs()
			for b.Loop() {
				sim.ResetRequests()
				reader := NewRecommendationReader(graph)
				result := reader.read(b.Context(), subscriptions)
				b.StopTimer()
				if last := result.Subscriptions[n-1]; result.Err != nil || last.Err != nil || len(last.Scopes[0].Counts) != 150 {
					b.Fatal(result.Err, last.Err)
				}
				b.ReportMetric(float64(sim.Requests()[simulator.RouteGraph]), "queries")
				b.ReportMetric((heap()-before)/(1<<20), "MiB-kept")
				runtime.KeepAlive(reader)
				b.StartTimer()
			}
		})
	}
}

// heap returns the bytes in use.
func heap() float64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return float64(stats.HeapAlloc)
}
