package exporter

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// The list fails and changes; the subscriptions known before are read all the same.
func TestSubscriptionList_Changes(t *testing.T) {
	tenant := simulator.Generate(3, 1)
	cfg := DefaultConfig()
	cfg.DiscoveryInterval = 0
	s := start(t, tenant, cfg, azure.Config{})
	first := tenant.Subscriptions[0]

	s.SetListFault(simulator.Forbidden())
	golden(t, "listing forbidden from the start", s.scrape(t, "10"))
	s.SetListFault(nil)
	s.scrape(t, "10")
	s.SetListFault(simulator.ServerError(500))
	golden(t, "listing fails after it worked", s.scrape(t, "10"))
	s.SetListFault(simulator.Hang())
	lines := s.scrape(t, "3")
	if value(lines, prefix+"up") != "0" || value(lines, prefix+`subscription_scrape_success{subscription_id="`+first.ID+`"}`) != "1" {
		t.Errorf("a list that hangs keeps the scores from being read:\n%s", strings.Join(lines, "\n"))
	}
	s.SetListFault(nil)

	s.RemoveSubscription(first.ID)
	appeared := simulator.Generate(9, 1).Subscriptions[8]
	s.SetSubscription(appeared)
	unscored := tenant.Subscriptions[1]
	unscored.NoScore = true
	s.SetSubscription(unscored)
	disabled := tenant.Subscriptions[2]
	disabled.State = "Disabled"
	s.SetSubscription(disabled)
	lines = s.scrape(t, "10")
	golden(t, "one gone, one new, one unscored, one disabled", lines)
	if len(of(lines, first.ID)) != 0 {
		t.Errorf("the subscription that is gone is still served")
	}
}

// Configured subscriptions have pages and probes from the first scrape on, in any order, although
// there is no list yet.
func TestSubscriptionList_ConfiguredInAnyOrder(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(3, 1)
	var ids []string
	for _, sub := range slices.Backward(tenant.Subscriptions) {
		ids = append(ids, sub.ID)
	}
	cfg := DefaultConfig()
	cfg.CacheTTL = time.Minute
	s := start(t, tenant, cfg, azure.Config{SubscriptionIDs: ids})
	s.SetListFault(simulator.ServerError(http.StatusInternalServerError))
	s.scrape(t, "10")
	for _, id := range ids {
		if status, _, _ := s.get(t, "/status?subscription="+id); status != http.StatusOK {
			t.Errorf("/status of %s: %d", id, status)
		}
		if status, _, body := s.get(t, "/probe?target="+id); status != http.StatusOK || !strings.Contains(body, "\nprobe_success 1\n") {
			t.Errorf("/probe of %s: %d %s", id, status, body)
		}
	}
	if n := s.Requests()[simulator.RouteSecureScores]; n != len(ids) {
		t.Errorf("%d reads of %d subscriptions: the probes are not served from the cache", n, len(ids))
	}
}

// The list is kept for the interval.
func TestSubscriptionList_Interval(t *testing.T) {
	s := start(t, simulator.Generate(2, 1), DefaultConfig(), azure.Config{})
	s.scrape(t, "10")
	s.scrape(t, "10")
	if n := s.Requests()[simulator.RouteSubscriptions]; n != 1 {
		t.Errorf("%d lists of subscriptions for two scrapes, want 1", n)
	}
	s.advance(11 * time.Minute)
	s.scrape(t, "10")
	if n := s.Requests()[simulator.RouteSubscriptions]; n != 2 {
		t.Errorf("%d lists of subscriptions after the interval, want 2", n)
	}
}

// A client that disconnects while it refreshes the list does not end it for the others.
func TestSubscriptionList_DisconnectedCaller(t *testing.T) {
	s := start(t, simulator.Generate(2, 1), DefaultConfig(), azure.Config{})
	s.SetListFault(simulator.Slow(500 * time.Millisecond))
	ctx, leave := context.WithCancel(t.Context())
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, s.web.URL+"/sd", nil)
		if resp, err := s.web.Client().Do(req); err == nil {
			resp.Body.Close()
		}
	}()
	waitFor(t, func() bool { return s.Requests()[simulator.RouteSubscriptions] == 1 })
	lines := make(chan []string)
	go func() { lines <- s.scrape(t, "20") }()
	waitFor(t, func() bool {
		s.exporter.cache.mu.Lock()
		defer s.exporter.cache.mu.Unlock()
		return s.exporter.cache.running != nil
	})
	leave()
	<-gone
	if got := value(<-lines, prefix+"up"); got != "1" {
		t.Errorf("up is %q, want 1:\n%s", got, s.log)
	}
}

// Callers at the same time share one attempt, and its failure.
func TestSubscriptionList_SharedFailure(t *testing.T) {
	t.Parallel()
	s := start(t, simulator.Generate(1, 1), DefaultConfig(), azure.Config{})
	s.SetListFault(simulator.Forbidden())
	asked := time.Now()
	for range 2 {
		if err := s.exporter.cache.collector.subscriptions.refreshList(t.Context(), asked); azure.ReasonOf(err) != azure.ReasonForbidden {
			t.Errorf("the list is %v", err)
		}
	}
	if n := s.Requests()[simulator.RouteSubscriptions]; n != 1 {
		t.Errorf("%d attempts", n)
	}
}

// An identity without a role is a failure: Azure lists nothing, without an error.
func TestSubscriptionList_Empty(t *testing.T) {
	never := start(t, simulator.Tenant{}, DefaultConfig(), azure.Config{})
	if got := value(never.scrape(t, "10"), prefix+"up"); got != "0" {
		t.Errorf("up is %q", got)
	}
	if status, _, body := never.get(t, "/sd"); status != http.StatusServiceUnavailable || !strings.Contains(body, "forbidden") {
		t.Errorf("/sd: %d %s", status, body)
	}

	tenant := simulator.Generate(2, 1)
	s := start(t, tenant, DefaultConfig(), azure.Config{})
	s.scrape(t, "10")
	for _, sub := range tenant.Subscriptions { // as when the role is taken away
		s.SetFault(sub.ID, simulator.Forbidden())
	}
	s.SetListFault(simulator.EmptyList())
	s.advance(11 * time.Minute)
	lines := s.scrape(t, "10")
	if got := value(lines, prefix+"up"); got != "0" {
		t.Errorf("up is %q after the roles were taken away", got)
	}
	for _, sub := range tenant.Subscriptions {
		if got := value(lines, prefix+`subscription_scrape_failure{reason="forbidden",subscription_id="`+sub.ID+`"}`); got != "1" {
			t.Errorf("%s: no failure with the reason forbidden", sub.ID)
		}
	}
}

// A list that suddenly lacks most subscriptions is not used at first: ARM sometimes answers
// partially. The next discovery believes it.
func TestSubscriptionList_Partial(t *testing.T) {
	tenant := simulator.Generate(10, 1)
	s := start(t, tenant, DefaultConfig(), azure.Config{})
	s.scrape(t, "10")
	for _, sub := range tenant.Subscriptions[4:] {
		s.RemoveSubscription(sub.ID)
	}
	s.advance(11 * time.Minute)
	if n := count(s.scrape(t, "10"), "subscription_info"); n != 10 || !strings.Contains(s.log.String(), "most subscriptions are missing from Azure's list") {
		t.Errorf("%d subscriptions after a partial list, want 10:\n%s", n, s.log)
	}
	s.advance(11 * time.Minute)
	if n := count(s.scrape(t, "10"), "subscription_info"); n != 4 || !strings.Contains(s.log.String(), `msg="subscriptions are no longer listed" count=6`) {
		t.Errorf("%d subscriptions after the second list, want 4:\n%s", n, s.log)
	}
	// Less than half, or fewer than three, is believed at once.
	s.RemoveSubscription(tenant.Subscriptions[0].ID)
	s.RemoveSubscription(tenant.Subscriptions[1].ID)
	s.advance(11 * time.Minute)
	if n := count(s.scrape(t, "10"), "subscription_info"); n != 2 {
		t.Errorf("%d subscriptions, want 2", n)
	}
	s.RemoveSubscription(tenant.Subscriptions[2].ID)
	s.advance(11 * time.Minute)
	if n := count(s.scrape(t, "10"), "subscription_info"); n != 1 {
		t.Errorf("%d subscriptions, want 1", n)
	}
}
