package azure

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// budget lets a list have so many pages, and hangs after them until it is renewed.
type budget struct{ pages, served atomic.Int64 }

func (b *budget) fault(w http.ResponseWriter, r *http.Request, next http.Handler) {
	if b.pages.Add(-1) < 0 {
		simulator.Hang()(w, r, next)
		return
	}
	b.served.Add(1)
	next.ServeHTTP(w, r)
}

func sortedIDs(subscriptions []Subscription) []string {
	var ids []string
	for _, s := range subscriptions {
		ids = append(ids, s.ID)
	}
	slices.Sort(ids)
	return ids
}

// listUntilDone calls Subscriptions until it succeeds, with pages for each call, and returns the
// number of calls.
func listUntilDone(t *testing.T, client *Client, want []string, pages int64, budgets ...*budget) int {
	t.Helper()
	for call := 1; call <= 20; call++ {
		for _, b := range budgets {
			b.pages.Store(pages)
		}
		got, err := client.Subscriptions(within(t, time.Second))
		if err == nil {
			if !slices.Equal(sortedIDs(got), want) {
				t.Errorf("got %v, want %v", sortedIDs(got), want)
			}
			return call
		}
		if ReasonOf(err) != ReasonTimeout {
			t.Fatal(err)
		}
	}
	t.Fatal("the list is never complete")
	return 0
}

// A list that takes longer than one call is read in several: no page is read twice.
func TestSubscriptionList_ContinuesInNextCall(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(14, 1)
	tenant.PageSize = 2
	sim, client := start(t, tenant, Config{})
	var list budget
	sim.SetListFault(list.fault)
	if calls := listUntilDone(t, client, ids(tenant), 3, &list); calls != 3 || list.served.Load() != 7 {
		t.Errorf("%d calls, %d pages, want 3 and 7", calls, list.served.Load())
	}
	// The next list is a new one.
	list.pages.Store(100)
	if _, err := client.Subscriptions(within(t, 20*time.Second)); err != nil || list.served.Load() != 14 {
		t.Errorf("%d pages, %v, want 14", list.served.Load(), err)
	}
}

func TestSubscriptionList_ContinuesManagementGroups(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(10, 1)
	all := ids(tenant)
	tenant.ManagementGroups = map[string][]string{"a": all[:6], "b": all[4:9]}
	tenant.PageSize = 2
	sim, client := start(t, tenant, Config{ManagementGroups: []string{"a", "b"}})
	var list, groups budget
	sim.SetListFault(list.fault)
	sim.SetGroupFault(groups.fault)
	// 5 pages of subscriptions, 3 of each group.
	if calls := listUntilDone(t, client, all[:9], 2, &list, &groups); calls != 5 || list.served.Load() != 5 || groups.served.Load() != 6 {
		t.Errorf("%d calls, %d and %d pages, want 5, 5 and 6", calls, list.served.Load(), groups.served.Load())
	}
}

// Pages already read are dropped when they are old, or when Azure refuses to continue after them.
func TestSubscriptionList_StartsOver(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		age   time.Duration
		fault simulator.Fault // of the pages after the first
		pages int             // that the next call asks for
		want  Reason
	}{
		"recent":              {resumeWithin - time.Minute, nil, 2, ""},
		"old":                 {resumeWithin + time.Minute, nil, 3, ""},
		"link refused":        {0, simulator.Times(1, simulator.Error(400, "InvalidSkipToken", "…")), 4, ""},
		"link not found":      {0, simulator.Times(1, simulator.Error(404, "NotFound", "…")), 4, ""},
		"always refused":      {0, simulator.Error(400, "InvalidSkipToken", "…"), 3, ReasonInvalidResponse},
		"throttled":           {0, simulator.Throttle(-1, time.Minute), 1, ReasonThrottled},
		"a connection breaks": {0, simulator.Times(1, simulator.Truncated()), 3, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenant := simulator.Generate(6, 1)
			tenant.PageSize = 2
			var clock clock
			sim, client := start(t, tenant, Config{now: clock.now})
			var list budget
			list.pages.Store(1)
			sim.SetListFault(list.fault)
			if _, err := client.Subscriptions(within(t, time.Second)); ReasonOf(err) != ReasonTimeout {
				t.Fatal(err)
			}
			clock.advance(test.age)
			var asked atomic.Int64
			sim.SetListFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				asked.Add(1)
				if test.fault != nil && strings.Contains(r.URL.RawQuery, "skiptoken") {
					test.fault(w, r, next)
					return
				}
				next.ServeHTTP(w, r)
			})
			got, err := client.Subscriptions(within(t, 20*time.Second))
			if ReasonOf(err) != test.want || err == nil && !slices.Equal(sortedIDs(got), ids(tenant)) {
				t.Errorf("got %v, %v", got, err)
			}
			if asked.Load() != int64(test.pages) {
				t.Errorf("asked for %d pages, want %d", asked.Load(), test.pages)
			}
		})
	}
}

// A management group that is refused in the middle is a failure of the list, not a group without
// access.
func TestSubscriptionList_GroupRefusedInTheMiddle(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(6, 1)
	all := ids(tenant)
	tenant.ManagementGroups = map[string][]string{"a": all[:2], "b": all[2:]}
	tenant.PageSize = 2
	sim, client := start(t, tenant, Config{ManagementGroups: []string{"a", "b"}})
	sim.SetGroupFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.Contains(r.URL.RawQuery, "skiptoken") {
			next = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { simulator.Forbidden()(w, r, nil) })
		}
		next.ServeHTTP(w, r)
	})
	if got, err := client.Subscriptions(within(t, 20*time.Second)); ReasonOf(err) != ReasonForbidden || !strings.Contains(err.Error(), "management group b") {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestSubscriptionList_KeepsTheLongerOne(t *testing.T) {
	t.Parallel()
	now := time.Now()
	var kept resumableListing
	for _, pages := range []int{0, 2, 5, 3} {
		kept.keep(&listing{pages: pages, readAt: now})
	}
	if l := kept.take(now); l == nil || l.pages != 5 {
		t.Errorf("kept %+v, want the one of 5 pages", l)
	}
	if l := kept.take(now); l != nil {
		t.Errorf("two calls share %+v", l)
	}
}

// Concurrent calls share nothing that is unfinished.
func TestSubscriptionList_ConcurrentCalls(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(20, 1)
	tenant.PageSize = 2
	tenant.Latency = 5 * time.Millisecond
	_, client := start(t, tenant, Config{})
	done := make(chan bool)
	for caller := range 8 {
		go func() {
			for i := range 20 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(10+(i*7+caller*13)%60)*time.Millisecond)
				got, err := client.Subscriptions(ctx)
				cancel()
				if err == nil && !slices.Equal(sortedIDs(got), ids(tenant)) {
					t.Errorf("got %d subscriptions", len(got))
				}
			}
			done <- true
		}()
	}
	for range 8 {
		<-done
	}
}
