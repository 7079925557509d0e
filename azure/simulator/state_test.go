package simulator_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

func TestSetSubscription_AddsReplacesAndRemoves(t *testing.T) {
	a, c := start(t, simulator.Generate(2, 1))
	id := "aaaaaaaa-0000-4000-8000-000000000001"
	added := simulator.Subscription{ID: strings.ToUpper(id), Name: "added", Controls: []simulator.Control{{ID: "x", Max: 4, Healthy: 1, Unhealthy: 1}}}
	a.SetSubscription(added)
	if got, _ := c.list(subscriptionsPath); len(got) != 3 || got[2].SubscriptionID != id {
		t.Errorf("after it was added: %+v", got)
	}
	if got, _ := c.list(scoresPath(id)); len(got) != 1 || got[0].Properties.Score.Current != 2 {
		t.Errorf("its score: %+v", got)
	}

	a.SetSubscription(simulator.Subscription{ID: id, Name: "changed", State: "Disabled", NoScore: true, Controls: added.Controls})
	if got, _ := c.list(subscriptionsPath); len(got) != 3 || got[2].DisplayName != "changed" || got[2].State != "Disabled" {
		t.Errorf("after it changed: %+v", got)
	}
	for _, path := range []string{scoresPath(id), controlsPath(id)} {
		if got, _ := c.list(path); len(got) != 0 {
			t.Errorf("%s without a score: %+v", path, got)
		}
	}
	a.RemoveSubscription(id)
	if got, _ := c.list(subscriptionsPath); len(got) != 2 {
		t.Errorf("after it was removed: %+v", got)
	}
	if response, body := c.body(scoresPath(id)); response.StatusCode != 404 || !strings.Contains(body, "SubscriptionNotFound") {
		t.Errorf("its score: %d %s", response.StatusCode, body)
	}
}

func TestMaxInFlight_CountsConcurrentRequests(t *testing.T) {
	tenant := simulator.Generate(5, 1)
	a, c := start(t, tenant)
	c.list(subscriptionsPath) // makes a token, so that the requests below need not wait for one
	var arrived, done sync.WaitGroup
	arrived.Add(5)
	together := func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		arrived.Done()
		arrived.Wait()
		next.ServeHTTP(w, r)
	}
	for _, s := range tenant.Subscriptions {
		a.SetFault(s.ID, together)
		done.Go(func() {
			if response, err := c.get(scoresPath(s.ID)); err != nil {
				t.Error(err)
			} else {
				_ = response.Body.Close()
			}
		})
	}
	done.Wait()
	if got := a.MaxInFlight(); got != 5 {
		t.Errorf("got %d, want 5", got)
	}
}
