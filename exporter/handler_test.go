package exporter

import (
	"cmp"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

func TestHandler_ScrapeDeadline(t *testing.T) {
	h := start(t, simulator.Generate(1, 1), DefaultConfig(), azure.Config{}).exporter.handlers
	for header, want := range map[string]time.Duration{
		"": 60 * time.Second, "10": 9500 * time.Millisecond, "9.5": 9 * time.Second, "60": 59500 * time.Millisecond, "120": 60 * time.Second,
		"0.5": 250 * time.Millisecond, "0.4": 200 * time.Millisecond, "0.8": 400 * time.Millisecond, "0": 60 * time.Second, "-1": 60 * time.Second,
		"NaN": 60 * time.Second, "+Inf": 60 * time.Second, "1e300": 60 * time.Second, "ten": 60 * time.Second,
	} {
		r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		r.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", header)
		if got := h.timeout(r); got != want {
			t.Errorf("header %q: %s, want %s", header, got, want)
		}
	}
	cfg := DefaultConfig()
	cfg.ScrapeTimeout = math.MaxInt64
	h = start(t, simulator.Generate(1, 1), cfg, azure.Config{}).exporter.handlers
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	r.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", "10")
	if got := h.timeout(r); got != 9500*time.Millisecond {
		t.Errorf("the longest --scrape.timeout: %s", got)
	}
}

func TestHandler_Endpoints(t *testing.T) {
	cfg := DefaultConfig()
	cfg.MaxRequests = 1
	tenant := simulator.Generate(1, 1)
	s := start(t, tenant, cfg, azure.Config{})
	get := func(path, encoding string) (int, http.Header, string) {
		if encoding == "openmetrics" {
			return s.get(t, path, "Accept", openMetrics)
		}
		return s.get(t, path, "Accept-Encoding", cmp.Or(encoding, "identity"))
	}
	for path, want := range map[string]string{"/-/healthy": "healthy\n", "/-/ready": "ready\n", "/": `"metrics"`} {
		if status, _, body := get(path, ""); status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %q", path, status, body)
		}
	}
	if status, _, _ := get("/nothing", ""); status != http.StatusNotFound {
		t.Errorf("/nothing: %d", status)
	}
	if total := len(s.Requests()); total != 0 {
		t.Errorf("Azure was called before a scrape: %v", s.Requests())
	}
	for _, encoding := range []string{"gzip", "zstd"} {
		if _, header, _ := get("/metrics", encoding); header.Get("Content-Encoding") != encoding {
			t.Errorf("asked for %s, got %q", encoding, header.Get("Content-Encoding"))
		}
	}
	if _, header, body := get("/metrics", "openmetrics"); !strings.HasPrefix(header.Get("Content-Type"), "application/openmetrics-text") || !strings.HasSuffix(body, "# EOF\n") {
		t.Errorf("no OpenMetrics: %q", header.Get("Content-Type"))
	}

	// One scrape is allowed in flight; the next is refused, and so is any while draining.
	s.SetFault(tenant.Subscriptions[0].ID, simulator.Hang())
	s.ResetRequests()
	scrape := make(chan struct{})
	go func() { defer close(scrape); s.scrape(t, "3") }()
	waitFor(t, func() bool { return s.Requests()[simulator.RouteSecureScores] == 1 })
	if status, _, _ := get("/metrics", ""); status != http.StatusServiceUnavailable {
		t.Errorf("a second scrape: %d", status)
	}
	drained := make(chan error, 1)
	go func() { drained <- s.exporter.Shutdown(t.Context()) }()
	waitFor(t, func() bool { status, _, _ := get("/-/ready", ""); return status == http.StatusServiceUnavailable })
	if status, _, _ := get("/sd", ""); status != http.StatusServiceUnavailable {
		t.Errorf("/sd while draining: %d", status)
	}
	if status, _, _ := get("/-/healthy", ""); status != http.StatusOK {
		t.Errorf("/-/healthy while draining: %d", status)
	}
	<-scrape
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

// Clients that do not read their answers hold connections, but no slot.
func TestHandler_SlowReadersHoldNoSlot(t *testing.T) {
	cfg := DefaultConfig()
	cfg.MaxRequests, cfg.CacheTTL = 2, time.Hour
	s := start(t, simulator.Generate(500, 16), cfg, azure.Config{})
	s.scrape(t, "30")
	for range 2 * cfg.MaxRequests {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.web.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprint(conn, "GET /metrics HTTP/1.1\r\nHost: exporter\r\n\r\n")
		// The first byte of 12 MB: the answer is being written.
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if n := count(s.scrape(t, "10"), "current"); n != 500 {
		t.Errorf("%d subscriptions beside slow readers, want 500", n)
	}
}

// Pages that cost memory are rendered a few at a time, and all of them are served.
func TestHandler_ManyStatusPages(t *testing.T) {
	s := start(t, simulator.Generate(20, 2), DefaultConfig(), azure.Config{})
	s.scrape(t, "10")
	if err := s.exporter.handlers.pages.Acquire(t.Context(), maxStatusPages); err != nil {
		t.Fatal(err)
	}
	served := make(chan int)
	go func() { status, _, _ := s.get(t, "/status"); served <- status }()
	select {
	case status := <-served:
		t.Errorf("a page more than %d is not held back: %d", maxStatusPages, status)
	case <-time.After(100 * time.Millisecond):
	}
	if status, _, _ := s.get(t, "/-/healthy"); status != http.StatusOK {
		t.Errorf("/-/healthy: %d", status)
	}
	s.exporter.handlers.pages.Release(maxStatusPages)
	if status := <-served; status != http.StatusOK {
		t.Errorf("status %d", status)
	}
}
