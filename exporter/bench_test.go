package exporter

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// One collection of 1,000 subscriptions × 16 controls without latency: what the
// exporter and the simulator cost together. See scripts/figures for the exporter
// alone.
func BenchmarkCollection(b *testing.B) {
	s := start(b, simulator.Generate(1000, 16), defaults(), azure.Config{})
	b.ReportAllocs()
	for b.Loop() {
		s.exporter.newSnapshot(b.Context())
	}
}

// A scrape of 100,000 series in gzip: from a snapshot that serves again, and as an
// exporter does it that makes its metrics anew for promhttp.
func BenchmarkScrape(b *testing.B) {
	s := start(b, simulator.Generate(1000, 16), defaults(), azure.Config{})
	s.exporter.cfg.CacheTTL = time.Hour
	handler, err := s.exporter.Handler()
	if err != nil {
		b.Fatal(err)
	}
	scrape := func(h http.Handler) int {
		r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		r.Header.Set("Accept-Encoding", "gzip")
		w := httptest.NewRecorder()
		w.Body.Grow(4 << 20)
		h.ServeHTTP(w, r)
		return w.Body.Len()
	}
	scrape(handler)
	snapshot := s.exporter.snapshot.Load()
	b.Run("warm", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			b.ReportMetric(float64(scrape(handler)), "wire-B/op")
		}
	})
	b.Run("promhttp", func(b *testing.B) {
		registry := prometheus.NewRegistry()
		registry.MustRegister(newEachTime{snapshot})
		h := promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
		b.ReportAllocs()
		for b.Loop() {
			b.ReportMetric(float64(scrape(h)), "wire-B/op")
		}
		series := 0
		for _, f := range snapshot.families {
			series += len(f.series)
		}
		b.ReportMetric(float64(series), "series")
	})
}

// newEachTime collects a snapshot's series as constant metrics of client_golang's.
type newEachTime struct{ *snapshot }

func (c newEachTime) Collect(ch chan<- prometheus.Metric) {
	for _, f := range c.families {
		for _, s := range f.series {
			values := make([]string, len(s.labels))
			for i, l := range s.labels {
				values[i] = l.GetValue()
			}
			ch <- prometheus.MustNewConstMetric(f.desc, prometheus.GaugeValue, s.value, values...)
		}
	}
}
