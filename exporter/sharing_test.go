package exporter

import (
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
// the time of the cache.
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
	s.SetFault(tenant.Subscriptions[0].ID, simulator.Slow(300*time.Millisecond))
	// This one does not wait for the collection, which goes on all the same.
	if got := value(s.scrape(t, "0.02"), prefix+"up"); got != "0" {
		t.Errorf("up is %q before the collection", got)
	}
	lines := s.scrape(t, "10")
	if value(lines, prefix+"up") != "1" || strings.Count(strings.Join(lines, "\n"), prefix+"subscription_scored{") != 2 {
		t.Errorf("incomplete:\n%s", strings.Join(lines, "\n"))
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

// Values are never served when they are older than they may be, though the cache
// would have them.
func TestCacheKeepsToMaxStale(t *testing.T) {
	cfg := defaults()
	cfg.CacheTTL, cfg.MaxStale = time.Hour, time.Hour
	tenant := simulator.Generate(1, 1)
	s := start(t, tenant, cfg, azure.Config{})
	s.scrape(t, "10")
	id := tenant.Subscriptions[0].ID
	s.SetFault(id, simulator.Forbidden())
	for _, sub := range s.exporter.snapshot.Load().subscriptions {
		sub.good.ReadAt = time.Now().Add(-time.Hour + 300*time.Millisecond)
	}
	s.age(time.Hour - 300*time.Millisecond)
	s.exporter.snapshot.Load().at = time.Now().Add(-30 * time.Minute) // young enough for the cache
	time.Sleep(400 * time.Millisecond)
	if lines := s.scrape(t, "10"); len(of(lines, id)) > 4 {
		t.Errorf("served too old:\n%s", strings.Join(of(lines, id), "\n"))
	}
}
