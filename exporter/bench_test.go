package exporter

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// sizes are numbers of subscriptions: a small, a medium and a large tenant.
var sizes = []int{100, 1000, 10_000}

// benchmarkSystem has made one collection by Resource Graph.
func benchmarkSystem(b *testing.B, subscriptions int) *system {
	b.Helper()
	cfg := DefaultConfig()
	cfg.CacheTTL, cfg.MaxStale = time.Hour, time.Hour
	tenant := simulator.Generate(subscriptions, 16)
	tenant.SubscriptionPageSize = 1000
	s := startFrom(b, tenant, cfg, azure.Config{}, func(c *azure.Client) Source {
		return &replay{Source: azure.NewResourceGraph(c)}
	})
	s.scrape(b, "")
	return s
}

// replay reads the scores once and returns the same results from then on: the quota of Resource
// Graph would make a benchmark wait.
type replay struct {
	Source
	results []azure.Result
}

func (r *replay) SecureScores(ctx context.Context, ids []string) []azure.Result {
	if r.results == nil {
		r.results = r.Source.SecureScores(ctx, ids)
	}
	return slices.Clone(r.results)
}

// One collection, without the requests to Azure.
func BenchmarkCollect(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := benchmarkSystem(b, n)
			c := s.exporter.cache.collector
			b.ReportAllocs()
			for b.Loop() {
				c.collect(b.Context(), s.exporter.cache.latest(), time.Now())
			}
		})
	}
}

// The text of a snapshot, not compressed.
func BenchmarkRender(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			snapshot := benchmarkSystem(b, n).exporter.cache.latest()
			b.ReportAllocs()
			for b.Loop() {
				if err := snapshot.write(io.Discard, encoding{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// The first scrape of a snapshot in gzip.
func BenchmarkCompress(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			snapshot := benchmarkSystem(b, n).exporter.cache.latest()
			b.ReportAllocs()
			for b.Loop() {
				r := snapshot.asOf(snapshot.cutoffs, nil).rendering(encoding{compression: "gzip"})
				size := 0
				for _, chunk := range r.text {
					size += len(chunk)
				}
				b.ReportMetric(float64(size), "wire-B")
			}
		})
	}
}

// A scrape in gzip of a snapshot that has been served before.
func BenchmarkWarmScrape(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := benchmarkSystem(b, n)
			handler := s.exporter.Handler()
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
				r.Header.Set("Accept-Encoding", "gzip")
				handler.ServeHTTP(discardBody{}, r)
			}
		})
	}
}

// A page of /status.
func BenchmarkStatus(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			handler := benchmarkSystem(b, n).exporter.Handler()
			b.ReportAllocs()
			for b.Loop() {
				handler.ServeHTTP(discardBody{}, httptest.NewRequest(http.MethodGet, "/status", nil))
			}
		})
	}
}

// Service discovery from a list that is known.
func BenchmarkSD(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			handler := benchmarkSystem(b, n).exporter.Handler()
			b.ReportAllocs()
			for b.Loop() {
				handler.ServeHTTP(discardBody{}, httptest.NewRequest(http.MethodGet, "/sd", nil))
			}
		})
	}
}

// A probe of one subscription from the cache.
func BenchmarkProbe(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := benchmarkSystem(b, n)
			handler := s.exporter.Handler()
			target := s.exporter.cache.latest().subscriptions[n/2].ID
			b.ReportAllocs()
			for b.Loop() {
				handler.ServeHTTP(discardBody{}, httptest.NewRequest(http.MethodGet, "/probe?target="+target, nil))
			}
		})
	}
}
