package azure

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

func TestExport_SubscriptionsFailAlone(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(4, 5)
	tenant.PageSize = 2
	tenant.Subscriptions[1].NoAccess = true
	sim, client := start(t, tenant, Config{})
	sim.SetFault(ids(tenant)[2], simulator.ScoreNotFound())
	var done atomic.Int64
	exported := client.Export(within(t, 20*time.Second), SecureScoreControls, ids(tenant), func() { done.Add(1) })
	for i, want := range []struct {
		items  int
		reason Reason
	}{{5, ""}, {0, ReasonForbidden}, {0, ""}, {5, ""}} {
		if got := exported[i]; len(got.Items) != want.items || ReasonOf(got.Err) != want.reason {
			t.Errorf("subscription %d: %d items, %v", i, len(got.Items), got.Err)
		}
	}
	if done.Load() != 4 {
		t.Errorf("%d done, want 4", done.Load())
	}
}
