package azure

import (
	"maps"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// Every attempt is reported, with what Azure says of its quotas.
func TestRequests_Observed(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	requests := map[string]int{}
	quota := map[string]float64{}
	tenant := simulator.Generate(1, 1)
	sim, client := start(t, tenant, Config{Observe: func(r Request) {
		mu.Lock()
		defer mu.Unlock()
		requests[r.Operation+" "+r.Code]++
		maps.Copy(quota, r.QuotaRemaining)
		if r.Duration <= 0 {
			t.Errorf("%s took %s", r.Operation, r.Duration)
		}
	}})
	sim.SetFault(ids(tenant)[0], simulator.OnScores(simulator.Times(2, simulator.ServerError(502))))
	sim.SetListFault(simulator.Truncated())
	ctx := within(t, 20*time.Second)
	_, _ = client.Subscriptions(ctx)
	client.SecureScores(ctx, ids(tenant))
	mu.Lock()
	defer mu.Unlock()
	for request, want := range map[string]int{
		"list_subscriptions error": 3, "list_secure_scores 502": 2, "list_secure_scores 200": 1, "list_secure_score_controls 200": 1,
	} {
		if requests[request] != want {
			t.Errorf("%s: %d requests, want %d (%v)", request, requests[request], want, requests)
		}
	}
	if requests["get_token 200"] == 0 {
		t.Errorf("no token request: %v", requests)
	}
	if quota["subscription-reads"] == 0 {
		t.Errorf("quotas: %v", quota)
	}
}

func TestRequests_ConcurrencyIsLimited(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(50, 2)
	tenant.Latency = 5 * time.Millisecond
	sim, client := start(t, tenant, Config{Concurrency: 7})
	client.SecureScores(within(t, time.Minute), ids(tenant))
	if got := sim.MaxInFlight(); got > 7 || got < 5 {
		t.Errorf("%d requests were concurrent, want up to 7 and close to it", got)
	}
}

func TestQuotaRemaining(t *testing.T) {
	t.Parallel()
	h := http.Header{}
	h.Set("x-ms-ratelimit-remaining-subscription-reads", "249")
	h.Set("x-ms-ratelimit-remaining-resource", "Microsoft.Security/Get3Min;133,Microsoft.Security/Get30Min;690")
	h.Set("x-ms-ratelimit-remaining-tenant-reads", "-1")
	h.Set("x-ms-ratelimit-remaining-unknown", "1")
	h.Set("x-ms-user-quota-remaining", "14")
	if got := quotaRemaining(h); !maps.Equal(got, map[string]float64{"subscription-reads": 249, "user-quota": 14}) {
		t.Errorf("got %v", got)
	}
}
