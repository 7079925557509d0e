package exporter

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// The last good values are served while the subscription fails, up to the limit.
func TestCollect_LastGoodValues(t *testing.T) {
	tenant := simulator.Generate(2, 1)
	s := start(t, tenant, DefaultConfig(), azure.Config{})
	s.scrape(t, "10")
	id := tenant.Subscriptions[0].ID
	s.SetFault(id, simulator.Forbidden())
	golden(t, "last good values served", s.scrape(t, "10"))
	for _, test := range []struct {
		later time.Duration
		want  bool
	}{{59 * time.Minute, true}, {2 * time.Minute, false}} {
		s.advance(test.later)
		lines := s.scrape(t, "10")
		if served := len(of(lines, id)) > 4; served != test.want {
			t.Errorf("%s later, values are served: %t, want %t", test.later, served, test.want)
		}
		if !test.want {
			golden(t, "last good values dropped", lines)
		}
	}
	if !strings.Contains(s.log.String(), `fix="az role assignment create --role Reader`) {
		t.Errorf("the failure is logged without its fix:\n%s", s.log)
	}
	// The failure is logged once, not at every scrape, and so is the recovery.
	s.SetFault(id, nil)
	s.scrape(t, "10")
	if n := strings.Count(s.log.String(), `level=warn`); n != 1 {
		t.Errorf("%d warnings, want 1:\n%s", n, s.log)
	}
	if !strings.Contains(s.log.String(), "level=info subscription_id="+id+` msg="subscription can be read again" reason=forbidden`) {
		t.Errorf("the recovery is not logged:\n%s", s.log)
	}
}

// With a timeout too short for all, a few scrapes read every subscription, even if more of them
// hang than requests can be concurrent.
func TestCollect_FairOrder(t *testing.T) {
	for name, hanging := range map[string]int{"all answer": 0, "some hang": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenant := simulator.Generate(12, 1)
			tenant.Latency = 100 * time.Millisecond
			s := start(t, tenant, DefaultConfig(), azure.Config{Concurrency: 2})
			want := map[string]bool{}
			for i, sub := range tenant.Subscriptions {
				if i < hanging {
					s.SetFault(sub.ID, simulator.Hang())
					continue
				}
				want[sub.ID] = true
			}
			// 0.5 s are left of 1 s: time for the token, the list and about two subscriptions.
			for n := range 60 {
				lines := s.scrape(t, "1")
				for id := range want {
					if value(lines, prefix+`subscription_scored{subscription_id="`+id+`"}`) == "1" {
						delete(want, id)
					}
				}
				if len(want) == 0 {
					t.Logf("all subscriptions were read after %d scrapes", n+1)
					return
				}
				if n == 0 && hanging == 0 && len(want) == len(tenant.Subscriptions) {
					t.Fatal("no subscription was read in the first scrape")
				}
			}
			t.Errorf("never read: %v", slices.Sorted(maps.Keys(want)))
		})
	}
}

// Subscriptions that the quota left out come first in the next scrape.
func TestCollect_FairOrderWithinQuota(t *testing.T) {
	tenant := simulator.Generate(2500, 1)
	tenant.Now = time.Now
	tenant.ResourceGraph.Queries, tenant.ResourceGraph.Window = 4, time.Second
	tenant.ResourceGraph.NoPacking = true // two pages a batch of 1,000, one of the last 500
	s := startFrom(t, tenant, DefaultConfig(), azure.Config{}, func(c *azure.Client) Source { return azure.NewResourceGraph(c) })
	for range 12 {
		lines := s.scrape(t, "1.4")
		if strings.Count(strings.Join(lines, "\n"), prefix+"subscription_scored{") == 2500 {
			return
		}
		time.Sleep(1100 * time.Millisecond) // the next window
	}
	t.Error("some subscriptions were never read")
}

// The recovery of a credential is logged once, not for each subscription.
func TestCollect_CredentialRecoveryIsLoggedOnce(t *testing.T) {
	tenant := simulator.Generate(20, 1)
	var all []string
	for _, sub := range tenant.Subscriptions {
		all = append(all, sub.ID)
	}
	s := start(t, tenant, DefaultConfig(), azure.Config{SubscriptionIDs: all})
	s.SetTokenFault(simulator.ExpiredSecret())
	s.scrape(t, "10")
	s.SetTokenFault(nil)
	s.scrape(t, "10")
	if strings.Contains(s.log.String(), "can be read again") {
		t.Errorf("logged for each subscription:\n%s", s.log)
	}
}

// Duplicates in Azure's answer are logged once.
func TestCollect_DuplicatesAreLoggedOnce(t *testing.T) {
	tenant := simulator.Generate(1, 2)
	s := start(t, tenant, DefaultConfig(), azure.Config{})
	s.SetFault(tenant.Subscriptions[0].ID, simulator.Duplicate())
	for range 3 {
		s.scrape(t, "10")
		s.get(t, "/probe?target="+tenant.Subscriptions[0].ID)
	}
	if got := strings.Count(s.log.String(), "dropped duplicate"); got != 1 {
		t.Errorf("logged %d times:\n%s", got, s.log)
	}
}

// Another cause under the same reason is logged: an operator would otherwise fix the wrong thing.
func TestCollect_ChangedCauseIsLogged(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(1, 1)
	s := start(t, tenant, DefaultConfig(), azure.Config{})
	for _, status := range []int{500, 500, 503, 503} {
		s.SetFault(tenant.Subscriptions[0].ID, simulator.ServerError(status))
		s.scrape(t, "4")
	}
	if n := strings.Count(s.log.String(), `level=warn`); n != 2 || !strings.Contains(s.log.String(), "HTTP 503") {
		t.Errorf("%d warnings, want one for each cause:\n%s", n, s.log)
	}
}
