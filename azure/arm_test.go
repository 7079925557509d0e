package azure

import (
	"testing"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// A retry that might not fit the deadline is not made: the response is the reason, not the
// deadline.
func TestRetry_FitsDeadline(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(1, 1)
	sim, client := start(t, tenant, Config{})
	if err := client.Authenticate(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
	sim.SetFault(ids(tenant)[0], simulator.Throttle(-1, time.Second))
	result := client.SecureScores(within(t, maxRetryDelay), ids(tenant))[0]
	if ReasonOf(result.Err) != ReasonThrottled {
		t.Errorf("got %v", result.Err)
	}
	if n := sim.Requests()[simulator.RouteSecureScores]; n > 1 {
		t.Errorf("%d requests, want no retry", n)
	}
}
