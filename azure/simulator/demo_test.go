package simulator_test

import (
	"strings"
	"testing"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

func TestDemo_HasEveryKindOfSubscription(t *testing.T) {
	tenant := simulator.Demo()
	tenant.Now = func() time.Time { return time.Date(2026, 6, 30, 0, 0, 0, 0, time.UTC) }
	_, c := start(t, tenant)
	subscriptions, _ := c.list(subscriptionsPath)
	var worst, best float64 = 1, 0
	for _, s := range subscriptions {
		response, body := c.body(scoresPath(s.SubscriptionID))
		switch s.SubscriptionID {
		case simulator.DemoForbiddenID:
			if response.StatusCode != 403 || !strings.Contains(body, "AuthorizationFailed") {
				t.Errorf("%s: %d %s", s.DisplayName, response.StatusCode, body)
			}
			continue
		case simulator.DemoUnscoredID, simulator.DemoDisabledID:
			if response.StatusCode != 200 || body != `{"value":[]}` {
				t.Errorf("%s: %d %s", s.DisplayName, response.StatusCode, body)
			}
			continue
		case simulator.DemoSampleID:
			if want := `"score":{"max":55,"current":37.0,"percentage":0.6727}`; !strings.Contains(body, want) {
				t.Errorf("the sample's score is %s, want %s", body, want)
			}
			_, controls := c.body(controlsPath(s.SubscriptionID))
			if want := `"displayName":"Protect applications against DDoS attacks","score":{"max":2,"current":0.0,"percentage":0.0},"healthyResourceCount":0,"unhealthyResourceCount":0,"notApplicableResourceCount":1`; !strings.Contains(controls, want) {
				t.Errorf("the sample's controls are %s, want %s among them", controls, want)
			}
		}
		scores, _ := c.list(scoresPath(s.SubscriptionID))
		ratio := scores[0].Properties.Score.Percentage
		worst, best = min(worst, ratio), max(best, ratio)
		if controls, _ := c.list(controlsPath(s.SubscriptionID)); len(controls) != 15 {
			t.Errorf("%s has %d controls, want 15", s.DisplayName, len(controls))
		}
	}
	if worst > 0.5 || best < 0.9 {
		t.Errorf("scores from %g to %g vary too little", worst, best)
	}
}
