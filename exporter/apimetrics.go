package exporter

import (
	"net/http"
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
)

// APIMetrics count and time the requests to Azure, and total those of the last collection.
type APIMetrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec

	mu    sync.Mutex
	stats apiStats // since resetStats
}

// apiStats are the totals of a collection's requests.
type apiStats struct {
	Requests  int
	Throttled int                // requests that Azure answered with 429
	quota     map[string]float64 // lowest remaining quota, by limit
}

// NewAPIMetrics returns metrics to be fed by [azure.Config.Observe].
func NewAPIMetrics() *APIMetrics {
	m := &APIMetrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "api_requests_total",
			Help: "HTTP requests to Azure, including retries, by operation and status code; code is error if there was no complete response.",
		}, []string{"operation", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "api_request_duration_seconds",
			Help:    "Duration of HTTP requests to Azure in seconds, by operation. Each retry is a request.",
			Buckets: []float64{.025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"operation"}),
	}
	for _, operation := range azure.Operations {
		m.requests.WithLabelValues(operation, "200")
		m.duration.WithLabelValues(operation)
	}
	return m
}

// Observe records one request.
func (m *APIMetrics) Observe(r azure.Request) {
	m.requests.WithLabelValues(r.Operation, r.Code).Inc()
	m.duration.WithLabelValues(r.Operation).Observe(r.Duration.Seconds())
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stats.Requests++
	if r.Code == strconv.Itoa(http.StatusTooManyRequests) {
		m.stats.Throttled++
	}
	for limit, remaining := range r.QuotaRemaining {
		if m.stats.quota == nil {
			m.stats.quota = map[string]float64{}
		}
		if lowest, ok := m.stats.quota[limit]; !ok || remaining < lowest {
			m.stats.quota[limit] = remaining
		}
	}
}

// resetStats returns the stats since the last reset.
func (m *APIMetrics) resetStats() apiStats {
	m.mu.Lock()
	defer m.mu.Unlock()
	stats := m.stats
	m.stats = apiStats{}
	return stats
}
