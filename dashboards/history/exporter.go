package main

import (
	"math"
	"strconv"
)

// exporter writes what the exporter and Prometheus report about the exporter itself.
func (h history) exporter(subscriptions []subscription) {
	var n, forbidden float64
	for _, s := range subscriptions {
		n += boolean(s.readable())
		forbidden += boolean(s.NoAccess)
	}
	busy := func(i int) float64 { return 1 + 0.25*math.Sin(float64(i)/40) + 0.4*noise("busy", strconv.Itoa(i)) }
	duration := func(i int) float64 {
		switch {
		case h.outage(i):
			return 0.4
		case h.throttled(i):
			return (3 + n*0.05) * busy(i) * 2.5
		}
		return (3 + n*0.05) * busy(i)
	}
	h.gauge("up", nil, func(int) float64 { return 1 })
	h.gauge("scrape_duration_seconds", nil, func(i int) float64 { return duration(i) + 0.02 })
	h.gauge(prefix+"up", nil, func(i int) float64 { return boolean(!h.outage(i)) })
	h.gauge(prefix+"scrape_duration_seconds", nil, duration)
	h.gauge(prefix+"cache_ttl_seconds", nil, func(int) float64 { return 0 })
	h.family(prefix+"collection_panics", "counter")
	h.counter(prefix+"collection_panics_total", nil, func(int) float64 { return 0 })
	h.gauge(prefix+"exporter_build_info", []string{"version", "1.0.0", "revision", "0123456", "branch", "main", "goversion", "go1.26.8"},
		func(int) float64 { return 1 })
	h.family(prefix+"api_quota_remaining", "gauge")
	for _, limit := range []struct {
		name    string
		granted float64
	}{{"subscription-reads", 249}, {"subscription-global-reads", 3749}} {
		h.series(prefix+"api_quota_remaining", []string{"limit", limit.name}, func(i int) (float64, bool) {
			if h.throttled(i) {
				return math.Round(limit.granted * 0.07), true
			}
			return math.Round(limit.granted * (0.98 - 0.05*busy(i))), !h.outage(i)
		})
	}
	h.family(prefix+"scrapes", "counter")
	h.counter(prefix+"scrapes_total", nil, func(int) float64 { return 1 })
	h.requests(n, forbidden, busy)

	h.gauge("process_resident_memory_bytes", nil, func(i int) float64 { return math.Round((28 + 0.05*n + 4*busy(i)) * (1 << 20)) })
	h.gauge("go_memstats_heap_inuse_bytes", nil, func(i int) float64 { return math.Round((9 + 0.03*n + 3*busy(i)) * (1 << 20)) })
	h.gauge("go_goroutines", nil, func(i int) float64 { return math.Round(14 + 4*busy(i)) })
	h.gauge("process_open_fds", nil, func(i int) float64 { return math.Round(11 + 3*busy(i)) })
	h.family("process_cpu_seconds", "counter")
	h.counter("process_cpu_seconds_total", nil, func(i int) float64 { return 0.004 * n * busy(i) })
}

// requests writes the requests to Azure, by operation and status code, and their durations.
func (h history) requests(n, forbidden float64, busy func(i int) float64) {
	operations := []struct {
		name   string
		calls  float64 // per collection
		median float64 // in seconds
		codes  []string
	}{
		{"get_token", 0.02, 0.18, []string{"200", "503"}},
		{"list_subscriptions", 0.2, 0.35, []string{"200"}},
		{"list_secure_scores", n, 0.28, []string{"200", "403", "429"}},
		{"list_secure_score_controls", n, 0.62, []string{"200", "429"}},
		{"query_resource_graph", 0, 0, []string{"200"}},
	}
	h.family(prefix+"api_requests", "counter")
	for _, o := range operations {
		for _, code := range o.codes {
			h.counter(prefix+"api_requests_total", []string{"operation", o.name, "code", code}, func(i int) float64 {
				token := o.name == "get_token"
				switch {
				case h.outage(i):
					return 3 * boolean(token && code == "503")
				case code == "403":
					return forbidden
				case h.throttled(i) && !token:
					return o.calls * map[string]float64{"200": 0.8, "429": 0.25}[code]
				}
				return o.calls * boolean(code == "200")
			})
		}
	}
	const name = prefix + "api_request_duration_seconds"
	h.family(name, "histogram")
	for _, o := range operations {
		labels := []string{"operation", o.name}
		for _, le := range []float64{0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, math.Inf(1)} {
			// A log-logistic distribution around the median has a long tail, as the API's has.
			h.counter(name+"_bucket", append(labels, "le", format(le)), func(i int) float64 {
				if o.calls == 0 || math.IsInf(le, 1) {
					return o.calls
				}
				return o.calls / (1 + math.Pow(o.median*busy(i)/le, 3))
			})
		}
		h.counter(name+"_sum", labels, func(i int) float64 { return o.calls * o.median * busy(i) * 1.2 })
		h.counter(name+"_count", labels, func(int) float64 { return o.calls })
	}
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
