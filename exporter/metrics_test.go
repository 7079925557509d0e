package exporter

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

func TestMetrics_Golden(t *testing.T) {
	s := start(t, simulator.Generate(5, 2), DefaultConfig(), azure.Config{})
	golden(t, "all healthy", s.scrape(t, "10"))
}

// One subscription fails or answers oddly: its series show the reason, and its four neighbours are
// complete.
func TestMetrics_OneSubscriptionFails(t *testing.T) {
	elsewhere := httptest.NewTLSServer(http.NotFoundHandler())
	defer elsewhere.Close()
	healthy := start(t, simulator.Generate(5, 2), DefaultConfig(), azure.Config{}).scrape(t, "10")
	for name, fault := range map[string]simulator.Fault{
		"status 401, wrong tenant":    simulator.WrongTenant(),
		"status 401, expired token":   simulator.ExpiredToken(),
		"status 403":                  simulator.Forbidden(),
		"status 403 on controls":      simulator.OnControls(simulator.Forbidden()),
		"status 404, gone":            simulator.SubscriptionNotFound(),
		"status 404, no score":        simulator.ScoreNotFound(),
		"status 409, not registered":  simulator.NotRegistered(),
		"status 418":                  simulator.Error(418, "Teapot", "…"),
		"status 500":                  simulator.ServerError(500),
		"status 503":                  simulator.ServerError(503),
		"status 429 once":             simulator.Throttle(1, time.Second),
		"status 429 for minutes":      simulator.Throttle(-1, 372*time.Second),
		"status 429, wait too long":   simulator.Throttle(-1, 2*time.Second),
		"hang":                        simulator.Hang(),
		"slow":                        simulator.Slow(time.Minute),
		"garbage":                     simulator.Garbage(),
		"truncated":                   simulator.Truncated(),
		"huge body":                   simulator.Huge(1<<30, false),
		"huge body with length":       simulator.Huge(1<<30, true),
		"gzip bomb":                   simulator.GzipBomb(1 << 30),
		"null score":                  simulator.NullScore(),
		"empty score":                 simulator.EmptyScore(),
		"empty list":                  simulator.EmptyList(),
		"fractional max":              simulator.Number("max", "58.5"),
		"text for a number":           simulator.Number("max", `"58"`),
		"negative number":             simulator.Number("current", "-1"),
		"duplicate":                   simulator.Duplicate(),
		"hostile name, newline":       simulator.ControlName("a\nb"),
		"hostile name, quote":         simulator.ControlName(`a"} 1\`),
		"hostile name, 10 KB":         simulator.ControlName(strings.Repeat("x", 10<<10)),
		"hostile name, invalid UTF-8": simulator.ControlName("a\xff\xfeb"),
		"nextLink to itself":          simulator.NextLinkToItself(),
		"nextLink to another host":    simulator.NextLink(elsewhere.URL),
		"endless pages":               simulator.EndlessPages(),
		"redirect":                    simulator.Redirect(elsewhere.URL),
		"disabled":                    nil, // no fault of the API, but a state that is set below
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenant := simulator.Generate(5, 2)
			cfg := DefaultConfig()
			cfg.TimeoutOffset = 5 * time.Second // this much a busy machine may be late
			s := start(t, tenant, cfg, azure.Config{})
			bad := tenant.Subscriptions[2].ID
			s.SetFault(bad, fault)
			if fault == nil {
				disabled := tenant.Subscriptions[2]
				disabled.State = "Disabled"
				s.SetSubscription(disabled)
			}
			timeout := 34 * time.Second
			if name == "hang" || name == "slow" {
				timeout = 10 * time.Second
			}
			began := time.Now()
			lines := s.scrape(t, strconv.Itoa(int(timeout.Seconds())))
			if took := time.Since(began); took > timeout {
				t.Errorf("the scrape took %s: Prometheus would have given up after %s", took, timeout)
			}
			for _, neighbour := range tenant.Subscriptions {
				if neighbour.ID == bad {
					continue
				}
				got, want := of(lines, neighbour.ID), of(healthy, neighbour.ID)
				for i := range want {
					if i >= len(got) || got[i] != want[i] && !strings.Contains(want[i], "timestamp") {
						t.Fatalf("neighbour differs:\n%s", difference(strings.Join(want, "\n"), strings.Join(got, "\n")))
					}
				}
			}
			about := of(lines, bad)
			for _, line := range lines {
				if strings.HasPrefix(line, prefix+"up") || strings.HasPrefix(line, prefix+"scrape_failures") && !strings.HasSuffix(line, " 0") {
					about = append(about, line)
				}
			}
			golden(t, "fault/"+name, about)
			if fault == nil {
				return
			}
			// The exporter keeps running, and the subscription recovers.
			s.SetFault(bad, nil)
			if got := value(s.scrape(t, "10"), prefix+`subscription_scrape_success{subscription_id="`+bad+`"}`); got != "1" {
				t.Errorf("after the fault: success %q", got)
			}
		})
	}
}

// With a cache, too, the first scrape serves what is known at its deadline.
func TestMetrics_OneSubscriptionFailsWithCache(t *testing.T) {
	for name, fault := range map[string]simulator.Fault{
		"status 403": simulator.Forbidden(),
		"status 500": simulator.ServerError(500),
		"hang":       simulator.Hang(),
		"garbage":    simulator.Garbage(),
		"null score": simulator.NullScore(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := DefaultConfig()
			cfg.CacheTTL = time.Hour
			tenant := simulator.Generate(5, 2)
			s := start(t, tenant, cfg, azure.Config{})
			bad := tenant.Subscriptions[2].ID
			s.SetFault(bad, fault)
			lines := s.scrape(t, "4.5")
			if n := count(lines, "current"); n != 4 {
				t.Errorf("%d of 4 healthy neighbours:\n%s", n, strings.Join(lines, "\n"))
			}
			about := of(lines, bad)
			for _, line := range lines {
				if strings.HasPrefix(line, prefix+"up") || strings.HasPrefix(line, prefix+"scrape_failures") && !strings.HasSuffix(line, " 0") {
					about = append(about, line)
				}
			}
			golden(t, "fault/"+name, about)
			// A failing subscription does not cause its neighbours to be read again.
			for range 3 {
				s.scrape(t, "4.5")
			}
			for _, route := range []string{simulator.RouteSecureScores, simulator.RouteControls} {
				if n := s.Requests()[route]; n > 4+12 { // all of the one that fails
					t.Errorf("%d requests of %s", n, route)
				}
			}
		})
	}
}

// An expired secret costs one request to the token endpoint and none to ARM. The last good values
// are served.
func TestMetrics_ExpiredSecret(t *testing.T) {
	s := start(t, simulator.Generate(3, 1), DefaultConfig(), azure.Config{})
	s.SetTokenFault(simulator.ExpiredSecret())
	golden(t, "expired secret at start", s.scrape(t, "10"))

	s.SetTokenFault(nil)
	s.scrape(t, "10")
	s.SetTokenFault(simulator.ExpiredSecret())
	s.ExpireTokens()
	// ARM refuses the token that azidentity still holds. The next exporter starts with an expired
	// secret and a configured list.
	lines := s.scrape(t, "10")
	if got := value(lines, prefix+`scrape_failures_total{reason="authentication"}`); got != "3" {
		t.Errorf("%s authentication failures, want 3", got)
	}
	golden(t, "expired secret later", lines)

	s = start(t, simulator.Generate(3, 1), DefaultConfig(), azure.Config{SubscriptionIDs: []string{simulator.Generate(1, 1).Subscriptions[0].ID}})
	s.SetTokenFault(simulator.ExpiredSecret())
	golden(t, "expired secret with configured subscription", s.scrape(t, "10"))
	if r := s.Requests(); r[simulator.RouteToken] != 1 || r[simulator.RouteSubscriptions]+r[simulator.RouteSecureScores]+r[simulator.RouteControls] != 0 {
		t.Errorf("requests: %v", r)
	}
	if n := strings.Count(s.log.String(), "reason=authentication"); n != 1 {
		t.Errorf("the failure is logged %d times, want once:\n%s", n, s.log)
	}
}

// A disabled subscription is not read, so it does not fail.
func TestMetrics_DisabledSubscription(t *testing.T) {
	tenant := simulator.Generate(2, 1)
	tenant.Subscriptions[1].State = "Disabled"
	s := start(t, tenant, DefaultConfig(), azure.Config{})
	s.SetTokenFault(simulator.Number("expires_in", "1")) // too short a life to be kept
	s.scrape(t, "10")
	s.SetTokenFault(simulator.ExpiredSecret())
	lines := s.scrape(t, "10")
	if got := value(lines, prefix+`scrape_failures_total{reason="authentication"}`); got != "1" {
		t.Errorf("%s authentication failures, want 1", got)
	}
	if _, _, body := s.get(t, "/status?state=not-scored"); !strings.Contains(body, "Disabled") || strings.Contains(body, "how to fix") {
		t.Errorf("the status page shows a failure:\n%s", body)
	}
}

// The series have the simulated values, for many subscriptions and small pages.
func TestMetrics_Values(t *testing.T) {
	tenant := simulator.Generate(50, 15)
	tenant.PageSize = 3
	s := start(t, tenant, DefaultConfig(), azure.Config{})
	values := map[string]string{}
	for _, line := range s.scrape(t, "30") {
		end := strings.LastIndexByte(line, ' ')
		values[line[:end]] = line[end+1:]
	}
	count := 0
	check := func(series string, want float64) {
		t.Helper()
		count++
		if got := values[prefix+series]; got != fmt.Sprint(want) {
			t.Errorf("%s is %q, want %v", series, got, want)
		}
	}
	for _, sub := range tenant.Subscriptions {
		labels := fmt.Sprintf(`environment="Azure",initiative="ascScore",subscription_id="%s"`, sub.ID)
		score := sub.Score()
		check("current{"+labels+"}", score.Current)
		check("max{"+labels+"}", score.Max)
		check("ratio{"+labels+"}", score.Ratio)
		check("weight{"+labels+"}", float64(sub.Weight()))
		check(fmt.Sprintf(`subscription_scored{subscription_id="%s"}`, sub.ID), 1)
		check(fmt.Sprintf(`subscription_info{subscription_id="%s",subscription_name="%s",subscription_owner="",subscription_state="Enabled",tenant_id="%s"}`, sub.ID, sub.Name, simulator.TenantID), 1)
		for _, c := range sub.Controls {
			name := fmt.Sprintf(`control="%s",control_id="%s",`, c.DisplayName, c.ID)
			check("control_current{"+name+labels+"}", c.Score().Current)
			check("control_max{"+name+labels+"}", c.Score().Max)
			check("control_weight{"+name+labels+"}", float64(c.Weight()))
			for state, want := range map[string]int{"healthy": c.Healthy, "unhealthy": c.Unhealthy, "not_applicable": c.NotApplicable} {
				check("control_resources{"+name+strings.Replace(labels, `,subscription`, `,state="`+state+`",subscription`, 1)+"}", float64(want))
			}
		}
	}
	if count != 50*(6+15*6) {
		t.Errorf("%d series checked", count)
	}
}

func TestMetrics_Lint(t *testing.T) {
	s := start(t, simulator.Generate(3, 3), DefaultConfig(), azure.Config{})
	s.SetFault(simulator.Generate(1, 1).Subscriptions[0].ID, simulator.Forbidden()) // so that there is a failure
	s.scrape(t, "30")
	_, _, body := s.get(t, "/metrics")
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		// What the Go collector and promhttp call their metrics is theirs.
		if strings.HasPrefix(p.Metric, "azure_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// No page and no log line, at any level, contains the secret or a token, whatever Azure answers.
func TestMetrics_NoSecret(t *testing.T) {
	var events lockedBuffer
	azure.LogSDKEvents(log.NewLogfmtLogger(&events))
	t.Cleanup(func() { azure.LogSDKEvents(log.NewNopLogger()) })
	tenant := simulator.Demo()
	id := tenant.Subscriptions[0].ID
	var seen strings.Builder
	tokens := 0
	for _, fault := range []simulator.Fault{nil, simulator.ExpiredToken(), simulator.Garbage(), simulator.Redirect("https://127.0.0.1:1/"), simulator.ExpiredSecret()} {
		for _, set := range []func(*system){
			func(s *system) { s.SetFault(id, fault) },
			func(s *system) { s.SetListFault(fault) },
			func(s *system) { s.SetTokenFault(fault) },
		} {
			s := start(t, tenant, DefaultConfig(), azure.Config{})
			set(s)
			seen.WriteString(strings.Join(s.scrape(t, "5"), "\n"))
			for _, path := range []string{"/probe?target=" + id, "/sd", "/status"} {
				_, _, body := s.get(t, path)
				seen.WriteString(body)
			}
			seen.WriteString(s.log.String())
			tokens += s.Requests()[simulator.RouteToken]
		}
	}
	seen.WriteString(events.String())
	if tokens < 15 || !strings.Contains(seen.String(), "reason=authentication") || !strings.Contains(seen.String(), "azure sdk") {
		t.Errorf("the faults were not reached: %d requests for tokens", tokens)
	}
	for _, secret := range []string{simulator.ClientSecret, simulator.TokenPrefix, "Bearer", "Sign in to the network", "Visit the Azure portal"} {
		if strings.Contains(seen.String(), secret) {
			t.Errorf("%q is on a page or in the log", secret)
		}
	}
}
