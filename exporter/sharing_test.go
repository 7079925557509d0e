package exporter

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// A client that leaves while it asks for the list does not end it for the others.
func TestLeavingDoesNotEndTheList(t *testing.T) {
	s := start(t, simulator.Generate(2, 1), defaults(), azure.Config{})
	s.SetListFault(simulator.Slow(500 * time.Millisecond))
	ctx, leave := context.WithCancel(t.Context())
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, s.server.URL+"/sd", nil)
		if resp, err := s.server.Client().Do(req); err == nil {
			resp.Body.Close()
		}
	}()
	waitFor(t, func() bool { return s.Requests()[simulator.RouteSubscriptions] == 1 })
	lines := make(chan []string)
	go func() { lines <- s.scrape(t, "20") }()
	waitFor(t, func() bool {
		s.exporter.mu.Lock()
		defer s.exporter.mu.Unlock()
		return s.exporter.collection != nil
	})
	leave()
	<-gone
	if got := value(<-lines, prefix+"up"); got != "1" {
		t.Errorf("up is %q, want 1:\n%s", got, s.log)
	}
}

// What was collected with too little time, or without a token, does not serve for
// the time of the cache. What could be read is not read again for that.
func TestFailureIsNotCached(t *testing.T) {
	cfg := defaults()
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

// With a cache, too, what may pass by itself is asked for at the next scrape.
func TestPassingFailureWithCache(t *testing.T) {
	for name, fault := range map[string]simulator.Fault{
		"throttled":    simulator.Times(1, simulator.Throttle(-1, 372*time.Second)),
		"server error": simulator.Times(3, simulator.ServerError(500)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := defaults()
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

// With a cache a list may take longer than a scrape has.
func TestSlowListWithCache(t *testing.T) {
	cfg := defaults()
	cfg.CacheTTL = time.Hour
	s := start(t, simulator.Generate(2, 1), cfg, azure.Config{})
	s.SetListFault(simulator.Slow(2 * time.Second))
	if got := value(s.scrape(t, "1.5"), prefix+"up"); got != "0" {
		t.Errorf("up is %q", got)
	}
	waitFor(t, func() bool { return count(s.scrape(t, "1.5"), "current") == 2 })
}

// Whoever comes upon an attempt that has just ended has its outcome, also when it
// failed.
func TestSharedListFailure(t *testing.T) {
	t.Parallel()
	s := start(t, simulator.Generate(1, 1), defaults(), azure.Config{})
	s.SetListFault(simulator.Forbidden())
	asked := time.Now()
	for range 2 {
		if err := s.exporter.discovery.renew(t.Context(), asked); azure.ReasonOf(err) != azure.ReasonForbidden {
			t.Errorf("the list is %v", err)
		}
	}
	if n := s.Requests()[simulator.RouteSubscriptions]; n != 1 {
		t.Errorf("%d attempts", n)
	}
}

// A list that cannot be had is asked for again, and nothing else is.
func TestListFailureWithCache(t *testing.T) {
	cfg := defaults()
	cfg.CacheTTL, cfg.DiscoveryInterval = time.Hour, 0
	s := start(t, simulator.Generate(5, 1), cfg, azure.Config{})
	s.scrape(t, "10")
	s.SetListFault(simulator.Throttle(-1, 372*time.Second))
	s.age(time.Hour)
	s.scrape(t, "10")
	waitFor(t, func() bool { return value(s.scrape(t, "10"), prefix+"up") == "0" })
	s.ResetRequests()
	waitFor(t, func() bool { s.scrape(t, "10"); return s.Requests()[simulator.RouteSubscriptions] > 2 })
	if r := s.Requests(); r[simulator.RouteSecureScores]+r[simulator.RouteControls] != 0 {
		t.Errorf("subscriptions were read again: %v", r)
	}
}

// Before the first collection is over there is an answer, too.
func TestUpFromTheStart(t *testing.T) {
	s := start(t, simulator.Generate(1, 1), defaults(), azure.Config{})
	s.SetListFault(simulator.Hang())
	patient := make(chan struct{})
	go func() { defer close(patient); s.scrape(t, "4") }()
	waitFor(t, func() bool { return s.Requests()[simulator.RouteSubscriptions] == 1 })
	if got := value(s.scrape(t, "0.1"), prefix+"up"); got != "0" {
		t.Errorf("up is %q, want 0", got)
	}
	<-patient
}

// Those that the quota left no query for come first the next time.
func TestTurnsWithinQuota(t *testing.T) {
	tenant := simulator.Generate(4500, 1)
	tenant.Now = time.Now
	tenant.ResourceGraph.Queries, tenant.ResourceGraph.Window = 6, time.Second
	tenant.ResourceGraph.NoPacking = true // two pages a batch of 1,000, one of the last 500
	s := startFrom(t, tenant, defaults(), azure.Config{}, func(c *azure.Client) Source { return azure.NewResourceGraph(c) })
	for range 12 {
		lines := s.scrape(t, "1.4")
		if strings.Count(strings.Join(lines, "\n"), prefix+"subscription_scored{") == 4500 {
			return
		}
		time.Sleep(1100 * time.Millisecond) // the next window
	}
	t.Error("some subscriptions never had their turn")
}

// A recovery of the credential is not told once for each subscription.
func TestRecoveryOfTheCredential(t *testing.T) {
	tenant := simulator.Generate(20, 1)
	var all []string
	for _, sub := range tenant.Subscriptions {
		all = append(all, sub.ID)
	}
	s := start(t, tenant, defaults(), azure.Config{SubscriptionIDs: all})
	s.SetTokenFault(simulator.ExpiredSecret())
	s.scrape(t, "10")
	s.SetTokenFault(nil)
	s.scrape(t, "10")
	if strings.Contains(s.log.String(), "can be read again") {
		t.Errorf("told for each subscription:\n%s", s.log)
	}
}

// However a client names the format, a snapshot is held in six forms at most.
func TestFormsAreFew(t *testing.T) {
	cfg := defaults()
	cfg.CacheTTL = time.Hour
	s := start(t, simulator.Generate(2, 1), cfg, azure.Config{})
	for _, format := range []string{"text/plain;version=0.0.4", "text/plain;version=1.0.0", "application/openmetrics-text;version=0.0.1", "application/openmetrics-text;version=1.0.0"} {
		for _, escaping := range []string{"", ";escaping=allow-utf-8", ";escaping=dots"} {
			for _, encoding := range []string{"identity", "gzip", "zstd"} {
				s.get(t, "/metrics", "Accept", format+escaping, "Accept-Encoding", encoding)
			}
		}
	}
	if n := len(s.exporter.snapshot.Load().parts.byKey); n != 6 {
		t.Errorf("%d forms are held, want 6", n)
	}
}

// Values are never served when they are older than they may be: not from the cache, and
// not to a scrape that has no time to wait for younger ones.
func TestNeverOlderThanMaxStale(t *testing.T) {
	for name, ttl := range map[string]time.Duration{"cache": 5 * time.Minute, "impatient": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := defaults()
			cfg.CacheTTL = ttl
			tenant := simulator.Generate(2, 1)
			s := start(t, tenant, cfg, azure.Config{})
			s.scrape(t, "10")
			s.age(59 * time.Minute)
			if n := count(s.exporter.currentLines(t), "current"); n != 2 {
				t.Errorf("%d scores are 59 minutes old, want 2", n)
			}
			s.age(2 * time.Minute)
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
	// One that fails has values that are older than the others', for which the cache
	// is young enough.
	cfg := defaults()
	cfg.CacheTTL = 50 * time.Minute
	tenant := simulator.Generate(2, 1)
	s := start(t, tenant, cfg, azure.Config{})
	s.scrape(t, "10")
	s.age(51 * time.Minute)
	s.SetFault(tenant.Subscriptions[0].ID, simulator.Forbidden())
	s.scrape(t, "10")
	waitFor(t, func() bool { return value(s.scrape(t, "10"), prefix+"scrapes_total") == "2" })
	if n := count(s.scrape(t, "10"), "current"); n != 2 {
		t.Errorf("%d scores, want 2", n)
	}
	s.age(10 * time.Minute)
	lines := s.scrape(t, "10")
	if count(lines, "current") != 1 || value(lines, prefix+"scrapes_total") != "2" {
		t.Errorf("want one score from the cache:\n%s", strings.Join(lines, "\n"))
	}
}

// currentLines returns what would be served at once.
func (e *Exporter) currentLines(t *testing.T) []string {
	t.Helper()
	var b bytes.Buffer
	if err := e.current().write(&b, false); err != nil {
		t.Fatal(err)
	}
	return strings.Split(b.String(), "\n")
}

// What was read just now is served, however little may be old.
func TestShortMaxStale(t *testing.T) {
	tenant := simulator.Generate(3, 1)
	tenant.Subscriptions[2].NoScore = true
	cfg := defaults()
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
			time.Sleep(100 * time.Millisecond)
		}
	}
	cfg.MaxStale = 100 * time.Millisecond
	s := start(t, tenant, cfg, azure.Config{})
	s.SetFault(tenant.Subscriptions[0].ID, simulator.Hang())
	if lines := s.scrape(t, "1.5"); count(lines, "current") != 1 {
		t.Errorf("a collection longer than values may be old: %d of 1 scores", count(lines, "current"))
	}
}

// A renewal that goes on behind the scrapes ends with the exporter.
func TestCloseEndsRenewal(t *testing.T) {
	cfg := defaults()
	cfg.CacheTTL = time.Minute
	tenant := simulator.Generate(2, 1)
	s := start(t, tenant, cfg, azure.Config{})
	s.scrape(t, "10")
	s.age(2 * time.Minute)
	s.SetFault(tenant.Subscriptions[0].ID, simulator.Hang())
	if lines := s.scrape(t, "10"); count(lines, "current") != 2 {
		t.Errorf("%d scores from the cache, want 2", count(lines, "current"))
	}
	waitFor(t, func() bool { return s.Requests()[simulator.RouteSecureScores] == 4 })
	began, renewed := time.Now(), s.exporter.snapshot.Load()
	s.exporter.Close()
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("Close took %s", took)
	}
	if s.exporter.snapshot.Load() == renewed || s.exporter.collection != nil {
		t.Error("Close did not wait for the renewal")
	}
	if strings.Contains(s.log.String(), "reason=canceled") {
		t.Errorf("stopping is told as a failure:\n%s", s.log)
	}
}

// That Azure says something twice is told once.
func TestDuplicatesAreToldOnce(t *testing.T) {
	tenant := simulator.Generate(1, 2)
	s := start(t, tenant, defaults(), azure.Config{})
	s.SetFault(tenant.Subscriptions[0].ID, simulator.Duplicate())
	for range 3 {
		s.scrape(t, "10")
		s.get(t, "/probe?target="+tenant.Subscriptions[0].ID)
	}
	if got := strings.Count(s.log.String(), "more than once"); got != 1 {
		t.Errorf("told %d times:\n%s", got, s.log)
	}
}
