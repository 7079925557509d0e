package exporter

import (
	"net/http"
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
)

const namespace = "azure_secure_score"

// The series of connectors to other clouds have the label connector beside these.
var (
	scoreLabels   = []string{"environment", "initiative", "subscription_id"}
	controlLabels = []string{"control", "control_id", "environment", "initiative", "subscription_id"}

	current = gauge("current", "Secure score of the subscription in points, from the Secure Scores API (2020-01-01). Azure recomputes it every 8 hours.", scoreLabels...)
	maximum = gauge("max", "Points that the subscription can reach at most, from the Secure Scores API (2020-01-01).", scoreLabels...)
	ratio   = gauge("ratio", "Secure score divided by its maximum, 0 to 1, as Azure rounds it (the API's percentage); 0 when the maximum is 0.", scoreLabels...)
	weight  = gauge("weight", "Azure's weight of the subscription in a weighted mean of ratios over subscriptions; Azure counts 0 as 1 there. From the Secure Scores API (2020-01-01).", scoreLabels...)

	controlCurrent   = gauge("control_current", "Points that the security control contributes, from the Secure Score Controls API (2020-01-01).", controlLabels...)
	controlMax       = gauge("control_max", "Points that the security control can contribute at most; 0 while it has no assessed resource. From the Secure Score Controls API (2020-01-01).", controlLabels...)
	controlWeight    = gauge("control_weight", "Azure's weight of the security control, from the Secure Score Controls API (2020-01-01).", controlLabels...)
	controlResources = gauge("control_resources", "Resources of the security control by state: healthy, unhealthy or not_applicable. From the Secure Score Controls API (2020-01-01).",
		"control", "control_id", "environment", "initiative", "state", "subscription_id")

	subscriptionInfo          = gauge("subscription_info", "Always 1. The name, state and tenant of the subscription, from the Subscriptions API (2022-12-01).", "subscription_id", "subscription_name", "subscription_state", "tenant_id")
	subscriptionScored        = gauge("subscription_scored", "1 if the subscription has a secure score, 0 if Azure does not score it, for example because Defender CSPM is off.", "subscription_id")
	subscriptionScrapeSuccess = gauge("subscription_scrape_success", "1 if the newest collection could read the subscription, 0 if not. Its last good values are served for a while then.", "subscription_id")
	subscriptionScrapeFailure = gauge("subscription_scrape_failure", "1 while the subscription cannot be read, with the reason of the newest collection; absent otherwise.", "reason", "subscription_id")
	subscriptionLastSuccess   = gauge("subscription_last_success_timestamp_seconds", "Unix time in seconds at which the values of the subscription were read from Azure.", "subscription_id")

	up                = gauge("up", "1 if the newest collection got a token and has the list of subscriptions, 0 if not.")
	scrapeDuration    = gauge("scrape_duration_seconds", "Duration of the newest collection in seconds.")
	apiQuotaRemaining = gauge("api_quota_remaining", "Requests that Azure still grants: the smallest value of its x-ms-ratelimit-remaining-* headers in the newest collection, by the rest of the header's name; user-quota is that of Resource Graph.", "limit")

	probeSuccess  = newGauge("probe_success", "1 if the subscription could be read, 0 if not.")
	probeDuration = newGauge("probe_duration_seconds", "Duration of the probe in seconds.")
)

// definition is what the series of a gauge have in common.
type definition struct {
	name, help string
	desc       *prometheus.Desc
}

func gauge(name, help string, labels ...string) *definition {
	return newGauge(prometheus.BuildFQName(namespace, "", name), help, labels...)
}

func newGauge(name, help string, labels ...string) *definition {
	return &definition{name, help, prometheus.NewDesc(name, help, labels, nil)}
}

// register makes and registers the metrics that are in no snapshot.
func (e *Exporter) register() error {
	e.scrapes = prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: namespace, Name: "scrapes_total",
		Help: "Collections from Azure. Scrapes that overlap share one.",
	})
	e.failures = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Name: "scrape_failures_total",
		Help: "Failed attempts to read a subscription, in a collection or by a probe, by reason.",
	}, []string{"reason"})
	for _, reason := range azure.Reasons {
		e.failures.WithLabelValues(string(reason))
	}
	for _, c := range []prometheus.Collector{
		e.scrapes, e.failures, e.api.requests, e.api.duration,
		versioncollector.NewCollector("azure_secure_score_exporter"),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := e.own.Register(c); err != nil {
			return err
		}
	}
	return nil
}

// APIMetrics counts and times the calls to Azure, and remembers those of the
// newest collection.
type APIMetrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec

	mu      sync.Mutex
	traffic traffic // since takeTraffic
}

// traffic is what the calls to Azure told.
type traffic struct {
	Calls     int
	Throttled int                // how many of them Azure refused as too many
	quota     map[string]float64 // the smallest value, by limit
}

// NewAPIMetrics makes metrics whose Observe is meant for [azure.Config.Observe].
func NewAPIMetrics() *APIMetrics {
	m := &APIMetrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "api_requests_total",
			Help: "HTTP calls to Azure, retries included, by operation and HTTP status; code is error when no complete answer came.",
		}, []string{"operation", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "api_request_duration_seconds",
			Help:    "Duration of the HTTP calls to Azure in seconds, each retry by itself, by operation.",
			Buckets: []float64{.025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"operation"}),
	}
	for _, operation := range azure.Operations {
		m.requests.WithLabelValues(operation, "200")
		m.duration.WithLabelValues(operation)
	}
	return m
}

// Observe takes note of one call.
func (m *APIMetrics) Observe(call azure.Request) {
	m.requests.WithLabelValues(call.Operation, call.Code).Inc()
	m.duration.WithLabelValues(call.Operation).Observe(call.Duration.Seconds())
	m.mu.Lock()
	defer m.mu.Unlock()
	m.traffic.Calls++
	if call.Code == strconv.Itoa(http.StatusTooManyRequests) {
		m.traffic.Throttled++
	}
	for limit, remaining := range call.QuotaRemaining {
		if m.traffic.quota == nil {
			m.traffic.quota = map[string]float64{}
		}
		if smallest, ok := m.traffic.quota[limit]; !ok || remaining < smallest {
			m.traffic.quota[limit] = remaining
		}
	}
}

// takeTraffic returns what the calls since the last time told.
func (m *APIMetrics) takeTraffic() traffic {
	m.mu.Lock()
	defer m.mu.Unlock()
	taken := m.traffic
	m.traffic = traffic{}
	return taken
}
