package exporter

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

func TestProbe_Answers(t *testing.T) {
	for name, ttl := range map[string]time.Duration{"live": 0, "cached": time.Minute} {
		t.Run(name, func(t *testing.T) {
			tenant := simulator.Generate(4, 2)
			tenant.Subscriptions[2].State = "Disabled"
			cfg := DefaultConfig()
			cfg.CacheTTL = ttl
			s := start(t, tenant, cfg, azure.Config{})
			s.SetFault(tenant.Subscriptions[1].ID, simulator.Forbidden())
			for _, test := range []struct {
				target string
				status int
				want   string
			}{
				{"", http.StatusBadRequest, "is not a subscription ID"},
				{"x", http.StatusBadRequest, "is not a subscription ID"},
				{"99999999-0000-4000-8000-000000000000", http.StatusNotFound, "subscription is neither configured nor listed by Azure"},
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

// Without a list, a probe cannot know whether a subscription exists, unless it is configured.
func TestProbe_WithoutList(t *testing.T) {
	for name, ttl := range map[string]time.Duration{"live": 0, "cached": time.Minute} {
		t.Run(name, func(t *testing.T) {
			tenant := simulator.Generate(2, 1)
			cfg := DefaultConfig()
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

// A subscription in /sd can be probed even if the cached snapshot does not have it yet.
func TestProbe_NewSubscription(t *testing.T) {
	cfg := DefaultConfig()
	cfg.CacheTTL, cfg.DiscoveryInterval = time.Hour, 0
	s := start(t, simulator.Generate(3, 1), cfg, azure.Config{})
	s.scrape(t, "10")
	sub := simulator.Generate(9, 1).Subscriptions[8]
	s.SetSubscription(sub)
	if _, _, body := s.get(t, "/sd"); !strings.Contains(body, sub.ID) {
		t.Fatalf("/sd does not list it: %s", body)
	}
	if status, _, body := s.get(t, "/probe?target="+sub.ID); status != http.StatusOK || !strings.Contains(body, "probe_success 1") {
		t.Errorf("status %d, %s", status, body)
	}
}

// A thousand concurrent probes share one token, one list, a few connections and the limit of
// concurrent requests.
func TestProbe_Thousand(t *testing.T) {
	tenant := simulator.Generate(250, 2)
	tenant.Latency = 2 * time.Millisecond
	s := start(t, tenant, DefaultConfig(), azure.Config{Concurrency: 8})
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
		t.Errorf("%d concurrent requests, want up to 8", got)
	}
	if requests[simulator.RouteSubscriptions] != 1 || requests[simulator.RouteToken] != 1 {
		t.Errorf("requests: %v", requests)
	}
	if got := s.Connections(); got > 8 {
		t.Errorf("%d connections to Azure, want up to 8", got)
	}
}

// Overlapping probes of one subscription share one read, and a patient one gets its own time.
func TestProbe_SharedRead(t *testing.T) {
	tenant := simulator.Generate(1, 1)
	id := tenant.Subscriptions[0].ID
	s := start(t, tenant, DefaultConfig(), azure.Config{})
	s.SetFault(id, simulator.Slow(time.Second))
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			if _, _, body := s.get(t, "/probe?target="+id); !strings.Contains(body, "probe_success 1") {
				t.Errorf("not the shared read's result: %s", body)
			}
		})
	}
	group.Wait()
	if n := s.Requests()[simulator.RouteSecureScores]; n != 1 {
		t.Errorf("%d reads for 20 overlapping probes", n)
	}

	group.Go(func() {
		s.get(t, "/probe?target="+id, "X-Prometheus-Scrape-Timeout-Seconds", "0.6")
	})
	waitFor(t, func() bool { return s.Requests()[simulator.RouteSecureScores] == 2 })
	if _, _, body := s.get(t, "/probe?target="+id, "X-Prometheus-Scrape-Timeout-Seconds", "20"); !strings.Contains(body, "probe_success 1") {
		t.Errorf("the patient probe got the impatient one's timeout: %s", body)
	}
	group.Wait()
}

// A probe that gives up has failed, and the read that it joined has not.
func TestProbe_GivingUpIsNoFailedRead(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(1, 1)
	id := tenant.Subscriptions[0].ID
	s := start(t, tenant, DefaultConfig(), azure.Config{})
	answer := make(chan struct{})
	s.SetFault(id, simulator.Times(2, func(w http.ResponseWriter, r *http.Request, next http.Handler) { // both lists
		<-answer
		next.ServeHTTP(w, r)
	}))
	patient := make(chan string)
	go func() { _, _, body := s.get(t, "/probe?target="+id); patient <- body }()
	waitFor(t, func() bool { return s.Requests()[simulator.RouteSecureScores] == 1 })
	if _, _, body := s.get(t, "/probe?target="+id, "X-Prometheus-Scrape-Timeout-Seconds", "0.1"); !strings.Contains(body, `reason="timeout"`) {
		t.Errorf("the impatient probe: %s", body)
	}
	close(answer)
	if body := <-patient; !strings.Contains(body, "probe_success 1") {
		t.Errorf("the patient probe: %s", body)
	}
	if got := value(s.scrape(t, "10"), prefix+`scrape_failures_total{reason="timeout"}`); got != "0" {
		t.Errorf("%s failed reads, want none", got)
	}
}

// Hundreds of probes leave /metrics its share of the requests to Azure.
func TestProbe_MetricsKeepTheirShare(t *testing.T) {
	tenant := simulator.Generate(300, 1)
	tenant.Latency = 20 * time.Millisecond
	s := start(t, tenant, DefaultConfig(), azure.Config{Concurrency: 8})
	s.get(t, "/sd")
	var group sync.WaitGroup
	for n := range 900 {
		group.Go(func() {
			s.get(t, "/probe?target="+tenant.Subscriptions[n%300].ID, "X-Prometheus-Scrape-Timeout-Seconds", "20")
		})
	}
	waitFor(t, func() bool { return s.Requests()[simulator.RouteSecureScores] > 20 })
	// Alone, 600 requests at 20 ms and 8 at a time take 1.5 s.
	if n := count(s.scrape(t, "12"), "current"); n != 300 {
		t.Errorf("/metrics read %d of 300 subscriptions beside the probes", n)
	}
	group.Wait()
}
