package exporter

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
)

const namespace = "azure_secure_score"

// selfMetrics describe the exporter itself and live as long as it does. Everything else is
// part of a snapshot: see series.go.
type selfMetrics struct {
	registry    *prometheus.Registry
	api         *APIMetrics
	collections prometheus.Counter
	failures    *prometheus.CounterVec
	panics      prometheus.Counter
}

func newSelfMetrics(api *APIMetrics, cacheTTL time.Duration) (*selfMetrics, error) {
	m := &selfMetrics{
		registry: prometheus.NewRegistry(),
		api:      api,
		collections: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "scrapes_total",
			Help: "Collections started. Overlapping scrapes share one.",
		}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "scrape_failures_total",
			Help: "Failed reads of a subscription in a collection or probe, by reason.",
		}, []string{"reason"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "collection_panics_total",
			Help: "Panics recovered in a collection, a probe or a refresh of recommendations. Each is a bug.",
		}),
	}
	for _, reason := range azure.Reasons {
		m.failures.WithLabelValues(string(reason))
	}
	ttl := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: namespace, Name: "cache_ttl_seconds",
		Help: "Value of --cache.ttl in seconds: how long a collection is served before the next one starts.",
	})
	ttl.Set(cacheTTL.Seconds())
	for _, c := range []prometheus.Collector{
		m.collections, m.failures, m.panics, ttl, api.requests, api.duration,
		versioncollector.NewCollector("azure_secure_score_exporter"),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := m.registry.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
