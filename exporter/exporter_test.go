package exporter

import (
	"bytes"
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// The Go collector's package starts this one once for the process.
		goleak.IgnoreCurrent())
}

// system is an exporter between a simulated Azure and a client that scrapes.
type system struct {
	*simulator.Server
	exporter *Exporter
	server   *httptest.Server
	log      *lockedBuffer
}

type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

func defaults() Config {
	return Config{
		ScrapeTimeout: time.Minute, TimeoutOffset: 500 * time.Millisecond, MaxStale: time.Hour,
		DiscoveryInterval: 10 * time.Minute, MaxRequests: 40,
	}
}

// epoch is the simulator's clock in tests, so that its quotas are always the same.
var epoch = time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)

func start(t testing.TB, tenant simulator.Tenant, cfg Config, azureCfg azure.Config) *system {
	t.Helper()
	return startFrom(t, tenant, cfg, azureCfg, func(c *azure.Client) Source { return c })
}

func startFrom(t testing.TB, tenant simulator.Tenant, cfg Config, azureCfg azure.Config, source func(*azure.Client) Source) *system {
	t.Helper()
	tenant.Now = cmpFunc(tenant.Now, func() time.Time { return epoch })
	sim, err := simulator.Start(tenant)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	s := &system{Server: sim, log: &lockedBuffer{}}
	cfg.Logger = log.NewLogfmtLogger(s.log)
	api := NewAPIMetrics()
	azureCfg.Cloud, azureCfg.RootCAs, azureCfg.Credential = sim.Cloud(), sim.RootCAs(), sim.Credential
	azureCfg.Observe, azureCfg.Logger = api.Observe, cfg.Logger
	client, err := azure.New(azureCfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	if s.exporter, err = New(source(client), api, cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.exporter.Close)
	handler, err := s.exporter.Handler()
	if err != nil {
		t.Fatal(err)
	}
	s.server = httptest.NewServer(handler)
	t.Cleanup(s.server.Close)
	return s
}

func cmpFunc(f, otherwise func() time.Time) func() time.Time {
	if f == nil {
		return otherwise
	}
	return f
}

// scrape asks for /metrics as Prometheus does, with its timeout in seconds, and
// returns the lines of this project's metrics.
func (s *system) scrape(t testing.TB, timeout string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.server.URL+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	if timeout != "" {
		req.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", timeout)
	}
	resp, err := s.server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("scrape: status %d, error %v, body %.200s", resp.StatusCode, err, body)
	}
	var lines []string
	for line := range strings.Lines(string(body)) {
		if strings.Contains(line, "azure_secure_score_") {
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
	return lines
}

var volatile = []struct{ pattern, replacement string }{
	{`^(azure_secure_score_subscription_last_success_timestamp_seconds\{.*\}) \d.*`, "$1 TIMESTAMP"},
	{`^(azure_secure_score_scrape_duration_seconds) .*`, "$1 SECONDS"},
	// How long calls take is not for a golden file, and neither is how many of the
	// other call's attempts were made when one call of a subscription fails.
	{`.*azure_secure_score_(api_request|exporter_build_info).*`, ""},
}

// golden compares the lines with a file, without what changes from run to run.
func golden(t *testing.T, name string, lines []string) {
	t.Helper()
	var stable []string
	for _, line := range lines {
		for _, v := range volatile {
			line = regexp.MustCompile(v.pattern).ReplaceAllString(line, v.replacement)
		}
		if line != "" {
			stable = append(stable, line)
		}
	}
	got := strings.Join(stable, "\n") + "\n"
	file := filepath.Join("testdata", strings.NewReplacer(" ", "_", ",", "").Replace(name)+".prom")
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs:\n%s", file, difference(string(want), got))
	}
}

func difference(want, got string) string {
	var b strings.Builder
	for line := range strings.Lines(want) {
		if !strings.Contains(got, line) {
			b.WriteString("- " + line)
		}
	}
	for line := range strings.Lines(got) {
		if !strings.Contains(want, line) {
			b.WriteString("+ " + line)
		}
	}
	return b.String()
}

// of returns the lines about one subscription.
func of(lines []string, id string) []string {
	var about []string
	for _, line := range lines {
		if strings.Contains(line, `subscription_id="`+id+`"`) {
			about = append(about, line)
		}
	}
	return about
}

// value returns the value of a series, written as in the exposition format.
func value(lines []string, series string) string {
	for _, line := range lines {
		if v, ok := strings.CutPrefix(line, series+" "); ok {
			return v
		}
	}
	return ""
}

const prefix = "azure_secure_score_"

func TestAllWell(t *testing.T) {
	s := start(t, simulator.Generate(5, 2), defaults(), azure.Config{})
	golden(t, "all well", s.scrape(t, "10"))
}

// One subscription fails or answers oddly; its four neighbours are complete, and
// its own part says what is wrong.
func TestFaults(t *testing.T) {
	elsewhere := httptest.NewTLSServer(http.NotFoundHandler())
	defer elsewhere.Close()
	well := start(t, simulator.Generate(5, 2), defaults(), azure.Config{}).scrape(t, "10")
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
		"huge body, length told":      simulator.Huge(1<<30, true),
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
			cfg := defaults()
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
				got, want := of(lines, neighbour.ID), of(well, neighbour.ID)
				for i := range want {
					if i >= len(got) || got[i] != want[i] && !strings.Contains(want[i], "timestamp") {
						t.Fatalf("neighbour differs from when all is well:\n%s", difference(strings.Join(want, "\n"), strings.Join(got, "\n")))
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
			// The process goes on, and the subscription recovers.
			s.SetFault(bad, nil)
			if got := value(s.scrape(t, "10"), prefix+`subscription_scrape_success{subscription_id="`+bad+`"}`); got != "1" {
				t.Errorf("after the fault: success %q", got)
			}
		})
	}
}

// With a cache the first answer is the same: what is there at the deadline is served.
func TestFaultsWithCache(t *testing.T) {
	for name, fault := range map[string]simulator.Fault{
		"status 403": simulator.Forbidden(),
		"status 500": simulator.ServerError(500),
		"hang":       simulator.Hang(),
		"garbage":    simulator.Garbage(),
		"null score": simulator.NullScore(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := defaults()
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
			// The neighbours are not asked again for the sake of one that fails.
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

// count returns how many series a metric has.
func count(lines []string, metric string) int {
	n := 0
	for _, line := range lines {
		if strings.HasPrefix(line, prefix+metric+"{") {
			n++
		}
	}
	return n
}

// An expired secret fails all with one call to the token endpoint and none to ARM,
// and takes no value away.
func TestExpiredSecret(t *testing.T) {
	s := start(t, simulator.Generate(3, 1), defaults(), azure.Config{})
	s.SetTokenFault(simulator.ExpiredSecret())
	golden(t, "expired secret at start", s.scrape(t, "10"))

	s.SetTokenFault(nil)
	s.scrape(t, "10")
	s.SetTokenFault(simulator.ExpiredSecret())
	s.ExpireTokens()
	// azidentity would go on using the token that it holds, so this exporter is told
	// by ARM. The next one starts with an expired secret and a configured list.
	lines := s.scrape(t, "10")
	if got := value(lines, prefix+`scrape_failures_total{reason="authentication"}`); got != "3" {
		t.Errorf("%s authentication failures, want 3", got)
	}
	golden(t, "expired secret later", lines)

	s = start(t, simulator.Generate(3, 1), defaults(), azure.Config{SubscriptionIDs: []string{simulator.Generate(1, 1).Subscriptions[0].ID}})
	s.SetTokenFault(simulator.ExpiredSecret())
	golden(t, "expired secret with configured subscription", s.scrape(t, "10"))
	if r := s.Requests(); r[simulator.RouteToken] != 1 || r[simulator.RouteSubscriptions]+r[simulator.RouteSecureScores]+r[simulator.RouteControls] != 0 {
		t.Errorf("requests: %v", r)
	}
	if n := strings.Count(s.log.String(), "reason=authentication"); n != 1 {
		t.Errorf("the failure is told %d times, want once:\n%s", n, s.log)
	}
}

// A subscription that Azure does not score is not asked for, and so does not fail.
func TestDisabledDoesNotFail(t *testing.T) {
	tenant := simulator.Generate(2, 1)
	tenant.Subscriptions[1].State = "Disabled"
	s := start(t, tenant, defaults(), azure.Config{})
	s.SetTokenFault(simulator.Number("expires_in", "1")) // too short a life to be kept
	s.scrape(t, "10")
	s.SetTokenFault(simulator.ExpiredSecret())
	lines := s.scrape(t, "10")
	if got := value(lines, prefix+`scrape_failures_total{reason="authentication"}`); got != "1" {
		t.Errorf("%s authentication failures, want 1", got)
	}
	if _, _, body := s.get(t, "/status?state=unscored"); !strings.Contains(body, "Disabled") || strings.Contains(body, "what helps") {
		t.Errorf("the status page tells of a failure:\n%s", body)
	}
}

// The list of subscriptions comes and goes; those known before are read on.
func TestDiscovery(t *testing.T) {
	tenant := simulator.Generate(3, 1)
	cfg := defaults()
	cfg.DiscoveryInterval = 0
	s := start(t, tenant, cfg, azure.Config{})
	first := tenant.Subscriptions[0]

	s.SetListFault(simulator.Forbidden())
	golden(t, "listing forbidden from the start", s.scrape(t, "10"))
	s.SetListFault(nil)
	s.scrape(t, "10")
	s.SetListFault(simulator.ServerError(500))
	golden(t, "listing fails after it worked", s.scrape(t, "10"))
	s.SetListFault(simulator.Hang())
	lines := s.scrape(t, "3")
	if value(lines, prefix+"up") != "0" || value(lines, prefix+`subscription_scrape_success{subscription_id="`+first.ID+`"}`) != "1" {
		t.Errorf("a list that hangs keeps the scores from being read:\n%s", strings.Join(lines, "\n"))
	}
	s.SetListFault(nil)

	s.RemoveSubscription(first.ID)
	appeared := simulator.Generate(9, 1).Subscriptions[8]
	s.SetSubscription(appeared)
	unscored := tenant.Subscriptions[1]
	unscored.NoScore = true
	s.SetSubscription(unscored)
	disabled := tenant.Subscriptions[2]
	disabled.State = "Disabled"
	s.SetSubscription(disabled)
	lines = s.scrape(t, "10")
	golden(t, "one gone, one new, one unscored, one disabled", lines)
	if len(of(lines, first.ID)) != 0 {
		t.Errorf("the subscription that is gone is still told of")
	}
}

// The list is kept for the interval and not asked for at every scrape.
func TestDiscoveryInterval(t *testing.T) {
	s := start(t, simulator.Generate(2, 1), defaults(), azure.Config{})
	s.scrape(t, "10")
	s.scrape(t, "10")
	if n := s.Requests()[simulator.RouteSubscriptions]; n != 1 {
		t.Errorf("%d lists of subscriptions for two scrapes, want 1", n)
	}
	s.exporter.discovery.listedAt = s.exporter.discovery.listedAt.Add(-11 * time.Minute)
	s.scrape(t, "10")
	if n := s.Requests()[simulator.RouteSubscriptions]; n != 2 {
		t.Errorf("%d lists of subscriptions after the interval, want 2", n)
	}
}

// The last good values are served while the subscription fails, up to the limit.
func TestLastGoodValues(t *testing.T) {
	tenant := simulator.Generate(2, 1)
	s := start(t, tenant, defaults(), azure.Config{})
	s.scrape(t, "10")
	id := tenant.Subscriptions[0].ID
	s.SetFault(id, simulator.Forbidden())
	golden(t, "last good values served", s.scrape(t, "10"))
	for _, test := range []struct {
		age  time.Duration
		want bool
	}{{59 * time.Minute, true}, {61 * time.Minute, false}} {
		for _, sub := range s.exporter.snapshot.Load().subscriptions {
			if sub.ID == id {
				sub.good.ReadAt = time.Now().Add(-test.age)
			}
		}
		lines := s.scrape(t, "10")
		if served := len(of(lines, id)) > 4; served != test.want {
			t.Errorf("values %s old served: %t, want %t", test.age, served, test.want)
		}
		if !test.want {
			golden(t, "last good values dropped", lines)
		}
	}
	// It is told of once, not at every scrape, and again when it recovers.
	s.SetFault(id, nil)
	s.scrape(t, "10")
	if n := strings.Count(s.log.String(), `level=warn`); n != 1 {
		t.Errorf("%d warnings, want 1:\n%s", n, s.log)
	}
	if !strings.Contains(s.log.String(), "level=info subscription_id="+id+` msg="subscription can be read again" reason=forbidden`) {
		t.Errorf("the recovery is not told:\n%s", s.log)
	}
}

// A timeout too short for all gives each subscription its turn over some scrapes,
// even when some hang for ever and are more than the calls in flight.
func TestTurns(t *testing.T) {
	for name, hanging := range map[string]int{"all answer": 0, "some hang": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenant := simulator.Generate(12, 1)
			tenant.Latency = 100 * time.Millisecond
			s := start(t, tenant, defaults(), azure.Config{Concurrency: 2})
			want := map[string]bool{}
			for i, sub := range tenant.Subscriptions {
				if i < hanging {
					s.SetFault(sub.ID, simulator.Hang())
					continue
				}
				want[sub.ID] = true
			}
			// 0.5 s are left of 1 s: time for the token, the list and two subscriptions or so.
			for n := range 60 {
				lines := s.scrape(t, "1")
				for id := range want {
					if value(lines, prefix+`subscription_scored{subscription_id="`+id+`"}`) == "1" {
						delete(want, id)
					}
				}
				if len(want) == 0 {
					t.Logf("all had their turn after %d scrapes", n+1)
					return
				}
				if n == 0 && hanging == 0 && len(want) == len(tenant.Subscriptions) {
					t.Fatal("no subscription was read in the first scrape")
				}
			}
			t.Errorf("never had their turn: %v", slices.Sorted(maps.Keys(want)))
		})
	}
}

// Scrapes that overlap share a collection, and one that goes away does not end it.
func TestSharedCollection(t *testing.T) {
	tenant := simulator.Generate(3, 1)
	tenant.Latency = 300 * time.Millisecond
	s := start(t, tenant, defaults(), azure.Config{})
	ctx, leave := context.WithCancel(t.Context())
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, s.server.URL+"/metrics", nil)
		if resp, err := s.server.Client().Do(req); err == nil {
			resp.Body.Close()
		}
	}()
	waitFor(t, func() bool { return s.Requests()[simulator.RouteSubscriptions] == 1 })
	var group sync.WaitGroup
	for range 5 {
		group.Go(func() {
			lines := s.scrape(t, "30")
			if value(lines, prefix+"scrapes_total") != "1" || value(lines, prefix+"up") != "1" || len(of(lines, tenant.Subscriptions[2].ID)) < 10 {
				t.Errorf("not the shared collection's result:\n%s", strings.Join(lines, "\n"))
			}
		})
	}
	leave()
	<-gone
	group.Wait()
}

// A scrape with little time does not wait for a collection that has more.
func TestImpatientScrape(t *testing.T) {
	tenant := simulator.Generate(1, 1)
	cfg := defaults()
	cfg.TimeoutOffset = 2 * time.Second // this much a busy machine may be late
	s := start(t, tenant, cfg, azure.Config{})
	s.SetFault(tenant.Subscriptions[0].ID, simulator.Hang())
	patient := make(chan struct{})
	go func() { defer close(patient); s.scrape(t, "8") }()
	waitFor(t, func() bool { return s.Requests()[simulator.RouteSecureScores] == 1 })
	began := time.Now()
	lines := s.scrape(t, "2.6")
	if took := time.Since(began); took > 2600*time.Millisecond {
		t.Errorf("took %s of 2.6s", took)
	}
	if got := value(lines, prefix+"scrapes_total"); got != "1" {
		t.Errorf("%s collections, want the one of the patient scrape", got)
	}
	<-patient
}

func TestCache(t *testing.T) {
	cfg := defaults()
	cfg.CacheTTL, cfg.MaxStale = time.Hour, 90*time.Minute
	s := start(t, simulator.Generate(2, 1), cfg, azure.Config{})
	first := s.scrape(t, "10")
	for range 3 {
		if again := s.scrape(t, "10"); value(again, prefix+"scrapes_total") != "1" || len(again) != len(first) {
			t.Errorf("a fresh snapshot was not served")
		}
	}
	// An old snapshot is served once more, and renewed behind the scrape.
	s.age(time.Hour)
	tenant := simulator.Generate(2, 1)
	s.SetFault(tenant.Subscriptions[0].ID, simulator.Slow(500*time.Millisecond))
	began := time.Now()
	old := s.exporter.snapshot.Load()
	if again := s.scrape(t, "10"); len(again) != len(first) || time.Since(began) > 400*time.Millisecond && s.exporter.snapshot.Load() != old {
		t.Errorf("the scrape waited for the new snapshot")
	}
	waitFor(t, func() bool { return s.exporter.snapshot.Load() != old })
	if again := s.scrape(t, "10"); value(again, prefix+"scrapes_total") != "2" {
		t.Errorf("%s collections, want 2", value(again, prefix+"scrapes_total"))
	}
	// One that is older than values may be is not.
	s.age(2 * time.Hour)
	old = s.exporter.snapshot.Load()
	s.scrape(t, "10")
	if s.exporter.snapshot.Load() == old {
		t.Errorf("a snapshot was served that is too old")
	}
}

// age makes all that is known older.
func (s *system) age(by time.Duration) {
	now := s.exporter.snapshot.Load()
	older := &snapshot{at: now.at.Add(-by), duration: now.duration, err: now.err, traffic: now.traffic}
	for _, sub := range now.subscriptions {
		sub := *sub
		sub.turn = sub.turn.Add(-by)
		if sub.good != nil {
			good := *sub.good
			good.ReadAt = good.ReadAt.Add(-by)
			sub.good = &good
		}
		older.subscriptions = append(older.subscriptions, &sub)
	}
	older.render(older.at, s.exporter.cfg.MaxStale)
	s.exporter.snapshot.Store(older)
}

// What is served is what is simulated, for many subscriptions and small pages.
func TestValues(t *testing.T) {
	tenant := simulator.Generate(50, 15)
	tenant.PageSize = 3
	s := start(t, tenant, defaults(), azure.Config{})
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
		check(fmt.Sprintf(`subscription_info{subscription_id="%s",subscription_name="%s",subscription_state="Enabled",tenant_id="%s"}`, sub.ID, sub.Name, simulator.TenantID), 1)
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

// The order in which metrics are made is Gather's own: gathering does not change it.
func TestSnapshotIsSorted(t *testing.T) {
	s := start(t, simulator.Generate(7, 7), defaults(), azure.Config{})
	s.scrape(t, "30")
	var sorted, made []string
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(s.exporter.snapshot.Load())
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			sorted = append(sorted, f.GetName()+" "+m.String())
		}
	}
	byFamily := map[string][]string{}
	ch := make(chan prometheus.Metric)
	go func() { s.exporter.snapshot.Load().Collect(ch); close(ch) }()
	for m := range ch {
		one := prometheus.NewRegistry()
		one.MustRegister(single{m})
		f, err := one.Gather()
		if err != nil {
			t.Fatal(err)
		}
		byFamily[f[0].GetName()] = append(byFamily[f[0].GetName()], f[0].GetName()+" "+f[0].GetMetric()[0].String())
	}
	for _, name := range slices.Sorted(maps.Keys(byFamily)) {
		made = append(made, byFamily[name]...)
	}
	if !slices.Equal(sorted, made) {
		t.Errorf("the snapshot's order is not Gather's")
	}
}

type single struct{ prometheus.Metric }

func (s single) Describe(ch chan<- *prometheus.Desc) { ch <- s.Desc() }

func (s single) Collect(ch chan<- prometheus.Metric) { ch <- s.Metric }

func TestGatherAndLint(t *testing.T) {
	s := start(t, simulator.Generate(3, 3), defaults(), azure.Config{})
	s.SetFault(simulator.Generate(1, 1).Subscriptions[0].ID, simulator.Forbidden()) // so that there is a failure to tell
	s.scrape(t, "30")
	problems, err := testutil.GatherAndLint(prometheus.GathererFunc(s.exporter.gather))
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

func TestTimeout(t *testing.T) {
	e := &Exporter{cfg: Config{ScrapeTimeout: 60 * time.Second, TimeoutOffset: 500 * time.Millisecond}}
	for header, want := range map[string]time.Duration{
		"": 60 * time.Second, "10": 9500 * time.Millisecond, "9.5": 9 * time.Second, "60": 59500 * time.Millisecond, "120": 60 * time.Second,
		"0.5": 250 * time.Millisecond, "0.4": 200 * time.Millisecond, "0.8": 400 * time.Millisecond, "0": 60 * time.Second, "-1": 60 * time.Second,
		"NaN": 60 * time.Second, "+Inf": 60 * time.Second, "1e300": 60 * time.Second, "ten": 60 * time.Second,
	} {
		r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		r.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", header)
		if got := e.timeout(r); got != want {
			t.Errorf("header %q: %s, want %s", header, got, want)
		}
	}
}

func TestEndpoints(t *testing.T) {
	cfg := defaults()
	cfg.MaxRequests = 1
	tenant := simulator.Generate(1, 1)
	s := start(t, tenant, cfg, azure.Config{})
	get := func(path, encoding string) (int, http.Header, string) {
		if encoding == "openmetrics" {
			return s.get(t, path, "Accept", openMetrics)
		}
		return s.get(t, path, "Accept-Encoding", cmp.Or(encoding, "identity"))
	}
	for path, want := range map[string]string{"/-/healthy": "healthy\n", "/-/ready": "ready\n", "/": "/metrics"} {
		if status, _, body := get(path, ""); status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %q", path, status, body)
		}
	}
	if status, _, _ := get("/nothing", ""); status != http.StatusNotFound {
		t.Errorf("/nothing: %d", status)
	}
	if total := len(s.Requests()); total != 0 {
		t.Errorf("Azure was called before a scrape: %v", s.Requests())
	}
	for _, encoding := range []string{"gzip", "zstd"} {
		if _, header, _ := get("/metrics", encoding); header.Get("Content-Encoding") != encoding {
			t.Errorf("asked for %s, got %q", encoding, header.Get("Content-Encoding"))
		}
	}
	if _, header, body := get("/metrics", "openmetrics"); !strings.HasPrefix(header.Get("Content-Type"), "application/openmetrics-text") || !strings.HasSuffix(body, "# EOF\n") {
		t.Errorf("no OpenMetrics: %q", header.Get("Content-Type"))
	}

	// One scrape is allowed in flight; the next is refused, and so is any while draining.
	s.SetFault(tenant.Subscriptions[0].ID, simulator.Hang())
	s.ResetRequests()
	scrape := make(chan struct{})
	go func() { defer close(scrape); s.scrape(t, "3") }()
	waitFor(t, func() bool { return s.Requests()[simulator.RouteSecureScores] == 1 })
	if status, _, _ := get("/metrics", ""); status != http.StatusServiceUnavailable {
		t.Errorf("a second scrape: %d", status)
	}
	drained := make(chan error, 1)
	go func() { drained <- s.exporter.Drain(t.Context()) }()
	waitFor(t, func() bool { status, _, _ := get("/-/ready", ""); return status == http.StatusServiceUnavailable })
	if status, _, _ := get("/-/healthy", ""); status != http.StatusOK {
		t.Errorf("/-/healthy while draining: %d", status)
	}
	<-scrape
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

// Cancel ends a collection at once; the scrape is answered all the same.
func TestCancel(t *testing.T) {
	tenant := simulator.Generate(2, 1)
	s := start(t, tenant, defaults(), azure.Config{})
	s.SetFault(tenant.Subscriptions[0].ID, simulator.Hang())
	scrape := make(chan []string)
	go func() { scrape <- s.scrape(t, "30") }()
	waitFor(t, func() bool { return s.Requests()[simulator.RouteSecureScores] == 2 })
	s.exporter.Cancel()
	lines := <-scrape
	if got := value(lines, prefix+`subscription_scrape_failure{reason="canceled",subscription_id="`+tenant.Subscriptions[0].ID+`"}`); got != "1" {
		t.Errorf("no reason canceled:\n%s", strings.Join(lines, "\n"))
	}
}

// No page and no log line, at any level, holds the secret or a token, whichever of
// the answers of Azure is strange.
func TestNoSecret(t *testing.T) {
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
			s := start(t, tenant, defaults(), azure.Config{})
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

func waitFor(t *testing.T, condition func() bool) {
	t.Helper()
	for began := time.Now(); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > 15*time.Second {
			t.Fatal("what the test waits for did not come")
		}
	}
}
