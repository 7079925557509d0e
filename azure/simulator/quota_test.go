package simulator_test

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

func TestQuota_OfARM(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var mu sync.Mutex
	tenant := simulator.Generate(2, 1)
	tenant.Now = func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}
	_, c := start(t, tenant)
	remaining := func(path, header string) string {
		response, _ := c.body(path)
		return response.Header.Get("x-ms-ratelimit-remaining-" + header)
	}
	first, second := tenant.Subscriptions[0].ID, tenant.Subscriptions[1].ID
	for _, test := range []struct{ path, header, want string }{
		{subscriptionsPath, "tenant-reads", "249"},
		{subscriptionsPath, "tenant-global-reads", "3748"},
		{scoresPath(first), "subscription-reads", "249"},
		{controlsPath(first), "subscription-reads", "248"},
		{scoresPath(second), "subscription-global-reads", "3749"},
	} {
		if got := remaining(test.path, test.header); got != test.want {
			t.Errorf("%s after %s: %s, want %s", test.header, test.path, got, test.want)
		}
	}
	mu.Lock()
	now = now.Add(time.Second)
	mu.Unlock()
	if got := remaining(scoresPath(first), "subscription-reads"); got != "249" {
		t.Errorf("after a second's refill: %s, want 249", got)
	}
}

func TestQuota_OfResourceGraph(t *testing.T) {
	var mu sync.Mutex
	now := time.Date(2026, 6, 30, 0, 0, 0, 0, time.UTC)
	pass := func(d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(d)
	}
	tenant := simulator.Generate(1, 1)
	tenant.Now = func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}
	a, c := start(t, tenant)
	expect := func(status int, remaining, resets string) {
		t.Helper()
		response, body := c.refusal(object{"query": plainQuery})
		h := response.Header
		if response.StatusCode != status || h.Get("x-ms-user-quota-remaining") != remaining || h.Get("x-ms-user-quota-resets-after") != resets {
			t.Errorf("%d, %s remaining, resets after %s; want %d, %s, %s", response.StatusCode, h.Get("x-ms-user-quota-remaining"), h.Get("x-ms-user-quota-resets-after"), status, remaining, resets)
		}
		if status == 429 && (!strings.Contains(body, `{"error":{"code":"RateLimiting","details":[{"code":"RateLimiting","message":"Client application has been throttled`) || h.Get("Retry-After") != "") {
			t.Errorf("Retry-After %q with %s", h.Get("Retry-After"), body)
		}
	}
	for left := 14; left >= 1; left-- {
		expect(200, fmt.Sprint(left), "00:00:05")
	}
	pass(2500 * time.Millisecond)
	expect(200, "0", "00:00:03")
	expect(429, "0", "00:00:03")
	if got := a.Throttled(); got != 1 || a.Requests()["query_resource_graph"] != 16 {
		t.Errorf("%d refused of %v", got, a.Requests())
	}
	pass(2500 * time.Millisecond)
	expect(200, "14", "00:00:05")
	if a.ResetRequests(); a.Throttled() != 0 {
		t.Errorf("%d refused after the reset", a.Throttled())
	}
}

// Other clients of the same principal leave less of every window.
func TestQuota_SharedPrincipal(t *testing.T) {
	var mu sync.Mutex
	now := time.Date(2026, 6, 30, 0, 0, 0, 0, time.UTC)
	tenant := simulator.Generate(1, 1)
	tenant.ResourceGraph.Others = 7
	tenant.Now = func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}
	a, c := start(t, tenant)
	for window := range 2 {
		for left := 7; left >= 0; left-- {
			response, _ := c.refusal(object{"query": plainQuery})
			if got := response.Header.Get("x-ms-user-quota-remaining"); response.StatusCode != 200 || got != strconv.Itoa(left) {
				t.Errorf("window %d: %d with %s remaining, want 200 with %d", window, response.StatusCode, got, left)
			}
		}
		if response, _ := c.refusal(object{"query": plainQuery}); response.StatusCode != 429 || a.Throttled() != window+1 {
			t.Errorf("window %d: %d beyond the quota, %d throttled", window, response.StatusCode, a.Throttled())
		}
		mu.Lock()
		now = now.Add(5 * time.Second)
		mu.Unlock()
	}
}
