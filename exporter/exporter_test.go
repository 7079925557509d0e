package exporter

import (
	"bytes"
	"context"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
	"github.com/go-kit/log"
	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) {
	_ = flag.Set("test.parallel", "8") // most tests wait for Azure and not for a processor
	goleak.VerifyTestMain(m,
		// The Go collector's package starts this one once for the process.
		goleak.IgnoreCurrent())
}

// system is an exporter between a simulated Azure and a client that scrapes.
type system struct {
	*simulator.Server
	exporter *Exporter
	web      *httptest.Server
	log      *lockedBuffer
	later    *atomic.Int64 // how far the exporter's clock is ahead, in nanoseconds
}

// advance sets the exporter's clock forward.
func (s *system) advance(d time.Duration) { s.later.Add(int64(d)) }

type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

// epoch is the simulator's clock in tests, so that its quotas are always the same.
var epoch = time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)

func start(t testing.TB, tenant simulator.Tenant, cfg Config, azureCfg azure.Config) *system {
	t.Helper()
	return startFrom(t, tenant, cfg, azureCfg, func(c *azure.Client) Source { return c })
}

func startFrom(t testing.TB, tenant simulator.Tenant, cfg Config, azureCfg azure.Config, source func(*azure.Client) Source) *system {
	t.Helper()
	tenant.Now = cmpFunc(tenant.Now, func() time.Time { return epoch })
	sim, err := simulator.Start(tenant)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	s := &system{Server: sim, log: &lockedBuffer{}, later: &atomic.Int64{}}
	cfg.Logger = log.NewLogfmtLogger(s.log)
	cfg.now = func() time.Time { return time.Now().Add(time.Duration(s.later.Load())) }
	api := NewAPIMetrics()
	azureCfg.Cloud, azureCfg.RootCAs, azureCfg.Credential = sim.Cloud(), sim.RootCAs(), sim.Credential
	azureCfg.Observe, azureCfg.Logger = api.Observe, cfg.Logger
	client, err := azure.New(azureCfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	var reader *azure.RecommendationReader
	if tenant.ResourceGraph.Window != 0 { // short enough not to wait for
		reader = azure.NewRecommendationReader(azure.NewResourceGraph(client))
	}
	if s.exporter, err = New(source(client), reader, api, cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.exporter.background.close)
	s.web = httptest.NewServer(s.exporter.Handler())
	t.Cleanup(s.web.Close)
	return s
}

func cmpFunc(f, otherwise func() time.Time) func() time.Time {
	if f == nil {
		return otherwise
	}
	return f
}

// scrape gets /metrics as Prometheus does, with its timeout in seconds, and returns the lines of
// this project's metrics.
func (s *system) scrape(t testing.TB, timeout string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.web.URL+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	if timeout != "" {
		req.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", timeout)
	}
	resp, err := s.web.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("scrape: status %d, error %v, body %.200s", resp.StatusCode, err, body)
	}
	var lines []string
	for line := range strings.Lines(string(body)) {
		if strings.Contains(line, "azure_secure_score_") {
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
	return lines
}

// get asks for a path and returns status, headers and body.
func (s *system) get(t testing.TB, path string, header ...string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.web.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := s.web.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(body)
}

var volatile = []struct{ pattern, replacement string }{
	{`^(azure_secure_score_subscription_last_success_timestamp_seconds\{.*\}) \d.*`, "$1 TIMESTAMP"},
	{`^(azure_secure_score_scrape_duration_seconds) .*`, "$1 SECONDS"},
	// How long calls take is not for a golden file, and neither is how many of the
	// other call's attempts were made when one call of a subscription fails.
	{`.*azure_secure_score_(api_request|exporter_build_info).*`, ""},
}

// golden compares the lines with a file, without what changes from run to run.
func golden(t *testing.T, name string, lines []string) {
	t.Helper()
	var stable []string
	for _, line := range lines {
		for _, v := range volatile {
			line = regexp.MustCompile(v.pattern).ReplaceAllString(line, v.replacement)
		}
		if line != "" {
			stable = append(stable, line)
		}
	}
	got := strings.Join(stable, "\n") + "\n"
	file := filepath.Join("testdata", strings.NewReplacer(" ", "_", ",", "").Replace(name)+".prom")
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs:\n%s", file, difference(string(want), got))
	}
}

func difference(want, got string) string {
	var b strings.Builder
	for line := range strings.Lines(want) {
		if !strings.Contains(got, line) {
			b.WriteString("- " + line)
		}
	}
	for line := range strings.Lines(got) {
		if !strings.Contains(want, line) {
			b.WriteString("+ " + line)
		}
	}
	return b.String()
}

// of returns the lines with a subscription's ID.
func of(lines []string, id string) []string {
	return containing(lines, `subscription_id="`+id+`"`)
}

func containing(lines []string, text string) []string {
	var found []string
	for _, line := range lines {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

// value returns the value of a series, written as in the exposition format.
func value(lines []string, series string) string {
	for _, line := range lines {
		if v, ok := strings.CutPrefix(line, series+" "); ok {
			return v
		}
	}
	return ""
}

// count returns how many series a metric has.
func count(lines []string, metric string) int {
	n := 0
	for _, line := range lines {
		if strings.HasPrefix(line, prefix+metric+"{") {
			n++
		}
	}
	return n
}

const prefix = "azure_secure_score_"

func waitFor(t *testing.T, condition func() bool) {
	t.Helper()
	for began := time.Now(); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > 15*time.Second {
			t.Fatal("the condition was not met in time")
		}
	}
}

// Scrapes that would outlast the shutdown are answered with what is known.
func TestShutdown_CutsCollectionShort(t *testing.T) {
	tenant := simulator.Generate(2, 1)
	s := start(t, tenant, DefaultConfig(), azure.Config{})
	s.SetFault(tenant.Subscriptions[0].ID, simulator.Hang())
	scrape := make(chan []string)
	go func() { scrape <- s.scrape(t, "30") }()
	waitFor(t, func() bool { return s.Requests()[simulator.RouteSecureScores] == 2 })
	ctx, cancel := context.WithTimeout(t.Context(), shutdownReserve+100*time.Millisecond)
	defer cancel()
	if err := s.exporter.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	lines := <-scrape
	if got := value(lines, prefix+`subscription_scrape_failure{reason="canceled",subscription_id="`+tenant.Subscriptions[0].ID+`"}`); got != "1" {
		t.Errorf("no reason canceled:\n%s", strings.Join(lines, "\n"))
	}
}

// A refresh in the background ends with the exporter.
func TestShutdown_EndsRefresh(t *testing.T) {
	cfg := DefaultConfig()
	cfg.CacheTTL = time.Minute
	tenant := simulator.Generate(2, 1)
	s := start(t, tenant, cfg, azure.Config{})
	s.scrape(t, "10")
	s.advance(2 * time.Minute)
	s.SetFault(tenant.Subscriptions[0].ID, simulator.Hang())
	if lines := s.scrape(t, "10"); count(lines, "current") != 2 {
		t.Errorf("%d scores from the cache, want 2", count(lines, "current"))
	}
	waitFor(t, func() bool { return s.Requests()[simulator.RouteSecureScores] == 4 })
	before := s.exporter.cache.latest()
	if err := s.exporter.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if s.exporter.cache.latest() == before {
		t.Error("Shutdown did not wait for the refresh")
	}
	if strings.Contains(s.log.String(), "reason=canceled") {
		t.Errorf("the shutdown is logged as a failure:\n%s", s.log)
	}
}
