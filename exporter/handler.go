package exporter

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/semaphore"
)

const (
	// maxProbes bounds the probes in flight, including those that wait for their turn.
	maxProbes = 1000
	// writeTimeout is how long a client can take to read a response. It disconnects slow readers,
	// which hold a connection but no slot.
	writeTimeout = 30 * time.Second
)

// handlers serve HTTP from the cache. Only live probes and service discovery call
// Azure themselves.
type handlers struct {
	cfg       Config
	cache     *cache
	collector *collector
	tags      []tagLabel
	mux       *http.ServeMux

	scrapes   *slots
	probes    *slots
	pages     *semaphore.Weighted // status pages that are rendered concurrently
	liveReads *liveReads
}

func newHandlers(c *cache, tags []tagLabel, cfg Config) *handlers {
	h := &handlers{
		cfg: cfg, cache: c, collector: c.collector, tags: tags, mux: http.NewServeMux(),
		scrapes:   newSlots(cfg.MaxRequests),
		probes:    newSlots(maxProbes),
		pages:     semaphore.NewWeighted(maxStatusPages),
		liveReads: newLiveReads(c.collector, c.background),
	}
	metrics := promhttp.InstrumentMetricHandler(c.collector.metrics.registry, http.HandlerFunc(h.serveMetrics))
	h.mux.Handle("GET /metrics", h.withScrapeDeadline(metrics.ServeHTTP))
	h.mux.Handle("GET /probe", h.withScrapeDeadline(h.probes.limit(h.serveProbe)))
	h.mux.Handle("GET /sd", h.withScrapeDeadline(h.probes.limit(h.serveSD)))
	h.mux.HandleFunc("GET /status", h.serveStatus)
	h.mux.HandleFunc("GET /-/healthy", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "healthy") })
	h.mux.HandleFunc("GET /-/ready", func(w http.ResponseWriter, _ *http.Request) {
		if h.scrapes.closed() {
			http.Error(w, "shutting down", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	h.mux.HandleFunc("GET /{$}", h.serveLanding)
	h.mux.HandleFunc("GET /", h.serveNotFound)
	return h
}

// serveMetrics serves the snapshot and the exporter's own metrics.
func (h *handlers) serveMetrics(w http.ResponseWriter, r *http.Request) {
	if !h.scrapes.acquire() {
		http.Error(w, "too many concurrent scrapes, or shutting down", http.StatusServiceUnavailable)
		return
	}
	response := h.scrape(r)
	setWriteDeadline(w)
	if err := response.serve(w, h.collector.metrics.registry); err != nil {
		level.Debug(h.cfg.Logger).Log("msg", "cannot serve metrics", "err", err)
	}
}

// scrape prepares the response and releases the slot, so that a slow reader does not keep it.
func (h *handlers) scrape(r *http.Request) *exposition {
	defer h.scrapes.release()
	snapshot := h.cache.get(r.Context())
	h.cache.recommendations.refreshIfDue(snapshot)
	response := newExposition(snapshot, r)
	response.prepare()
	return response
}

// setWriteDeadline limits how long the client can take to read the response.
func setWriteDeadline(w http.ResponseWriter) {
	// A ResponseWriter without deadlines has the server's own.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
}

// withScrapeDeadline gives a request the deadline that Prometheus sets, and ends it when the
// exporter shuts down.
func (h *handlers) withScrapeDeadline(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), h.timeout(r))
		defer cancel()
		stop := context.AfterFunc(h.cache.background.ctx, cancel)
		defer stop()
		next(w, r.WithContext(ctx))
	})
}

// timeout returns how long a scrape can take: Prometheus' own timeout less the offset, and
// --scrape.timeout as the maximum.
func (h *handlers) timeout(r *http.Request) time.Duration {
	seconds, err := strconv.ParseFloat(r.Header.Get("X-Prometheus-Scrape-Timeout-Seconds"), 64)
	longest := h.cfg.ScrapeTimeout.Seconds() + h.cfg.TimeoutOffset.Seconds()
	if err != nil || math.IsNaN(seconds) || seconds <= 0 || seconds >= longest {
		return h.cfg.ScrapeTimeout
	}
	timeout := time.Duration(seconds * float64(time.Second))
	return max(timeout-h.cfg.TimeoutOffset, timeout/2) // a timeout shorter than the offset is halved
}

// drain refuses new requests and waits for those in flight.
func (h *handlers) drain(ctx context.Context) error {
	h.scrapes.close()
	h.probes.close()
	if err := h.scrapes.wait(ctx); err != nil {
		return err
	}
	return h.probes.wait(ctx)
}
