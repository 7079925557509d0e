package azure

import (
	"bytes"
	"fmt"
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

// sameAsARM compares the results of both sources.
func sameAsARM(t *testing.T, g *ResourceGraph, ids []string) {
	t.Helper()
	fromARM, fromGraph := g.Client.SecureScores(within(t, 4*time.Minute), ids), g.SecureScores(within(t, 4*time.Minute), ids)
	for i := range ids {
		if want, got := describe(fromARM[i]), describe(fromGraph[i]); got != want {
			t.Fatalf("subscription %s: Resource Graph says\n%s\nARM says\n%s", ids[i], got, want)
		}
	}
}

// describe writes what a result says, without its times.
func describe(result Result) string {
	if result.Err != nil {
		return "failed: " + string(ReasonOf(result.Err))
	}
	var lines []string
	for _, s := range result.Scores {
		lines = append(lines, fmt.Sprintf("%+v", s))
	}
	for _, c := range result.Controls {
		lines = append(lines, fmt.Sprintf("%+v", c))
	}
	slices.Sort(lines) // Resource Graph has an order of its own
	return strings.Join(lines, "\n")
}

// Both forms of the query say what ARM says, at every page size.
func TestResourceGraph_Values(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		subscriptions, pageSize, queries int
		refuse                           bool
	}{
		"packed":                      {1200, 1000, 2, false},
		"plain, 1000 in pages of 100": {1000, 100, 172, true},
		"plain, 1000 in pages of 7":   {1000, 7, 0, true},
		"plain, pages of 7":           {40, 7, 100, true}, // 680 rows, after both packed forms were refused
		"plain, pages of 100":         {200, 100, 36, true},
		"plain, pages of 1000":        {1000, 1000, 19, true},
		"plain, a full page at end":   {100, 1700 / 4, 6, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenant := simulator.Generate(test.subscriptions, 16)
			tenant.ResourceGraph.Queries = 10_000
			tenant.ResourceGraph.NoPacking = test.refuse
			var logged bytes.Buffer
			sim, client := start(t, tenant, Config{Logger: log.NewLogfmtLogger(&logged)})
			g := newResourceGraph(client, test.pageSize, newGraphQuota(10_000))
			sameAsARM(t, g, ids(tenant))
			if got := sim.Requests()[simulator.RouteGraph]; test.queries > 0 && got != test.queries {
				t.Errorf("%d queries, want %d", got, test.queries)
			}
			if warned := strings.Count(logged.String(), "rejects the preferred form"); warned != map[bool]int{true: 1}[test.refuse] {
				t.Errorf("warned %d times:\n%s", warned, logged.String())
			}
			if sim.Throttled() != 0 {
				t.Errorf("%d queries were throttled", sim.Throttled())
			}
		})
	}
}

// ARM tells apart why a subscription has no rows; its results are kept for a while.
func TestResourceGraph_MissingRows(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(6, 2)
	tenant.Subscriptions[1].NoScore = true
	tenant.Subscriptions[2].NoAccess = true
	all := append(ids(tenant), "99999999-0000-4000-8000-000000000000")
	var clock clock
	sim, g := startGraph(t, tenant, Config{now: clock.now})
	sim.SetGraphFault(simulator.DropRows(tenant.Subscriptions[3].ID)) // as Resource Graph lags behind
	sameAsARM(t, g, all)
	results := g.SecureScores(within(t, time.Minute), all)
	for i, want := range []string{0: "", 1: "", 2: "failed: forbidden", 3: "", 6: "failed: not_found"} {
		if got := describe(results[i]); want != "" && got != want {
			t.Errorf("subscription %d: %s, want %s", i, got, want)
		}
	}
	if len(results[1].Scores) != 0 || len(results[3].Scores) != 1 {
		t.Errorf("unscored: %+v, lagging: %+v", results[1], results[3])
	}

	for _, test := range []struct {
		age  time.Duration
		want []int // the subscriptions that ARM is asked about again
	}{{0, []int{3}}, {fallbackAge, []int{1, 2, 3, 6}}} {
		clock.advance(test.age)
		asked := clock.now()
		var again []int
		for i, result := range g.SecureScores(within(t, time.Minute), all) {
			if slices.Contains([]int{1, 2, 3, 6}, i) && !result.StartedAt.Before(asked) {
				again = append(again, i)
			}
		}
		if !slices.Equal(again, test.want) {
			t.Errorf("after %s ARM was asked again about %v, want %v", test.age, again, test.want)
		}
	}
}

// Resource Graph refuses a query if the identity can read none of its subscriptions. ARM knows why.
func TestResourceGraph_RefusesAllSubscriptions(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]simulator.Fault{
		"403": simulator.Forbidden(),
		"400": simulator.Body(400, "application/json", `{"error":{"code":"BadRequest","message":"…","details":[{"code":"NoValidSubscriptionsInQueryRequest","message":"…"}]}}`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenant := simulator.Generate(4, 1)
			tenant.Subscriptions[0].NoAccess = true
			tenant.Subscriptions[1].NoScore = true
			sim, g := startGraph(t, tenant, Config{})
			sim.SetGraphFault(fault)
			sim.SetFault(tenant.Subscriptions[2].ID, simulator.NotRegistered())
			sameAsARM(t, g, ids(tenant))
			results := g.SecureScores(within(t, time.Minute), ids(tenant))
			for i, want := range []string{"failed: forbidden", "", "failed: not_registered"} {
				if got := describe(results[i]); got != want {
					t.Errorf("subscription %d: %s, want %s", i, got, want)
				}
			}
			if len(results[3].Scores) != 1 {
				t.Errorf("got %+v", results[3])
			}
			if got := sim.Requests()[simulator.RouteGraph]; got != 2 {
				t.Errorf("%d queries, want one for each call", got)
			}
		})
	}
}

func TestResourceGraph_Connectors(t *testing.T) {
	t.Parallel()
	tenant := simulator.Demo()
	_, g := startGraph(t, tenant, Config{})
	found := map[string]int{}
	for _, result := range g.SecureScores(within(t, time.Minute), ids(tenant)) {
		for _, s := range result.Scores {
			found[s.Environment+" "+s.Connector]++
		}
		for _, c := range result.Controls {
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

func TestResourceGraph_HalvesBatchesThatAreTooLarge(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]simulator.Fault{
		"truncated":         simulator.ResultTruncated(30),
		"payload too large": simulator.PayloadTooLarge(30),
		"gateway timeout":   simulator.GatewayTimeout(30),
		"body too large":    simulator.OnBatchesOver(30, simulator.Huge(1<<30, true)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenant := simulator.Generate(100, 2)
			var logged bytes.Buffer
			sim, g := startGraph(t, tenant, Config{Logger: log.NewLogfmtLogger(&logged)})
			sim.SetGraphFault(fault)
			sameAsARM(t, g, ids(tenant))
			if got := sim.Requests()[simulator.RouteGraph]; got != 7 { // 100, 50, 25, 25, 50, 25, 25
				t.Errorf("%d queries, want 7", got)
			}
			if logged.Len() > 0 {
				t.Errorf("logged %s", logged.String())
			}
		})
	}
}

func TestResourceGraph_Reasons(t *testing.T) {
	t.Parallel()
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
		"rows missing":      {simulator.Body(200, "application/json", `{"totalRecords":2,"data":[]}`), false, ReasonInvalidResponse},
		"object":            {simulator.Body(200, "application/json", `{}`), false, ReasonInvalidResponse},
		"null":              {simulator.Body(200, "application/json", `null`), false, ReasonInvalidResponse},
		"data is null":      {simulator.Body(200, "application/json", `{"totalRecords":0,"data":null}`), false, ReasonInvalidResponse},
		"data is an object": {simulator.Body(200, "application/json", `{"totalRecords":0,"data":{}}`), false, ReasonInvalidResponse},
		"200 with an error": {simulator.Body(200, "application/json", `{"error":{"code":"InternalServerError"}}`), false, ReasonInvalidResponse},
		"error beside data": {simulator.Body(200, "application/json", `{"totalRecords":0,"data":[],"error":{"message":"x"}}`), false, ReasonInvalidResponse},
		"null row":          {simulator.Body(200, "application/json", `{"totalRecords":1,"data":[null]}`), false, ReasonInvalidResponse},
		"HTML 403":          {simulator.Body(403, "text/html", `<html>`), false, ReasonInvalidResponse},
		"throttled by 503":  {simulator.Error(503, "TooManyRequests", "…"), false, ReasonThrottled},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenant := simulator.Generate(1, 4)
			tenant.ResourceGraph.NoPacking = test.plain
			var logged bytes.Buffer
			sim, client := start(t, tenant, Config{Logger: log.NewLogfmtLogger(&logged)})
			g := newResourceGraph(client, 2, newGraphQuota(graphQuotaQueries))
			sim.SetGraphFault(test.fault)
			result := g.SecureScores(within(t, 3*time.Second), ids(tenant))[0]
			if got := ReasonOf(result.Err); got != test.want {
				t.Errorf("reason %q, want %q: %v", got, test.want, result.Err)
			}
			if logged.Len() > 0 {
				t.Errorf("logged %s", logged.String())
			}
		})
	}
}

// ARM's last result is used while ARM has no time for another one, but not for ever, and any other
// answer of ARM replaces it.
func TestResourceGraph_KeepsResultsOfARM(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		age   time.Duration
		fault simulator.Fault
		want  Reason
	}{
		"recent":            {0, simulator.ServerError(500), ""},
		"due, timeout":      {fallbackAge, simulator.Hang(), ""},
		"due, throttled":    {fallbackAge, simulator.Throttle(-1, time.Minute), ""},
		"too old, timeout":  {2 * fallbackAge, simulator.Hang(), ReasonTimeout},
		"due, server error": {fallbackAge, simulator.ServerError(500), ReasonServerError},
		"due, garbage":      {fallbackAge, simulator.Garbage(), ReasonInvalidResponse},
		"due, rejected":     {fallbackAge, simulator.ExpiredToken(), ReasonAuthentication},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenant := simulator.Generate(2, 1)
			tenant.Subscriptions[1].NoScore = true
			var clock clock
			sim, g := startGraph(t, tenant, Config{now: clock.now})
			g.SecureScores(within(t, time.Minute), ids(tenant))
			clock.advance(test.age)
			sim.SetFault(tenant.Subscriptions[1].ID, test.fault)
			if result := g.SecureScores(within(t, 2*time.Second), ids(tenant))[1]; ReasonOf(result.Err) != test.want || len(result.Scores) != 0 {
				t.Errorf("got %+v", result)
			}
		})
	}
}

func TestResourceGraph_DropsResultOfARMOnceThereAreRows(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(2, 1)
	scored := tenant.Subscriptions[1]
	tenant.Subscriptions[1].NoScore = true
	sim, g := startGraph(t, tenant, Config{})
	g.SecureScores(within(t, time.Minute), ids(tenant))
	sim.SetSubscription(scored)
	g.SecureScores(within(t, time.Minute), ids(tenant))
	sim.SetGraphFault(simulator.DropRows(scored.ID))
	sim.SetFault(scored.ID, simulator.ServerError(500))
	if result := g.SecureScores(within(t, 5*time.Second), ids(tenant))[1]; ReasonOf(result.Err) != ReasonServerError {
		t.Errorf("got %+v", result)
	}
}
