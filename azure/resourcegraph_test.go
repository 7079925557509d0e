package azure

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-kit/log"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

func startGraph(t *testing.T, tenant simulator.Tenant, cfg Config) (*simulator.Server, *ResourceGraph) {
	t.Helper()
	sim, client := start(t, tenant, cfg)
	return sim, NewResourceGraph(client)
}

// sameAsARM compares what both sources say of the subscriptions.
func sameAsARM(t *testing.T, g *ResourceGraph, ids []string) {
	t.Helper()
	fromARM, fromGraph := g.Client.SecureScores(within(t, 4*time.Minute), ids), g.SecureScores(within(t, 4*time.Minute), ids)
	for i := range ids {
		if want, got := describe(fromARM[i]), describe(fromGraph[i]); got != want {
			t.Fatalf("subscription %s: Resource Graph says\n%s\nARM says\n%s", ids[i], got, want)
		}
	}
}

// describe writes what an outcome says, without when and how it came about.
func describe(o Result) string {
	if o.Err != nil {
		return "failed: " + string(ReasonOf(o.Err))
	}
	var lines []string
	for _, s := range o.Scores {
		lines = append(lines, fmt.Sprintf("%+v", s))
	}
	for _, c := range o.Controls {
		points := c.Points
		c.Points = nil
		lines = append(lines, fmt.Sprintf("%+v %+v", c, points))
	}
	slices.Sort(lines) // Resource Graph has an order of its own
	return strings.Join(lines, "\n")
}

// Both forms of the query say what ARM says, at every page size.
func TestResourceGraphValues(t *testing.T) {
	for name, test := range map[string]struct {
		subscriptions, pageSize, queries int
		refuse                           bool
	}{
		"packed":                      {1200, 1000, 2, false},
		"plain, 1000 in pages of 100": {1000, 100, 272, true},
		"plain, 1000 in pages of 7":   {1000, 7, 0, true},
		"plain, pages of 7":           {40, 7, 99, true}, // 680 rows, after the packed query was refused
		"plain, pages of 100":         {200, 100, 35, true},
		"plain, pages of 1000":        {1000, 1000, 18, true},
		"plain, a full page at end":   {100, 1700 / 4, 5, true},
	} {
		t.Run(name, func(t *testing.T) {
			tenant := simulator.Generate(test.subscriptions, 16)
			tenant.ResourceGraph.Queries = 10_000
			tenant.ResourceGraph.NoPacking = test.refuse
			var logged bytes.Buffer
			sim, g := startGraph(t, tenant, Config{Logger: log.NewLogfmtLogger(&logged)})
			// The quota is a test of its own.
			g.quota.remaining, g.quota.resets = 10_000, time.Now().Add(time.Hour)
			g.pageSize = test.pageSize
			sameAsARM(t, g, ids(tenant))
			if got := sim.Requests()[simulator.RouteGraph]; test.queries > 0 && got != test.queries {
				t.Errorf("%d queries, want %d", got, test.queries)
			}
			if warned := strings.Count(logged.String(), "refuses the packed query"); warned != map[bool]int{true: 1}[test.refuse] {
				t.Errorf("warned %d times:\n%s", warned, logged.String())
			}
			if sim.Throttled() != 0 {
				t.Errorf("%d queries were throttled", sim.Throttled())
			}
		})
	}
}

// What has no rows is told apart by ARM, which is asked once in a while.
func TestResourceGraphMissing(t *testing.T) {
	tenant := simulator.Generate(6, 2)
	tenant.Subscriptions[1].NoScore = true
	tenant.Subscriptions[2].NoAccess = true
	all := append(ids(tenant), "99999999-0000-4000-8000-000000000000")
	sim, g := startGraph(t, tenant, Config{})
	sim.SetGraphFault(simulator.DropRows(tenant.Subscriptions[3].ID)) // as Resource Graph lags behind
	sameAsARM(t, g, all)
	outcomes := g.SecureScores(within(t, time.Minute), all)
	for i, want := range []string{0: "", 1: "", 2: "failed: forbidden", 3: "", 6: "failed: not_found"} {
		if got := describe(outcomes[i]); want != "" && got != want {
			t.Errorf("subscription %d: %s, want %s", i, got, want)
		}
	}
	if len(outcomes[1].Scores) != 0 || len(outcomes[3].Scores) != 1 {
		t.Errorf("unscored: %+v, lagging: %+v", outcomes[1], outcomes[3])
	}

	// Whether ARM was asked again is seen by when the outcome began, and not by the calls:
	// a list that is refused may keep the other from being asked for, or not.
	askAgain := func(age time.Duration) (again []int) {
		t.Helper()
		for id, verdict := range g.verdicts {
			verdict.StartedAt = verdict.StartedAt.Add(-age)
			g.verdicts[id] = verdict
		}
		asked := time.Now()
		outcomes := g.SecureScores(within(t, time.Minute), all)
		for _, i := range []int{1, 2, 3, 6} {
			if !outcomes[i].StartedAt.Before(asked) {
				again = append(again, i)
			}
		}
		return again
	}
	if got := askAgain(0); !slices.Equal(got, []int{3}) {
		t.Errorf("ARM was asked again of %v, want only 3, on which Resource Graph lags behind", got)
	}
	if got := askAgain(verdictAge); !slices.Equal(got, []int{1, 2, 3, 6}) {
		t.Errorf("ARM was asked again of %v when its verdicts were old, want 1, 2, 3 and 6", got)
	}
}

// When the identity may read none of a batch, Resource Graph refuses it.
func TestResourceGraphForbidden(t *testing.T) {
	tenant := simulator.Generate(2, 1)
	tenant.Subscriptions[0].NoAccess, tenant.Subscriptions[1].NoAccess = true, true
	sim, g := startGraph(t, tenant, Config{})
	for _, o := range g.SecureScores(within(t, time.Minute), ids(tenant)) {
		if ReasonOf(o.Err) != ReasonForbidden {
			t.Errorf("got %v", o.Err)
		}
	}
	if got := sim.Requests()[simulator.RouteSecureScores]; got != 0 {
		t.Errorf("ARM was asked %d times", got)
	}
}

func TestResourceGraphConnectors(t *testing.T) {
	tenant := simulator.Demo()
	_, g := startGraph(t, tenant, Config{})
	found := map[string]int{}
	for _, o := range g.SecureScores(within(t, time.Minute), ids(tenant)) {
		for _, s := range o.Scores {
			found[s.Environment+" "+s.Connector]++
		}
		for _, c := range o.Controls {
			if (c.Environment == "Azure") != (c.Connector == "") {
				t.Errorf("control %+v", c)
			}
		}
	}
	var connectors []string
	for key, n := range found {
		if !strings.HasPrefix(key, "Azure ") {
			connectors = append(connectors, key)
			if n != 1 {
				t.Errorf("%s: %d scores", key, n)
			}
		}
	}
	if len(connectors) != 2 || found["Azure "] != 6 {
		t.Errorf("scores by environment and connector: %v", found)
	}
}

// A batch that is too much is halved until it fits.
func TestResourceGraphHalves(t *testing.T) {
	for name, fault := range map[string]simulator.Fault{
		"truncated":         simulator.ResultTruncated(30),
		"payload too large": simulator.PayloadTooLarge(30),
		"gateway timeout":   simulator.GatewayTimeout(30),
		"more than we take": simulator.OnBatchesOver(30, simulator.Huge(1<<30, true)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenant := simulator.Generate(100, 2)
			sim, g := startGraph(t, tenant, Config{})
			sim.SetGraphFault(fault)
			sameAsARM(t, g, ids(tenant))
			if got := sim.Requests()[simulator.RouteGraph]; got != 7 { // 100, 50, 25, 25, 50, 25, 25
				t.Errorf("%d queries, want 7", got)
			}
			if g.plain.Load() {
				t.Error("took it for a refusal of the packed query")
			}
		})
	}
}

func TestResourceGraphReasons(t *testing.T) {
	for name, test := range map[string]struct {
		fault simulator.Fault
		plain bool
		want  Reason
	}{
		"garbage":           {simulator.Garbage(), false, ReasonInvalidResponse},
		"server error":      {simulator.ServerError(500), false, ReasonServerError},
		"throttled":         {simulator.Throttle(-1, time.Minute), false, ReasonThrottled},
		"hang":              {simulator.Hang(), false, ReasonTimeout},
		"cut short":         {simulator.Truncated(), false, ReasonNetwork},
		"bad request":       {simulator.Error(400, "BadRequest", "…"), false, ReasonInvalidResponse},
		"too much of one":   {simulator.PayloadTooLarge(0), false, ReasonInvalidResponse},
		"endless pages":     {simulator.RepeatSkipToken(), true, ReasonInvalidResponse},
		"redirect":          {simulator.Redirect("https://127.0.0.1:1/"), false, ReasonInvalidResponse},
		"unexpected answer": {simulator.Body(200, "application/json", `{"totalRecords":2,"data":[]}`), false, ReasonInvalidResponse},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenant := simulator.Generate(1, 4)
			sim, g := startGraph(t, tenant, Config{})
			g.plain.Store(test.plain)
			g.pageSize = 2
			sim.SetGraphFault(test.fault)
			o := g.SecureScores(within(t, 3*time.Second), ids(tenant))[0]
			if got := ReasonOf(o.Err); got != test.want {
				t.Errorf("reason %q, want %q: %v", got, test.want, o.Err)
			}
			if g.plain.Load() != test.plain {
				t.Error("took it for a refusal of the packed query")
			}
		})
	}
}

// A row that makes no sense fails its subscription alone.
func TestResourceGraphBadRow(t *testing.T) {
	for name, fault := range map[string]simulator.Fault{
		"text for a number": simulator.Rewrite(func(_ *http.Request, body []byte) []byte {
			return bytes.Replace(body, []byte(`"max":`), []byte(`"max":"x","ignored":`), 1)
		}),
		"negative number": simulator.Rewrite(func(_ *http.Request, body []byte) []byte {
			return bytes.Replace(body, []byte(`"max":`), []byte(`"max":-1,"ignored":`), 1)
		}),
	} {
		tenant := simulator.Generate(5, 2)
		sim, g := startGraph(t, tenant, Config{})
		sim.SetGraphFault(fault)
		failed := 0
		for _, o := range g.SecureScores(within(t, time.Minute), ids(tenant)) {
			if o.Err != nil {
				failed++
				if ReasonOf(o.Err) != ReasonInvalidResponse {
					t.Errorf("%s: %v", name, o.Err)
				}
			}
		}
		if failed != 1 {
			t.Errorf("%s: %d subscriptions failed, want 1", name, failed)
		}
	}
}

// The quota is waited for instead of run into, and what cannot be waited for is
// throttled at once.
func TestResourceGraphQuota(t *testing.T) {
	tenant := simulator.Generate(40, 2)
	tenant.ResourceGraph.Queries, tenant.ResourceGraph.Window = 3, time.Second
	tenant.ResourceGraph.NoPacking = true
	sim, g := startGraph(t, tenant, Config{})
	g.plain.Store(true)
	g.pageSize = 20 // 120 rows, 6 queries
	outcomes := g.SecureScores(within(t, 20*time.Second), ids(tenant))
	for _, o := range outcomes {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
	}
	if sim.Throttled() != 0 || sim.Requests()[simulator.RouteGraph] != 6 {
		t.Errorf("%d of %d queries were throttled", sim.Throttled(), sim.Requests()[simulator.RouteGraph])
	}

	// Another program uses the same quota: a refusal is waited out, too.
	sim.SetGraphFault(simulator.Throttle(1, time.Second))
	if o := g.SecureScores(within(t, 20*time.Second), ids(tenant))[0]; o.Err != nil {
		t.Errorf("after one refusal: %v", o.Err)
	}
	g.quota.remaining, g.quota.resets = 0, time.Now().Add(5*time.Second)
	began := time.Now()
	if o := g.SecureScores(within(t, 2*time.Second), ids(tenant))[0]; ReasonOf(o.Err) != ReasonThrottled || time.Since(began) > time.Second {
		t.Errorf("with too little time: %v after %s", o.Err, time.Since(began))
	}
}

func TestManagementGroups(t *testing.T) {
	tenant := simulator.Generate(6, 1)
	all := ids(tenant)
	tenant.ManagementGroups = map[string][]string{"corp": {all[0], "inner", "99999999-0000-4000-8000-000000000000"}, "inner": {all[2]}, "other": {all[5]}}
	tenant.PageSize = 2
	sim, client := start(t, tenant, Config{ManagementGroups: []string{"Corp", "other"}})
	got, err := client.Subscriptions(within(t, 20*time.Second))
	if err != nil || len(got) != 3 || got[0].ID != all[0] || got[1].ID != all[2] || got[2].ID != all[5] || got[0].Name == "" {
		t.Errorf("got %+v, %v", got, err)
	}
	sim.SetGroupFault(simulator.Forbidden())
	if _, err := client.Subscriptions(within(t, 20*time.Second)); ReasonOf(err) != ReasonForbidden || !strings.Contains(err.Error(), "management group Corp") {
		t.Errorf("forbidden: %v", err)
	}
	report := client.Check(within(t, 20*time.Second), func(int) func() { return func() {} })
	if f := report.SubscriptionList; f.OK || !strings.Contains(f.Detail, "managementGroups/descendants/read is missing") || !strings.Contains(f.Fix, "--scope /providers/Microsoft.Management/managementGroups/Corp") {
		t.Errorf("check says %+v", f)
	}
	for id, valid := range map[string]bool{"corp-1_(x).y": true, "": false, "a/b": false, "../x": false, strings.Repeat("x", 91): false} {
		if _, err := ParseManagementGroup(id); (err == nil) != valid {
			t.Errorf("%q: %v", id, err)
		}
	}
}

// What ARM once said holds while it has no time to say it again, but not for ever,
// and not against anything else that it says.
func TestResourceGraphVerdict(t *testing.T) {
	for name, test := range map[string]struct {
		age   time.Duration
		fault simulator.Fault
		want  Reason
	}{
		"young":           {0, simulator.ServerError(500), ""},
		"due, no time":    {verdictAge, simulator.Hang(), ""},
		"due, throttled":  {verdictAge, simulator.Throttle(-1, time.Minute), ""},
		"old, no time":    {2 * verdictAge, simulator.Hang(), ReasonTimeout},
		"due, no answer":  {verdictAge, simulator.ServerError(500), ReasonServerError},
		"due, no sense":   {verdictAge, simulator.Garbage(), ReasonInvalidResponse},
		"due, no consent": {verdictAge, simulator.ExpiredToken(), ReasonAuthentication},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenant := simulator.Generate(2, 1)
			tenant.Subscriptions[1].NoScore = true
			sim, g := startGraph(t, tenant, Config{})
			g.SecureScores(within(t, time.Minute), ids(tenant))
			for id, verdict := range g.verdicts {
				verdict.StartedAt = verdict.StartedAt.Add(-test.age)
				g.verdicts[id] = verdict
			}
			sim.SetFault(tenant.Subscriptions[1].ID, test.fault)
			if o := g.SecureScores(within(t, 2*time.Second), ids(tenant))[1]; ReasonOf(o.Err) != test.want || len(o.Scores) != 0 {
				t.Errorf("got %+v", o)
			}
		})
	}
}

// What ARM said of a subscription without rows is forgotten once it has some.
func TestResourceGraphVerdictEnds(t *testing.T) {
	tenant := simulator.Generate(2, 1)
	scored := tenant.Subscriptions[1]
	tenant.Subscriptions[1].NoScore = true
	sim, g := startGraph(t, tenant, Config{})
	g.SecureScores(within(t, time.Minute), ids(tenant))
	sim.SetSubscription(scored)
	g.SecureScores(within(t, time.Minute), ids(tenant))
	sim.SetGraphFault(simulator.DropRows(scored.ID))
	sim.SetFault(scored.ID, simulator.ServerError(500))
	if o := g.SecureScores(within(t, 5*time.Second), ids(tenant))[1]; ReasonOf(o.Err) != ReasonServerError {
		t.Errorf("got %+v", o)
	}
}

// A window is not over before the second is in which it ends.
func TestResourceGraphWindow(t *testing.T) {
	var q graphQuota
	q.tryTake(time.Now())
	q.update(answer{status: 200, header: http.Header{"X-Ms-User-Quota-Remaining": {"0"}, "X-Ms-User-Quota-Resets-After": {"00:00:00"}}})
	if wait := q.tryTake(time.Now()); wait <= 0 || wait > time.Second {
		t.Errorf("the next query may be sent in %s", wait)
	}
}

// Other answers' Retry-After does not stop the queries.
func TestResourceGraphRetryAfterOfOthers(t *testing.T) {
	var q graphQuota
	q.tryTake(time.Now())
	q.update(answer{status: 503, header: http.Header{"Retry-After": {"3600"}}})
	if wait := time.Until(q.resets); wait > graphQuotaWindow {
		t.Errorf("the window is over in %s", wait)
	}
	q.update(answer{status: 429, header: http.Header{"Retry-After": {"3600"}}})
	if wait := time.Until(q.resets); wait > maxQuotaWait {
		t.Errorf("the window is over in %s", wait)
	}
}
