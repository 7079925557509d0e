package azure

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

func TestCheck_Progress(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(3, 1)
	tenant.Subscriptions[0].NoAccess = true
	tenant.Subscriptions[1].State = "Disabled"
	_, client := start(t, tenant, Config{})
	listed := 0
	var done atomic.Int64
	report := client.Check(within(t, 20*time.Second), func(n int) { listed += n }, func() { done.Add(1) })
	if listed != 3 || done.Load() != 3 {
		t.Errorf("%d listed, %d done, want 3 and 3", listed, done.Load())
	}
	forbidden, disabled, good := report.Subscriptions[0], report.Subscriptions[1], report.Subscriptions[2]
	if report.OK || forbidden.OK() || !disabled.OK() || disabled.Scores != nil || !good.OK() || !good.Scored {
		t.Errorf("got %+v", report)
	}
	if detail := forbidden.Scores.Detail; !strings.HasPrefix(detail, "missing permission Microsoft.Security/secureScores/read") {
		t.Errorf("detail %q", detail)
	}
}

func TestCheck_WithoutToken(t *testing.T) {
	t.Parallel()
	sim, client := start(t, simulator.Generate(1, 1), Config{})
	sim.SetTokenFault(simulator.ExpiredSecret())
	report := client.Check(within(t, 20*time.Second), func(int) { t.Error("listed") }, func() { t.Error("done") })
	if report.OK || report.Credential.OK || report.SubscriptionList.OK || len(report.Subscriptions) != 0 || report.Credential.Fix == "" {
		t.Errorf("got %+v", report)
	}
}
