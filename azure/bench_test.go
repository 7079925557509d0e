package azure

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"testing"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// sizes are numbers of subscriptions: a small, a medium and a large tenant.
var sizes = []int{100, 1000, 10_000}

// Resource Graph's response for 1,000 subscriptions, or fewer, without the connection.
func BenchmarkDecode(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			body := graphBody(b, simulator.Generate(n, 16))
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if read := decodeScores(b, body); read != n {
					b.Fatalf("%d subscriptions", read)
				}
			}
		})
	}
}

// decodeScores returns how many subscriptions have a score.
func decodeScores(b *testing.B, body []byte) (scored int) {
	b.Helper()
	page, err := readGraphPage(bytes.NewReader(body), parseScoreRow)
	if err != nil {
		b.Fatal(err)
	}
	for _, row := range page.Data.rows {
		scored += len(row.scores)
	}
	return scored
}

// graphBody is Resource Graph's response to the packed query of scores.
func graphBody(b *testing.B, tenant simulator.Tenant) []byte {
	b.Helper()
	sim, client := start(b, tenant, Config{})
	var body []byte
	sim.SetGraphFault(simulator.Rewrite(func(_ *http.Request, answer []byte) []byte {
		body = answer
		return answer
	}))
	NewResourceGraph(client).SecureScores(b.Context(), ids(tenant))
	return body
}

// A collection's scores, with the simulator's share of time and memory.
func BenchmarkSecureScores(b *testing.B) {
	for _, n := range sizes {
		tenant := simulator.Generate(n, 16)
		tenant.ResourceGraph.Queries = 1 << 30
		_, client := start(b, tenant, Config{Observe: func(Request) {}})
		for _, source := range []struct {
			name string
			read func(context.Context, []string) []Result
		}{
			{"arm", client.SecureScores},
			{"resourcegraph", newResourceGraph(client, graphPageSize, newGraphQuota(1<<30)).SecureScores},
		} {
			b.Run(fmt.Sprintf("%s/%d", source.name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if last := source.read(b.Context(), ids(tenant))[n-1]; len(last.Controls) != 16 {
						b.Fatalf("%+v", last)
					}
				}
			})
		}
	}
}

// The list of subscriptions, with the simulator's share of time and memory.
func BenchmarkSubscriptions(b *testing.B) {
	for _, n := range sizes {
		tenant := simulator.Generate(n, 1)
		tenant.SubscriptionPageSize = 50
		tenant.ResourceGraph.Queries = 1 << 30
		_, client := start(b, tenant, Config{Observe: func(Request) {}})
		for _, source := range []struct {
			name string
			list func(context.Context) ([]Subscription, error)
		}{
			{"arm", client.Subscriptions},
			{"resourcegraph", newResourceGraph(client, graphPageSize, newGraphQuota(1<<30)).Subscriptions},
		} {
			b.Run(fmt.Sprintf("%s/%d", source.name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if listed, err := source.list(b.Context()); err != nil || len(listed) != n {
						b.Fatalf("%d subscriptions, %v", len(listed), err)
					}
				}
			})
		}
	}
}
