package azure

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// Values arrive as Azure has them, however they are paged.
func TestSecureScores_Values(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(50, 15)
	tenant.PageSize = 3
	sim, client := start(t, tenant, Config{})
	ctx := within(t, time.Minute)
	subscriptions, err := client.Subscriptions(ctx)
	if err != nil || len(subscriptions) != 50 {
		t.Fatalf("%d subscriptions, error %v", len(subscriptions), err)
	}
	results := client.SecureScores(ctx, ids(tenant))
	for i, want := range tenant.Subscriptions {
		if got := subscriptions[i]; got.ID != want.ID || got.Name != want.Name || got.State != "Enabled" || got.TenantID != simulator.TenantID {
			t.Errorf("subscription %d is %+v, want %+v", i, got, want)
		}
		result := results[i]
		if result.Err != nil || len(result.Scores) != 1 || len(result.Controls) != 15 {
			t.Fatalf("subscription %d: %d scores, %d controls, error %v", i, len(result.Scores), len(result.Controls), result.Err)
		}
		score := want.Score()
		wantScore := Score{Initiative: "ascScore", Environment: "Azure", Points: Points{score.Current, score.Max}, Ratio: score.Ratio, Weight: float64(want.Weight())}
		if result.Scores[0] != wantScore {
			t.Errorf("subscription %d: score %+v, want %+v", i, result.Scores[0], wantScore)
		}
		for n, c := range want.Controls {
			got := result.Controls[n]
			wantControl := Control{
				ID: c.ID, Name: c.DisplayName, Initiative: "ascScore", Environment: "Azure",
				Points: Points{c.Score().Current, c.Score().Max}, HasPoints: true, Weight: float64(c.Weight()),
				Healthy: float64(c.Healthy), Unhealthy: float64(c.Unhealthy), NotApplicable: float64(c.NotApplicable),
			}
			if got != wantControl {
				t.Errorf("subscription %d: control %+v, want %+v", i, got, wantControl)
			}
		}
	}
	// 17 pages of subscriptions, and for each of them one page of scores and 5 of controls.
	requests := sim.Requests()
	if requests[simulator.RouteSubscriptions] != 17 || requests[simulator.RouteSecureScores] != 50 || requests[simulator.RouteControls] != 250 {
		t.Errorf("requests: %v", requests)
	}
	if requests[simulator.RouteToken] != 1 {
		t.Errorf("%d token requests, want 1", requests[simulator.RouteToken])
	}
}

// When both lists fail, the reason is the one that comes first in Reasons, whichever fails first.
func TestSecureScores_BothListsFail(t *testing.T) {
	t.Parallel()
	slow := func(f simulator.Fault) simulator.Fault {
		return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			time.Sleep(100 * time.Millisecond)
			f(w, r, next)
		}
	}
	for name, test := range map[string]struct {
		scores, controls simulator.Fault
		want             Reason
	}{
		"controls fail later":      {simulator.Garbage(), slow(simulator.Forbidden()), ReasonForbidden},
		"scores fail later":        {slow(simulator.Forbidden()), simulator.Garbage(), ReasonForbidden},
		"controls hang":            {simulator.SubscriptionNotFound(), simulator.Hang(), ReasonNotFound},
		"scores hang":              {simulator.Hang(), simulator.SubscriptionNotFound(), ReasonNotFound},
		"scores hang, no sense":    {simulator.Hang(), simulator.Garbage(), ReasonTimeout},
		"throttled, not connected": {simulator.Throttle(-1, time.Minute), simulator.Truncated(), ReasonThrottled},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenant := simulator.Generate(1, 1)
			sim, client := start(t, tenant, Config{})
			if err := client.Authenticate(within(t, 20*time.Second)); err != nil {
				t.Fatal(err)
			}
			sim.SetFault(ids(tenant)[0], func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				fault := test.scores
				if strings.HasSuffix(r.URL.Path, "/securescorecontrols") {
					fault = test.controls
				}
				fault(w, r, next)
			})
			if result := client.SecureScores(within(t, time.Second), ids(tenant))[0]; ReasonOf(result.Err) != test.want {
				t.Errorf("got %v, want %s", result.Err, test.want)
			}
		})
	}
}

func TestSecureScores_ItemOfAnotherSubscription(t *testing.T) {
	t.Parallel()
	const other = "99999999-0000-4000-8000-000000000000"
	for name, on := range map[string]func(simulator.Fault) simulator.Fault{"scores": simulator.OnScores, "controls": simulator.OnControls} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenant := simulator.Generate(1, 1)
			sim, client := start(t, tenant, Config{})
			sim.SetFault(ids(tenant)[0], on(simulator.Replace(`/subscriptions/[^/]+`, "/subscriptions/"+other)))
			ctx := within(t, 20*time.Second)
			result := client.SecureScores(ctx, ids(tenant))[0]
			if ReasonOf(result.Err) != ReasonInvalidResponse || !strings.Contains(result.Err.Error(), "belongs to subscription "+other) {
				t.Errorf("got %v", result.Err)
			}
			list := map[string]List{"scores": SecureScores, "controls": SecureScoreControls}[name]
			if exported := client.Export(ctx, list, ids(tenant), func() {})[0]; ReasonOf(exported.Err) != ReasonInvalidResponse {
				t.Errorf("export: %v", exported.Err)
			}
			sim.SetFault(ids(tenant)[0], on(simulator.Replace(`/subscriptions/[^/]+`, "/SUBSCRIPTIONS/"+strings.ToUpper(ids(tenant)[0]))))
			if result := client.SecureScores(ctx, ids(tenant))[0]; result.Err != nil {
				t.Errorf("in upper case: %v", result.Err)
			}
		})
	}
}

// Responses that look like failures, and are none.
func TestSecureScores_OddResponses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault  simulator.Fault
		scores int
		check  func(Result) bool
	}{
		"empty lists":          {simulator.EmptyList(), 0, func(r Result) bool { return len(r.Controls) == 0 }},
		"no score, by 404":     {simulator.ScoreNotFound(), 0, func(r Result) bool { return len(r.Controls) == 0 }},
		"null score":           {simulator.NullScore(), 0, func(r Result) bool { return len(r.Controls) == 4 && !r.Controls[0].HasPoints }},
		"empty score":          {simulator.EmptyScore(), 0, func(r Result) bool { return len(r.Controls) == 4 }},
		"fraction":             {simulator.OnScores(simulator.Number("max", "58.5")), 1, func(r Result) bool { return r.Scores[0].Max == 58.5 }},
		"fraction of zero":     {simulator.OnScores(simulator.Number("max", "58.0")), 1, func(r Result) bool { return r.Scores[0].Max == 58 }},
		"maximum of zero":      {simulator.OnScores(simulator.Number("max", "0")), 1, func(r Result) bool { return r.Scores[0].Ratio == 0 }},
		"throttled once":       {simulator.Throttle(1, time.Second), 1, nil},
		"unavailable once":     {simulator.Times(1, simulator.ServerError(503)), 1, nil},
		"cut short once":       {simulator.Times(1, simulator.Truncated()), 1, nil},
		"the same twice":       {simulator.Duplicate(), 2, func(r Result) bool { return len(r.Controls) == 5 }},
		"name with a newline":  {simulator.ControlName("a\nb"), 1, func(r Result) bool { return r.Controls[0].Name == "a b" }},
		"name with a quote":    {simulator.ControlName(`a"b\c`), 1, func(r Result) bool { return r.Controls[0].Name == `a"b\c` }},
		"name of 10 KB":        {simulator.ControlName(strings.Repeat("ä", 5000)), 1, func(r Result) bool { return r.Controls[0].Name == strings.Repeat("ä", 255)+"…" }},
		"name of other bytes":  {simulator.ControlName("a\xff\xfeb"), 1, func(r Result) bool { return r.Controls[0].Name == "a\ufffd\ufffdb" }},
		"published without %":  {simulator.Replace(`,"percentage":[0-9.]+`, ""), 1, func(r Result) bool { s := r.Scores[0]; return s.Ratio > 0 && s.Ratio-s.Current/s.Max < 0.0001 }},
		"real percentage":      {simulator.Number("percentage", "67.3"), 1, func(r Result) bool { s := r.Scores[0]; return s.Ratio > 0 && s.Ratio-s.Current/s.Max < 0.0001 }},
		"byte order mark":      {simulator.Body(200, "application/json", "\ufeff{\"value\":[]}"), 0, nil},
		"capitalised keys":     {simulator.Body(200, "application/json", `{"Value":[]}`), 0, nil},
		"null beside the list": {simulator.Body(200, "application/json", `{"value":[],"nextLink":null,"error":null}`), 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenant := simulator.Generate(1, 4)
			sim, client := start(t, tenant, Config{})
			sim.SetFault(ids(tenant)[0], test.fault)
			result := client.SecureScores(within(t, 10*time.Second), ids(tenant))[0]
			if result.Err != nil || len(result.Scores) != test.scores {
				t.Fatalf("%d scores and error %v, want %d scores", len(result.Scores), result.Err, test.scores)
			}
			if test.check != nil && !test.check(result) {
				t.Errorf("wrong result: %+v", result)
			}
		})
	}
}
