package exporter

import (
	"bytes"
	"context"
	"encoding/base64"
	"io"
	"math"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// Overlapping scrapes share a collection, and one that disconnects does not end it.
func TestCache_SharedCollection(t *testing.T) {
	tenant := simulator.Generate(3, 1)
	tenant.Latency = 300 * time.Millisecond
	s := start(t, tenant, DefaultConfig(), azure.Config{})
	ctx, leave := context.WithCancel(t.Context())
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, s.web.URL+"/metrics", nil)
		if resp, err := s.web.Client().Do(req); err == nil {
			resp.Body.Close()
		}
	}()
	waitFor(t, func() bool { return s.Requests()[simulator.RouteSubscriptions] == 1 })
	var group sync.WaitGroup
	for range 5 {
		group.Go(func() {
			lines := s.scrape(t, "30")
			if value(lines, prefix+"scrapes_total") != "1" || value(lines, prefix+"up") != "1" || len(of(lines, tenant.Subscriptions[2].ID)) < 10 {
				t.Errorf("not the shared collection's result:\n%s", strings.Join(lines, "\n"))
			}
		})
	}
	leave()
	<-gone
	group.Wait()
}

// A scrape with a short deadline does not wait for a collection with a longer one.
func TestCache_ShortDeadline(t *testing.T) {
	tenant := simulator.Generate(1, 1)
	cfg := DefaultConfig()
	cfg.TimeoutOffset = 2 * time.Second // this much a busy machine may be late
	s := start(t, tenant, cfg, azure.Config{})
	s.SetFault(tenant.Subscriptions[0].ID, simulator.Hang())
	patient := make(chan struct{})
	go func() { defer close(patient); s.scrape(t, "8") }()
	waitFor(t, func() bool { return s.Requests()[simulator.RouteSecureScores] == 1 })
	began := time.Now()
	lines := s.scrape(t, "2.6")
	if took := time.Since(began); took > 2600*time.Millisecond {
		t.Errorf("took %s of 2.6s", took)
	}
	if got := value(lines, prefix+"scrapes_total"); got != "1" {
		t.Errorf("%s collections, want the one of the patient scrape", got)
	}
	<-patient
}

func TestCache_ServesStaleAndRefreshes(t *testing.T) {
	cfg := DefaultConfig()
	cfg.CacheTTL, cfg.MaxStale = time.Hour, 90*time.Minute
	s := start(t, simulator.Generate(2, 1), cfg, azure.Config{})
	first := s.scrape(t, "10")
	for range 3 {
		if again := s.scrape(t, "10"); value(again, prefix+"scrapes_total") != "1" || len(again) != len(first) {
			t.Errorf("a fresh snapshot was not served")
		}
	}
	// A stale snapshot is served once more and refreshed in the background.
	s.advance(time.Hour)
	tenant := simulator.Generate(2, 1)
	answer := make(chan struct{})
	s.SetFault(tenant.Subscriptions[0].ID, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		<-answer
		next.ServeHTTP(w, r)
	})
	old := s.exporter.cache.latest()
	if again := s.scrape(t, "10"); len(again) != len(first) || s.exporter.cache.latest() != old {
		t.Errorf("the scrape waited for the new snapshot")
	}
	close(answer)
	waitFor(t, func() bool { return s.exporter.cache.latest() != old })
	if again := s.scrape(t, "10"); value(again, prefix+"scrapes_total") != "2" {
		t.Errorf("%s collections, want 2", value(again, prefix+"scrapes_total"))
	}
	// One older than the cache allows is not served: the scrape waits.
	s.advance(4 * time.Hour)
	if again := s.scrape(t, "10"); value(again, prefix+"scrapes_total") != "3" || count(again, "current") != 2 {
		t.Errorf("%s collections, want 3, and %d of 2 scores", value(again, prefix+"scrapes_total"), count(again, "current"))
	}
}

// A collection with too little time, or without a token, is not cached. What it could read is
// not read again.
func TestCache_FailureIsNotCached(t *testing.T) {
	cfg := DefaultConfig()
	cfg.CacheTTL, cfg.MaxStale = time.Hour, time.Hour
	tenant := simulator.Generate(2, 1)
	s := start(t, tenant, cfg, azure.Config{})
	s.SetTokenFault(simulator.ExpiredSecret())
	if got := value(s.scrape(t, "10"), prefix+"up"); got != "0" {
		t.Errorf("up is %q without a token", got)
	}
	s.SetTokenFault(nil)
	slow := tenant.Subscriptions[0].ID
	s.SetFault(slow, simulator.Slow(3*time.Second))
	lines := s.scrape(t, "2")
	if value(lines, prefix+"up") != "1" || count(lines, "current") != 1 || value(lines, prefix+`subscription_scrape_failure{reason="timeout",subscription_id="`+slow+`"}`) != "1" {
		t.Errorf("want one that was slow, and one that was not:\n%s", strings.Join(lines, "\n"))
	}
	s.scrape(t, "2") // renews it behind, with more time
	waitFor(t, func() bool { return count(s.scrape(t, "2"), "current") == 2 })
	if n := s.Requests()[simulator.RouteSecureScores]; n != 3 {
		t.Errorf("%d requests for scores, want 1 of the quick one and 2 of the slow one", n)
	}
}

// With a cache, too, a transient failure is retried at the next scrape.
func TestCache_TransientFailureIsRetried(t *testing.T) {
	for name, fault := range map[string]simulator.Fault{
		"throttled":    simulator.Times(1, simulator.Throttle(-1, 372*time.Second)),
		"server error": simulator.Times(3, simulator.ServerError(500)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := DefaultConfig()
			cfg.CacheTTL = time.Hour
			tenant := simulator.Generate(2, 1)
			s := start(t, tenant, cfg, azure.Config{})
			s.SetFault(tenant.Subscriptions[0].ID, simulator.OnScores(fault))
			if n := count(s.scrape(t, "20"), "current"); n != 1 {
				t.Errorf("%d scores, want 1", n)
			}
			waitFor(t, func() bool { return count(s.scrape(t, "20"), "current") == 2 })
		})
	}
}

// Azure requires a new token while the token endpoint fails: the next scrape tries again.
func TestCache_MissingTokenIsRetried(t *testing.T) {
	t.Parallel()
	cfg := DefaultConfig()
	cfg.CacheTTL, cfg.MaxStale, cfg.DiscoveryInterval = time.Hour, time.Hour, 24*time.Hour
	s := start(t, simulator.Generate(2, 1), cfg, azure.Config{})
	s.scrape(t, "20")
	s.advance(cfg.CacheTTL + time.Minute)
	s.ChallengeTokens(base64.StdEncoding.EncodeToString([]byte(`{"access_token":{"nbf":{"essential":true}}}`)))
	s.SetTokenFault(simulator.LoginUnavailable(503))
	failing := func() int { return count(s.scrape(t, "20"), "subscription_scrape_failure") }
	waitFor(t, func() bool { return failing() == 2 })
	s.SetTokenFault(nil)
	waitFor(t, func() bool { return failing() == 0 })
}

// With a cache the list can take longer than a scrape.
func TestCache_ListSlowerThanScrape(t *testing.T) {
	cfg := DefaultConfig()
	cfg.CacheTTL = time.Hour
	s := start(t, simulator.Generate(2, 1), cfg, azure.Config{})
	s.SetListFault(simulator.Slow(2 * time.Second))
	if got := value(s.scrape(t, "1.5"), prefix+"up"); got != "0" {
		t.Errorf("up is %q", got)
	}
	waitFor(t, func() bool { return count(s.scrape(t, "1.5"), "current") == 2 })
}

// When the list fails only the list is retried.
func TestCache_ListFailure(t *testing.T) {
	cfg := DefaultConfig()
	cfg.CacheTTL, cfg.DiscoveryInterval = time.Hour, 0
	s := start(t, simulator.Generate(5, 1), cfg, azure.Config{})
	s.scrape(t, "10")
	s.SetListFault(simulator.Throttle(-1, 372*time.Second))
	s.advance(time.Hour)
	s.scrape(t, "10")
	waitFor(t, func() bool { return value(s.scrape(t, "10"), prefix+"up") == "0" })
	s.ResetRequests()
	waitFor(t, func() bool { s.scrape(t, "10"); return s.Requests()[simulator.RouteSubscriptions] > 2 })
	if r := s.Requests(); r[simulator.RouteSecureScores]+r[simulator.RouteControls] != 0 {
		t.Errorf("subscriptions were read again: %v", r)
	}
}

// A scrape during the first collection is answered, too.
func TestCache_BeforeFirstCollection(t *testing.T) {
	s := start(t, simulator.Generate(1, 1), DefaultConfig(), azure.Config{})
	s.SetListFault(simulator.Hang())
	patient := make(chan struct{})
	go func() { defer close(patient); s.scrape(t, "4") }()
	waitFor(t, func() bool { return s.Requests()[simulator.RouteSubscriptions] == 1 })
	if got := value(s.scrape(t, "0.1"), prefix+"up"); got != "0" {
		t.Errorf("up is %q, want 0", got)
	}
	<-patient
}

// Without collections, values expire: they are not served from the cache, nor to a scrape that has
// no time to wait for younger ones.
func TestCache_NeverOlderThanMaxStale(t *testing.T) {
	for name, ttl := range map[string]time.Duration{"cache": 5 * time.Minute, "impatient": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := DefaultConfig()
			cfg.CacheTTL = ttl
			tenant := simulator.Generate(2, 1)
			s := start(t, tenant, cfg, azure.Config{})
			s.scrape(t, "10")
			s.advance(59 * time.Minute)
			s.advance(10 * time.Minute)
			s.SetFault(tenant.Subscriptions[0].ID, simulator.Hang())
			patient := make(chan struct{})
			go func() { defer close(patient); s.scrape(t, "4") }()
			waitFor(t, func() bool { return s.Requests()[simulator.RouteSecureScores] == 4 })
			lines := s.scrape(t, "0.8")
			if count(lines, "current") != 0 || count(lines, "subscription_info") != 2 {
				t.Errorf("served too old:\n%s", strings.Join(lines, "\n"))
			}
			<-patient
		})
	}
	// The values of a failing subscription expire on their own.
	cfg := DefaultConfig()
	cfg.CacheTTL = 50 * time.Minute
	tenant := simulator.Generate(2, 1)
	s := start(t, tenant, cfg, azure.Config{})
	s.scrape(t, "10")
	s.advance(51 * time.Minute)
	s.SetFault(tenant.Subscriptions[0].ID, simulator.Forbidden())
	s.scrape(t, "10")
	failing := prefix + `subscription_scrape_failure{reason="forbidden",subscription_id="` + tenant.Subscriptions[0].ID + `"}`
	waitFor(t, func() bool { return value(s.scrape(t, "10"), failing) == "1" })
	if n := count(s.scrape(t, "10"), "current"); n != 2 {
		t.Errorf("%d scores, want 2", n)
	}
	s.advance(10 * time.Minute)
	lines := s.scrape(t, "10")
	if count(lines, "current") != 1 || value(lines, prefix+"scrapes_total") != "2" {
		t.Errorf("want one score from the cache:\n%s", strings.Join(lines, "\n"))
	}
}

// What was just read is served, however short --cache.max-stale is.
func TestCache_ShortMaxStale(t *testing.T) {
	tenant := simulator.Generate(3, 1)
	tenant.Subscriptions[2].NoScore = true
	cfg := DefaultConfig()
	cfg.MaxStale = 0
	for name, source := range map[string]func(*azure.Client) Source{
		"arm":           func(c *azure.Client) Source { return c },
		"resourcegraph": func(c *azure.Client) Source { return azure.NewResourceGraph(c) }, // keeps what ARM said
	} {
		s := startFrom(t, tenant, cfg, azure.Config{}, source)
		for range 3 {
			if lines := s.scrape(t, "10"); count(lines, "current") != 2 || count(lines, "subscription_scored") != 3 {
				t.Errorf("%s: %d of 2 scores, %d of 3 outcomes", name, count(lines, "current"), count(lines, "subscription_scored"))
			}
			s.advance(100 * time.Millisecond)
		}
	}
	cfg.MaxStale = 100 * time.Millisecond
	s := start(t, tenant, cfg, azure.Config{})
	s.SetFault(tenant.Subscriptions[0].ID, simulator.Hang())
	if lines := s.scrape(t, "1.5"); count(lines, "current") != 1 {
		t.Errorf("a collection longer than values may be old: %d of 1 scores", count(lines, "current"))
	}
}

// A scrape that joins the collection of an impatient one gets the rest, too.
func TestCache_PatientScrapeGetsAll(t *testing.T) {
	tenant := simulator.Generate(40, 1)
	tenant.Latency = 100 * time.Millisecond
	s := start(t, tenant, DefaultConfig(), azure.Config{Concurrency: 4})
	impatient := make(chan []string)
	go func() { impatient <- s.scrape(t, "1.5") }()
	waitFor(t, func() bool { return s.Requests()[simulator.RouteSecureScores] > 0 })
	if n := count(s.scrape(t, "60"), "current"); n != 40 {
		t.Errorf("the patient scrape has %d of 40 subscriptions", n)
	}
	if n := count(<-impatient, "current"); n == 0 || n == 40 {
		t.Errorf("the impatient scrape has %d of 40 subscriptions, want some", n)
	}
	if n := s.Requests()[simulator.RouteSecureScores]; n > 40+4 { // those in flight when the first deadline came
		t.Errorf("%d requests for 40 subscriptions: the first collection was wasted", n)
	}
}

// A scrape that joins the collection of an impatient one waits for the token as long as it can.
func TestCache_PatientScrapeGetsToken(t *testing.T) {
	t.Parallel()
	s := start(t, simulator.Generate(2, 1), DefaultConfig(), azure.Config{})
	s.SetTokenFault(simulator.Slow(2 * time.Second))
	impatient := make(chan string)
	go func() { impatient <- value(s.scrape(t, "0.5"), prefix+"up") }()
	waitFor(t, func() bool { return s.Requests()[simulator.RouteToken] == 1 })
	if lines := s.scrape(t, "30"); value(lines, prefix+"up") != "1" || count(lines, "current") != 2 {
		t.Errorf("up %s, %d scores", value(lines, prefix+"up"), count(lines, "current"))
	}
	if up := <-impatient; up != "0" {
		t.Errorf("the impatient one: up %s", up)
	}
}

// A panic ends its collection only: the last snapshot stays, and the next scrape collects again.
func TestCache_CollectionPanics(t *testing.T) {
	tenant := simulator.Generate(2, 1)
	source := &panickingSource{}
	s := startFrom(t, tenant, DefaultConfig(), azure.Config{}, func(c *azure.Client) Source { source.Source = c; return source })
	s.scrape(t, "10")
	source.panics.Store(true)
	lines := s.scrape(t, "10")
	if value(lines, prefix+"collection_panics_total") != "1" || count(lines, "current") != 2 {
		t.Errorf("after a panic:\n%s", strings.Join(lines, "\n"))
	}
	if !strings.Contains(s.log.String(), `msg="collection panicked" err="bad answer" stack=`) || !strings.Contains(s.log.String(), "cache_test.go") {
		t.Errorf("the panic is not logged with its stack:\n%s", s.log)
	}
	if _, _, body := s.get(t, "/probe?target="+tenant.Subscriptions[0].ID); !strings.Contains(body, "probe_success 0") {
		t.Errorf("a probe that panics: %s", body)
	}
	source.panics.Store(false)
	lines = s.scrape(t, "10")
	if value(lines, prefix+"scrapes_total") != "3" || value(lines, prefix+"collection_panics_total") != "2" {
		t.Errorf("no collection after the panic:\n%s", strings.Join(lines, "\n"))
	}
}

type panickingSource struct {
	Source
	panics atomic.Bool
}

func (p *panickingSource) SecureScores(ctx context.Context, ids []string) []azure.Result {
	if p.panics.Load() {
		panic("bad answer")
	}
	return p.Source.SecureScores(ctx, ids)
}

// The time that the last snapshot took to render is reserved, so that the response is complete when
// Prometheus gives up.
func TestCache_ReservesRenderTime(t *testing.T) {
	for rendering, want := range map[time.Duration]time.Duration{0: 0, time.Second: 2 * time.Second, time.Minute: 5 * time.Second} {
		if got := renderReserve(10*time.Second, rendering); got != want {
			t.Errorf("rendering takes %s: %s of 10s reserved, want %s", rendering, got, want)
		}
	}
	s := start(t, simulator.Generate(1, 1), DefaultConfig(), azure.Config{})
	s.get(t, "/metrics", "Accept-Encoding", "gzip")
	if s.exporter.cache.latest().renderTime() == 0 {
		t.Error("the rendering is not measured")
	}
}

// With a short TTL and --cache.max-stale, values of healthy subscriptions do not vanish between
// collections while another subscription is failing.
func TestCache_HealthyValuesStay(t *testing.T) {
	tenant := simulator.Generate(3, 1)
	cfg := DefaultConfig()
	cfg.CacheTTL, cfg.MaxStale = 5*time.Second, 5*time.Second
	s := start(t, tenant, cfg, azure.Config{})
	s.scrape(t, "10")
	s.SetFault(tenant.Subscriptions[0].ID, simulator.Throttle(-1, 372*time.Second))
	for range 12 {
		s.advance(2 * time.Second)
		lines := s.scrape(t, "10")
		for _, sub := range tenant.Subscriptions[1:] {
			if got := value(lines, prefix+`subscription_scored{subscription_id="`+sub.ID+`"}`); got != "1" {
				t.Fatalf("the values of a healthy subscription vanished:\n%s", strings.Join(of(lines, sub.ID), "\n"))
			}
		}
	}
}

// With many subscriptions and Azure hanging, the complete compressed answer arrives before
// Prometheus gives up, with the last good values.
func TestCache_CompleteBeforePrometheusGivesUp(t *testing.T) {
	tenant := simulator.Generate(1500, 16)
	tenant.SubscriptionPageSize = 1000
	s := startFrom(t, tenant, DefaultConfig(), azure.Config{}, func(c *azure.Client) Source { return azure.NewResourceGraph(c) })
	s.get(t, "/metrics", "Accept-Encoding", "gzip")
	s.SetGraphFault(simulator.Hang())
	s.advance(time.Minute)

	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second) // as Prometheus does
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.web.URL+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", "8")
	req.Header.Set("Accept-Encoding", "gzip")
	resp, err := s.web.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("the answer is not complete in time: %v", err)
	}
	lines := strings.Split(decompress(t, resp.Header.Get("Content-Encoding"), bytes.NewReader(body)), "\n")
	if current, failing := count(lines, "current"), count(lines, "subscription_scrape_failure"); current != 1500 || failing != 1500 {
		t.Errorf("%d scores and %d failures of 1,500 subscriptions", current, failing)
	}
}

// Durations whose sum is longer than a duration can be do not make values expire.
func TestCache_LongDurations(t *testing.T) {
	t.Parallel()
	cfg := DefaultConfig()
	cfg.ScrapeTimeout, cfg.CacheTTL, cfg.MaxStale = math.MaxInt64/2, math.MaxInt64/2, math.MaxInt64/2
	s := start(t, simulator.Generate(2, 1), cfg, azure.Config{})
	if n := count(s.scrape(t, "10"), "current"); n != 2 {
		t.Errorf("%d subscriptions with values, want 2", n)
	}
}
