package exporter

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	_ "github.com/prometheus/client_golang/prometheus/promhttp/zstd" // lets promhttp answer in zstd
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web"
)

// Handler serves /metrics, /status, /probe, /sd, /-/healthy, /-/ready and a landing
// page.
func (e *Exporter) Handler() (http.Handler, error) {
	landing, err := web.NewLandingPage(web.LandingConfig{
		Name:        "Azure Secure Score Exporter",
		Description: "Prometheus exporter for the secure score of Microsoft Defender for Cloud",
		Version:     version.Info(),
		Profiling:   "false",
		Links: []web.LandingLinks{
			{Address: "/metrics", Text: "Metrics", Description: "the secure scores of all subscriptions"},
			{Address: "/status", Text: "Status", Description: "every subscription, its score and its trouble, for people"},
			{Address: "/sd", Text: "Service discovery", Description: "the subscriptions as targets for /probe?target=SUBSCRIPTION_ID"},
			{Address: "/-/healthy", Text: "Health", Description: "is the process alive?"},
			{Address: "/-/ready", Text: "Readiness", Description: "does it take scrapes?"},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("landing page: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", e.metricsHandler())
	mux.HandleFunc("GET /status", e.serveStatus)
	mux.HandleFunc("GET /probe", e.serveProbe)
	mux.HandleFunc("GET /sd", e.serveDiscovery)
	mux.HandleFunc("GET /-/healthy", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "healthy") })
	mux.HandleFunc("GET /-/ready", func(w http.ResponseWriter, _ *http.Request) {
		if e.draining.Load() {
			http.Error(w, "draining", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	mux.Handle("GET /{$}", landing)
	return mux, nil
}

// metricsHandler brings the snapshot up to date within the scrape's deadline and
// serves it.
func (e *Exporter) metricsHandler() http.Handler {
	options := promhttp.HandlerOpts{
		ErrorLog:          promhttpLogger{e.logger},
		ErrorHandling:     promhttp.ContinueOnError,
		Registry:          e.own,
		EnableOpenMetrics: true,
	}
	everything := promhttp.HandlerFor(prometheus.GathererFunc(e.gather), options)
	// Of nothing promhttp serves only headers: what it has agreed on with the client.
	nothing := promhttp.HandlerFor(prometheus.NewRegistry(), promhttp.HandlerOpts{EnableOpenMetrics: true})

	return promhttp.InstrumentMetricHandler(e.own, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if e.draining.Load() || !e.inFlight.TryAcquire(1) {
			http.Error(w, "too many scrapes in flight, or the exporter is stopping", http.StatusServiceUnavailable)
			return
		}
		defer e.inFlight.Release(1)
		e.refresh(r.Context(), time.Now().Add(e.timeout(r)))

		agreed := headersOnly{}
		nothing.ServeHTTP(agreed, r)
		f := form{expfmt.Format(agreed.Header().Get("Content-Type")), cmp.Or(agreed.Header().Get("Content-Encoding"), "identity")}
		usual := f.format.FormatType() == expfmt.TypeTextPlain || f.format.FormatType() == expfmt.TypeOpenMetrics
		if !usual || r.URL.Query().Has("name[]") {
			everything.ServeHTTP(w, r)
			return
		}
		p, err := e.current().part(f)
		if err != nil {
			level.Error(e.logger).Log("msg", "cannot render the snapshot", "err", err)
			everything.ServeHTTP(w, r)
			return
		}
		own, err := e.own.Gather()
		if err != nil {
			level.Error(e.logger).Log("msg", "cannot gather all of the exporter's own metrics", "err", err)
		}
		maps.Copy(w.Header(), agreed.Header())
		if err := p.answer(w, f, own); err != nil {
			level.Debug(e.logger).Log("msg", "cannot serve metrics", "err", err)
		}
	}))
}

// headersOnly is a response of which nobody wants the body.
type headersOnly http.Header

// Header implements [http.ResponseWriter].
func (h headersOnly) Header() http.Header { return http.Header(h) }

// Write implements [http.ResponseWriter].
func (h headersOnly) Write(b []byte) (int, error) { return len(b), nil }

// WriteHeader implements [http.ResponseWriter].
func (h headersOnly) WriteHeader(int) {}

// gather gathers the newest snapshot and the exporter's own metrics.
func (e *Exporter) gather() ([]*dto.MetricFamily, error) {
	registry := prometheus.NewRegistry()
	if err := registry.Register(e.current()); err != nil {
		return nil, err
	}
	return prometheus.Gatherers{registry, e.own}.Gather()
}

// timeout returns how long the scrape may take: what Prometheus says in its
// header, less the offset that leaves time for the answer to arrive.
func (e *Exporter) timeout(r *http.Request) time.Duration {
	seconds, err := strconv.ParseFloat(r.Header.Get("X-Prometheus-Scrape-Timeout-Seconds"), 64)
	if err != nil || math.IsNaN(seconds) || seconds <= 0 || seconds >= e.cfg.ScrapeTimeout.Seconds()+e.cfg.TimeoutOffset.Seconds() {
		return e.cfg.ScrapeTimeout
	}
	timeout := time.Duration(seconds * float64(time.Second))
	// Of a timeout that is no longer than the offset, half is better than nothing.
	return max(timeout-e.cfg.TimeoutOffset, timeout/2)
}

// promhttpLogger lets promhttp log in the format of everything else.
type promhttpLogger struct{ logger log.Logger }

// Println implements promhttp's Logger. A client that goes away while its answer
// is being written makes promhttp complain once for each family that is left: that
// is not the exporter's trouble.
func (l promhttpLogger) Println(v ...any) {
	text := strings.TrimSpace(fmt.Sprintln(v...))
	logger := level.Error(l.logger)
	if strings.HasPrefix(text, "error encoding and sending metric family") {
		logger = level.Debug(l.logger)
	}
	_ = logger.Log("msg", "cannot serve metrics", "err", text)
}
