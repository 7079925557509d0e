package exporter

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// get asks for a path and returns status, headers and body.
func (s *system) get(t *testing.T, path string, header ...string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.server.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := s.server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(body)
}

func TestProbe(t *testing.T) {
	for name, ttl := range map[string]time.Duration{"live": 0, "cached": time.Minute} {
		t.Run(name, func(t *testing.T) {
			tenant := simulator.Generate(4, 2)
			tenant.Subscriptions[2].State = "Disabled"
			cfg := defaults()
			cfg.CacheTTL = ttl
			s := start(t, tenant, cfg, azure.Config{})
			s.SetFault(tenant.Subscriptions[1].ID, simulator.Forbidden())
			for _, test := range []struct {
				target string
				status int
				want   string
			}{
				{"", http.StatusBadRequest, "is no subscription ID"},
				{"x", http.StatusBadRequest, "is no subscription ID"},
				{"99999999-0000-4000-8000-000000000000", http.StatusNotFound, "no such subscription is configured or discovered"},
				{tenant.Subscriptions[0].ID, http.StatusOK, "\nprobe_success 1\n"},
				{strings.ToUpper(tenant.Subscriptions[0].ID), http.StatusOK, "\nprobe_success 1\n"},
				{tenant.Subscriptions[1].ID, http.StatusOK, "\nprobe_success 0\n"},
				{tenant.Subscriptions[2].ID, http.StatusOK, "\nprobe_success 1\n"},
			} {
				status, _, body := s.get(t, "/probe?target="+test.target)
				if status != test.status || !strings.Contains(body, test.want) {
					t.Errorf("%s: status %d, want %d with %q, body\n%s", test.target, status, test.status, test.want, body)
				}
			}
			_, _, body := s.get(t, "/probe?target="+tenant.Subscriptions[0].ID)
			var lines []string
			for line := range strings.Lines(body) {
				if !strings.Contains(line, "probe_duration_seconds ") {
					lines = append(lines, strings.TrimSpace(line))
				}
			}
			golden(t, "probe", lines)
			want := 3 // subscriptions that are enabled
			if ttl == 0 {
				want = 4 // probes of enabled subscriptions
			}
			// That of the forbidden one may have been spared: its other list was refused first.
			if got := s.Requests()[simulator.RouteSecureScores]; got != want && got != want-1 {
				t.Errorf("%d requests for scores, want %d: %v", got, want, s.Requests())
			}
		})
	}
}

// While the subscriptions are not known, a probe of one that is not configured
// cannot tell.
func TestProbeUnknown(t *testing.T) {
	for name, ttl := range map[string]time.Duration{"live": 0, "cached": time.Minute} {
		t.Run(name, func(t *testing.T) {
			tenant := simulator.Generate(2, 1)
			cfg := defaults()
			cfg.CacheTTL = ttl
			s := start(t, tenant, cfg, azure.Config{})
			s.SetTokenFault(simulator.ExpiredSecret())
			if status, _, body := s.get(t, "/probe?target="+tenant.Subscriptions[0].ID); status != http.StatusServiceUnavailable || !strings.Contains(body, "authentication") {
				t.Errorf("status %d, %s", status, body)
			}
			s = start(t, tenant, cfg, azure.Config{SubscriptionIDs: []string{tenant.Subscriptions[0].ID}})
			s.SetTokenFault(simulator.ExpiredSecret())
			if status, _, body := s.get(t, "/probe?target="+tenant.Subscriptions[0].ID); status != http.StatusOK || !strings.Contains(body, `reason="authentication"`) || !strings.Contains(body, "probe_success 0") {
				t.Errorf("configured: status %d, %s", status, body)
			}
		})
	}
}

// What /sd tells of can be probed, though it is younger than the cache.
func TestProbeOfNewSubscription(t *testing.T) {
	cfg := defaults()
	cfg.CacheTTL, cfg.DiscoveryInterval = time.Hour, 0
	s := start(t, simulator.Generate(3, 1), cfg, azure.Config{})
	s.scrape(t, "10")
	sub := simulator.Generate(9, 1).Subscriptions[8]
	s.SetSubscription(sub)
	if _, _, body := s.get(t, "/sd"); !strings.Contains(body, sub.ID) {
		t.Fatalf("/sd does not tell of it: %s", body)
	}
	if status, _, body := s.get(t, "/probe?target="+sub.ID); status != http.StatusOK || !strings.Contains(body, "probe_success 1") {
		t.Errorf("status %d, %s", status, body)
	}
}

// A thousand probes at once keep to the calls in flight, to a few connections and
// to one list of subscriptions.
func TestManyProbes(t *testing.T) {
	tenant := simulator.Generate(250, 2)
	tenant.Latency = 2 * time.Millisecond
	s := start(t, tenant, defaults(), azure.Config{Concurrency: 8})
	var group sync.WaitGroup
	for n := range 1000 {
		group.Go(func() {
			status, _, body := s.get(t, "/probe?target="+tenant.Subscriptions[n%250].ID)
			if status != http.StatusOK || !strings.Contains(body, "probe_success 1") {
				t.Errorf("status %d, %.100s", status, body)
			}
		})
	}
	group.Wait()
	requests := s.Requests()
	if got := s.MaxInFlight(); got > 8 {
		t.Errorf("%d calls were in flight, want at most 8", got)
	}
	if requests[simulator.RouteSubscriptions] != 1 || requests[simulator.RouteToken] != 1 {
		t.Errorf("requests: %v", requests)
	}
	if got := s.Connections(); got > 8 {
		t.Errorf("%d connections to Azure, want a few", got)
	}
}

func TestServiceDiscovery(t *testing.T) {
	tenant := simulator.Generate(3, 1)
	tenant.Subscriptions[1].Name = "Name with \"quotes\" and\nnewline"
	tenant.Subscriptions[2].State = "Disabled"
	s := start(t, tenant, defaults(), azure.Config{})
	s.SetListFault(simulator.ServerError(500))
	if status, _, _ := s.get(t, "/sd"); status != http.StatusServiceUnavailable {
		t.Errorf("before the first list: %d", status)
	}
	s.SetListFault(nil)
	status, header, body := s.get(t, "/sd")
	var targets []target
	if err := json.Unmarshal([]byte(body), &targets); err != nil || status != http.StatusOK || header.Get("Content-Type") != "application/json" || len(targets) != 3 {
		t.Fatalf("status %d, %v, %s", status, err, body)
	}
	for i, want := range []string{"Subscription 0001", `Name with "quotes" and newline`, "Subscription 0003"} {
		sub := tenant.Subscriptions[i]
		got := fmt.Sprint(targets[i])
		state := map[bool]string{true: "Disabled", false: "Enabled"}[i == 2]
		if got != fmt.Sprint(target{[]string{sub.ID}, map[string]string{
			"__meta_azure_secure_score_subscription_id": sub.ID, "__meta_azure_secure_score_subscription_name": want,
			"__meta_azure_secure_score_subscription_state": state, "__meta_azure_secure_score_tenant_id": simulator.TenantID,
		}}) {
			t.Errorf("target %d: %s", i, got)
		}
	}
	if !strings.HasPrefix(header.Get("Cache-Control"), "max-age=59") && header.Get("Cache-Control") != "max-age=600" {
		t.Errorf("Cache-Control: %q", header.Get("Cache-Control"))
	}
	if status, _, body := s.get(t, "/sd", "If-None-Match", header.Get("ETag")); status != http.StatusNotModified || body != "" {
		t.Errorf("not modified: %d %q", status, body)
	}
	if n := s.Requests()[simulator.RouteSubscriptions]; n != 4 { // three attempts that failed, and one
		t.Errorf("%d lists of subscriptions", n)
	}
	// An identity that has lost its roles gets an empty list: the last one serves.
	s.SetListFault(simulator.EmptyList())
	s.exporter.discovery.listedAt = time.Time{}
	if status, _, again := s.get(t, "/sd"); status != http.StatusOK || again != body {
		t.Errorf("an empty list: %d %s", status, again)
	}
}

// An identity without a role is a failure, which somebody is to be told of.
func TestNoSubscription(t *testing.T) {
	never := start(t, simulator.Tenant{}, defaults(), azure.Config{})
	if got := value(never.scrape(t, "10"), prefix+"up"); got != "0" {
		t.Errorf("up is %q", got)
	}
	if status, _, body := never.get(t, "/sd"); status != http.StatusServiceUnavailable || !strings.Contains(body, "forbidden") {
		t.Errorf("/sd: %d %s", status, body)
	}

	tenant := simulator.Generate(2, 1)
	s := start(t, tenant, defaults(), azure.Config{})
	s.scrape(t, "10")
	for _, sub := range tenant.Subscriptions { // as when the role is taken away
		s.SetFault(sub.ID, simulator.Forbidden())
	}
	s.SetListFault(simulator.EmptyList())
	s.exporter.discovery.listedAt = time.Time{}
	lines := s.scrape(t, "10")
	if got := value(lines, prefix+"up"); got != "0" {
		t.Errorf("up is %q after the roles were taken away", got)
	}
	for _, sub := range tenant.Subscriptions {
		if got := value(lines, prefix+`subscription_scrape_failure{reason="forbidden",subscription_id="`+sub.ID+`"}`); got != "1" {
			t.Errorf("%s: no failure with the reason forbidden", sub.ID)
		}
	}
}
