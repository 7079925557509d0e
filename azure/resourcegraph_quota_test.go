package azure

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// Queries wait for the quota instead of exceeding it.
func TestGraphQuota_Respected(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(40, 2)
	tenant.ResourceGraph.Queries, tenant.ResourceGraph.Window = 3, time.Second
	tenant.ResourceGraph.NoPacking = true
	sim, client := start(t, tenant, Config{})
	g := newResourceGraph(client, 20, newGraphQuota(graphQuotaQueries))
	for _, result := range g.SecureScores(within(t, 20*time.Second), ids(tenant)) {
		if result.Err != nil {
			t.Fatal(result.Err)
		}
	}
	if sim.Throttled() != 0 || sim.Requests()[simulator.RouteGraph] != 8 { // two packed, six pages of 120 rows
		t.Errorf("%d of %d queries were throttled", sim.Throttled(), sim.Requests()[simulator.RouteGraph])
	}
	// Another program uses the same quota: a refusal is waited out, too.
	sim.SetGraphFault(simulator.Throttle(1, time.Second))
	if result := g.SecureScores(within(t, 20*time.Second), ids(tenant))[0]; result.Err != nil {
		t.Errorf("after one refusal: %v", result.Err)
	}
}

// Other clients of the identity use half of the quota: no query is refused, and what the rest of
// the window does not cover is late.
func TestGraphQuota_SharedIdentity(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		list bool // needs a query as well
		read int
	}{"cold": {true, 6000}, "with a known list": {false, 7000}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenant := simulator.Generate(10_000, 1)
			tenant.ResourceGraph = simulator.ResourceGraph{Queries: 15, Others: 8, Window: time.Minute}
			sim, g := startGraph(t, tenant, Config{})
			if test.list {
				if _, err := g.Subscriptions(within(t, 30*time.Second)); err != nil {
					t.Fatal(err)
				}
			}
			read, late := 0, 0
			for _, result := range g.SecureScores(within(t, 30*time.Second), ids(tenant)) {
				switch {
				case result.Err == nil:
					read++
				case ReasonOf(result.Err) == ReasonThrottled && result.StartedAt.IsZero():
					late++
				default:
					t.Fatal(result.Err)
				}
			}
			if read != test.read || late != 10_000-test.read {
				t.Errorf("%d subscriptions were read and %d late", read, late)
			}
			if queries := sim.Requests()[simulator.RouteGraph]; queries != 7 || sim.Throttled() != 0 {
				t.Errorf("%d queries, %d of them throttled", queries, sim.Throttled())
			}
		})
	}
}

// A cold collection of 10,000 subscriptions fits one window.
func TestGraphQuota_TenThousandSubscriptions(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(10_000, 1)
	tenant.ResourceGraph.Window = time.Minute
	sim, g := startGraph(t, tenant, Config{})
	if _, err := g.Subscriptions(within(t, 30*time.Second)); err != nil {
		t.Fatal(err)
	}
	for _, result := range g.SecureScores(within(t, 30*time.Second), ids(tenant)) {
		if result.Err != nil {
			t.Fatal(result.Err)
		}
	}
	if requests := sim.Requests(); requests[simulator.RouteGraph] != 11 || requests[simulator.RouteSubscriptions] != 0 {
		t.Errorf("requests: %v", requests)
	}
}

func TestGraphQuota_WaitsForNextWindow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := newGraphQuota(2)
		ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second)
		defer cancel()
		start := time.Now()
		for i, want := range []time.Duration{0, 0, 5 * time.Second, 5 * time.Second, 10 * time.Second, 10 * time.Second} {
			if err := q.wait(ctx); err != nil || time.Since(start) != want {
				t.Errorf("query %d after %s, want %s (%v)", i, time.Since(start), want, err)
			}
			q.update(nil, false)
		}
		// The next window is after the deadline, which is known at once.
		if err := q.wait(ctx); ReasonOf(err) != ReasonThrottled || time.Since(start) != 10*time.Second {
			t.Errorf("%v after %s", err, time.Since(start))
		}
	})
}

func TestGraphQuota_Update(t *testing.T) {
	t.Parallel()
	remaining := func(n, resetsAfter string) http.Header {
		return http.Header{"X-Ms-User-Quota-Remaining": {n}, "X-Ms-User-Quota-Resets-After": {resetsAfter}}
	}
	retryAfter := http.Header{"Retry-After": {"3600"}}
	for name, test := range map[string]struct {
		header    http.Header
		throttled bool
		queries   int // that may be sent at once
		wait      time.Duration
	}{
		"nothing":                       {nil, false, 2, 5 * time.Second},
		"quota spent by others":         {remaining("0", "00:00:03"), false, 0, 4 * time.Second},
		"window ends within the second": {remaining("0", "00:00:00"), false, 0, time.Second},
		"more than known here":          {remaining("10", "00:00:03"), false, 2, 4 * time.Second},
		"negative":                      {remaining("-5", "00:00:03"), false, 0, 4 * time.Second},
		"refused":                       {nil, true, 0, 5 * time.Second},
		"refused for long":              {retryAfter, true, 0, maxQuotaWait},
		"Retry-After for other reasons": {retryAfter, false, 2, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				q := newGraphQuota(3)
				q.take(time.Now(), false)
				q.update(test.header, test.throttled)
				for n := range test.queries {
					if wait, _ := q.take(time.Now(), false); wait != 0 {
						t.Errorf("query %d waits %s", n, wait)
					}
				}
				if wait, _ := q.take(time.Now(), false); wait != test.wait {
					t.Errorf("the next window starts in %s, want %s", wait, test.wait)
				}
			})
		})
	}
}

// Queries that yield leave the first window, a third of the quota and the scores' usual share.
func TestGraphQuota_Yields(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		scores  int // queries in the first window
		yielded int // queries that yield in the second
	}{
		"no scores":            {0, 10},
		"few scores":           {2, 10},
		"many scores":          {12, 3},
		"scores use all of it": {15, 1}, // or they would starve
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				q := newGraphQuota(graphQuotaQueries)
				for range test.scores {
					if wait, _ := q.take(time.Now(), false); wait != 0 {
						t.Fatalf("scores wait %s", wait)
					}
				}
				ctx, cancel := context.WithTimeout(yieldToScores(t.Context()), time.Minute)
				defer cancel()
				start := time.Now()
				for range test.yielded {
					if err := q.wait(ctx); err != nil || time.Since(start) != graphQuotaWindow {
						t.Fatalf("a query that yields was sent after %s (%v)", time.Since(start), err)
					}
				}
				for range graphQuotaQueries - test.yielded { // what is left is the scores'
					if wait, _ := q.take(time.Now(), false); wait != 0 {
						t.Fatalf("scores wait %s", wait)
					}
				}
				if err := q.wait(ctx); err != nil || time.Since(start) != 2*graphQuotaWindow {
					t.Errorf("one more query that yields was sent after %s (%v)", time.Since(start), err)
				}
			})
		})
	}
}

// A query waits for one in flight whose response may leave room, and is not late before that.
func TestGraphQuota_WaitsForQueriesInFlight(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		remaining string // as the first response reports
		want      Reason
	}{"room": {"1", ""}, "no room": {"0", ReasonThrottled}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				q := newGraphQuota(3)
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				_ = q.wait(ctx) // two are in flight
				_ = q.wait(ctx)
				q.update(http.Header{"X-Ms-User-Quota-Remaining": {test.remaining}}, false)
				third := make(chan error, 1)
				go func() { third <- q.wait(ctx) }()
				synctest.Wait()
				if len(third) > 0 {
					t.Fatalf("the third query did not wait: %v", <-third)
				}
				q.update(nil, false)
				if err := <-third; ReasonOf(err) != test.want {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}
