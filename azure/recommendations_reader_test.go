package azure

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/go-kit/log"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// A subscription whose assessments are invisible is unreadable; one without resources has none.
func TestRecommendationReader_NoAssessments(t *testing.T) {
	t.Parallel()
	forbidden := &Error{Reason: ReasonForbidden, Err: errors.New("no access to controls")}
	for name, test := range map[string]struct {
		subscription  AssessedSubscription
		packed, plain Reason
	}{
		"unhealthy resources":      {AssessedSubscription{Unhealthy: true}, ReasonForbidden, ReasonForbidden},
		"healthy resources":        {AssessedSubscription{Healthy: true}, ReasonForbidden, ""}, // plain rows are of unhealthy ones alone
		"no resource":              {AssessedSubscription{}, "", ""},
		"controls are unknown":     {AssessedSubscription{Err: forbidden}, ReasonForbidden, ReasonForbidden},
		"controls fail, both ways": {AssessedSubscription{Unhealthy: true, Err: errors.New("timeout")}, ReasonForbidden, ReasonForbidden},
	} {
		for form, fault := range map[string]simulator.Fault{"packed": nil, "plain": simulator.RefusePackedAssessments()} {
			tenant := recommendationsOf(resource(&simulator.Recommendation{Key: keyA}, "Unhealthy"))
			visible := tenant.Subscriptions[0]
			hidden := visible
			hidden.ID, hidden.NoAccess = "99999999-0000-4000-8000-000000000000", true
			tenant.Subscriptions = append(tenant.Subscriptions, hidden)
			sim, reader := startRecommendations(t, tenant, Config{})
			sim.SetGraphFault(fault)
			test.subscription.ID = hidden.ID
			r := reader.read(within(t, time.Minute), append(assess(visible.ID), test.subscription))
			want := test.packed
			if form == "plain" {
				want = test.plain
			}
			if got := ReasonOf(r.Subscriptions[1].Err); got != want {
				t.Errorf("%s, %s: reason %q, want %q", name, form, got, want)
			}
			if r.Subscriptions[0].Err != nil || len(r.Subscriptions[0].Scopes) != 1 {
				t.Errorf("%s, %s: the other one: %+v", name, form, r.Subscriptions[0])
			}
		}
	}
}

func TestRecommendationReader_Reasons(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault simulator.Fault
		want  Reason
	}{
		"none readable":     {simulator.NoValidSubscriptions(), ReasonForbidden},
		"access denied":     {simulator.Error(403, "AccessDenied", "…"), ReasonForbidden},
		"garbage":           {simulator.Garbage(), ReasonInvalidResponse},
		"no list":           {simulator.Body(200, "application/json", `{"data":null}`), ReasonInvalidResponse},
		"server error":      {simulator.ServerError(500), ReasonServerError},
		"hang":              {simulator.Hang(), ReasonTimeout},
		"always too much":   {simulator.TooComplex(0), ReasonInvalidResponse},
		"always truncated":  {simulator.ResultTruncated(0), ReasonInvalidResponse},
		"always 504":        {simulator.ServerError(504), ReasonServerError},
		"rows are missing":  {simulator.Replace(`"totalRecords":1`, `"totalRecords":2`), ReasonInvalidResponse},
		"endless pages":     {simulator.RepeatSkipToken(), ReasonInvalidResponse},
		"both forms refuse": {simulator.Error(400, "BadRequest", "…"), ReasonInvalidResponse},
		"no subscription":   {simulator.Replace(`"subscriptionId":"[^"]*"`, `"other":1`), ReasonInvalidResponse},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenant := recommendationsOf(resource(&simulator.Recommendation{Key: keyA}, "Unhealthy"))
			sim, reader := startRecommendations(t, tenant, Config{})
			sim.SetGraphFault(test.fault)
			r := reader.read(within(t, 3*time.Second), assess(tenant.Subscriptions[0].ID))
			if got := ReasonOf(r.Subscriptions[0].Err); got != test.want {
				t.Errorf("reason %q, want %q: %v", got, test.want, r.Subscriptions[0].Err)
			}
			if queries := sim.Requests()[simulator.RouteGraph]; queries > 1+6*splitFactor {
				t.Errorf("%d queries", queries)
			}
		})
	}
}

// Odd rows are read if they make sense. If not, they fail their subscription alone.
func TestRecommendationReader_OddRows(t *testing.T) {
	t.Parallel()
	const item = `aaaaaaaa-0000-[^"]*`
	for name, test := range map[string]struct {
		pattern, replacement string
		failed               bool
	}{
		"number as text":            {`"assessments":1`, `"assessments":"1"`, false},
		"number with a fraction":    {`"assessments":1`, `"assessments":1.0`, false},
		"subscription in capitals":  {`"subscriptionId":"aaaaaaaa`, `"subscriptionId":"AAAAAAAA`, false},
		"key in capitals":           {`aaaaaaaa-0000-4000-8000-00000000000a`, strings.ToUpper(keyA), false},
		"blanks and nulls":          {`"items":\[`, `"items":["",null,`, false},
		"foreign subscription":      {`"data":\[`, `"data":[{"subscriptionId":"77777777-0000-4000-8000-000000000000","items":3},`, false},
		"two rows of one":           {`"data":\[`, `"data":[{"subscriptionId":"aaaaaaaa-1111-4000-8000-000000000001","assessments":1,"items":[]},`, false},
		"items as text":             {`"items":\["` + item + `"\]`, `"items":"x"`, true},
		"items missing":             {`"items":\["aaaaaaaa`, `"other":["aaaaaaaa`, true},
		"item is a number":          {`"` + item + `"`, `7`, true},
		"too few fields":            {item, keyA + `|azure||3|1|0|0|0`, true},
		"too many fields":           {item, keyA + `|azure||3|1|0|0|0|0|0`, true},
		"negative":                  {item, keyA + `|azure||3|-1|0|0|0|0`, true},
		"not a number":              {item, keyA + `|azure||3|NaN|0|0|0|0`, true},
		"absurd":                    {item, keyA + `|azure||3|1e300|0|0|0|0`, true},
		"text for a number":         {item, keyA + `|azure||3|one|0|0|0|0`, true},
		"no key":                    {item, `|azure||3|1|0|0|0|0`, true},
		"severity that is none":     {item, keyA + `|azure||99|1|0|0|0|0`, false},
		"assessments are an object": {`"assessments":1`, `"assessments":{}`, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenant := recommendationsOf(resource(&simulator.Recommendation{Key: keyA, Severity: "High"}, "Unhealthy"))
			tenant.Subscriptions[0].ID = "aaaaaaaa-1111-4000-8000-000000000001"
			other := tenant.Subscriptions[0]
			other.ID = "bbbbbbbb-1111-4000-8000-000000000001"
			other.Assessments = recommendationsOf(resource(&simulator.Recommendation{Key: keyB}, "Unhealthy")).Subscriptions[0].Assessments
			tenant.Subscriptions = append(tenant.Subscriptions, other)
			sim, reader := startRecommendations(t, tenant, Config{})
			replace := simulator.Replace(test.pattern, test.replacement)
			sim.SetGraphFault(simulator.OnAssessmentQuery("packed", replace))
			r := reader.now(t, ids(tenant)...)
			first, second := r.Subscriptions[0], r.Subscriptions[1]
			if failed := first.Err != nil; failed != test.failed || failed && ReasonOf(first.Err) != ReasonInvalidResponse {
				t.Errorf("got %v", first.Err)
			}
			if !test.failed && (len(first.Scopes) != 1 || first.Scopes[0].Counts[0].Unhealthy != 1) {
				t.Errorf("got %+v", first.Scopes)
			}
			if name != "assessments are an object" && second.Err != nil {
				t.Errorf("the other subscription: %v", second.Err)
			}
		})
	}
}

// Texts are sanitised like all labels and bounded. Values that are not strings are skipped.
func TestRecommendationReader_HostileTexts(t *testing.T) {
	t.Parallel()
	hostile := "a\x00b\u202ec \"<b>\n" + strings.Repeat("x", 1000)
	tenant := recommendationsOf(resource(&simulator.Recommendation{Key: keyA, Name: hostile, Severity: "High", Effort: hostile, Categories: []string{hostile}}, "Unhealthy", connected("Aws", "a\u202eb")))
	sim, reader := startRecommendations(t, tenant, Config{})
	r := reader.now(t, tenant.Subscriptions[0].ID)
	d := find(t, r, keyA)
	for _, text := range []string{d.Name, d.Effort, d.Category} {
		if !strings.HasPrefix(text, `a b c "<b> xxx`) || len([]rune(text)) != maxLabel {
			t.Errorf("got %q", text)
		}
	}
	if connector := r.Subscriptions[0].Scopes[0].Connector; connector != "a b" {
		t.Errorf("connector %q", connector)
	}
	sim.SetGraphFault(simulator.OnAssessmentQuery("names", simulator.Replace(`"name":\[[^\]]*\]`, `"name":[{"a":1},7,null,"Fine"]`)))
	fresh := NewRecommendationReader(reader.graph)
	if d := find(t, fresh.now(t, tenant.Subscriptions[0].ID), keyA); d.Name != "Fine" {
		t.Errorf("got %+v", d)
	}
}

// Names are read once a day, and once more when a recommendation is new. A name stays while Azure
// still has it.
func TestRecommendationReader_Names(t *testing.T) {
	t.Parallel()
	named := func(key, name string) simulator.Assessment {
		return resource(&simulator.Recommendation{Key: key, Name: name, Severity: "Low"}, "Unhealthy")
	}
	var clock clock
	tenant := recommendationsOf(named(keyA, "Two"), named(keyA, "One"))
	sim, reader := startRecommendations(t, tenant, Config{now: clock.now})
	for i, test := range []struct {
		age     time.Duration
		rows    []simulator.Assessment
		want    string // of A
		queries int
	}{
		{0, []simulator.Assessment{named(keyA, "Two"), named(keyA, "One")}, "One", 3},
		{time.Hour, []simulator.Assessment{named(keyA, "Two")}, "One", 1},
		{time.Hour, []simulator.Assessment{named(keyA, "Another"), named(keyB, "B")}, "One", 2}, // B is new
		{time.Hour, []simulator.Assessment{named(keyA, "Another"), named(keyB, "B")}, "One", 1},
		{22 * time.Hour, []simulator.Assessment{named(keyA, "Another"), named(keyA, "One")}, "One", 3}, // a day later
		{24 * time.Hour, []simulator.Assessment{named(keyA, "Two"), named(keyA, "Another")}, "Another", 3},
	} {
		clock.advance(test.age)
		sub := recommendationsOf(test.rows...).Subscriptions[0]
		sim.SetSubscription(sub)
		sim.ResetRequests()
		r := reader.now(t, sub.ID)
		if got := find(t, r, keyA).Name; got != test.want || r.Err != nil {
			t.Errorf("step %d: %q, want %q (%v)", i, got, test.want, r.Err)
		}
		if got := sim.Requests()[simulator.RouteGraph]; got != test.queries {
			t.Errorf("step %d: %d queries, want %d", i, got, test.queries)
		}
	}
}

// When names or the map of controls cannot be read, the counts can, and what was known stays.
func TestRecommendationReader_WithoutNamesAndControls(t *testing.T) {
	t.Parallel()
	var clock clock
	tenant := simulator.Demo()
	sim, reader := startRecommendations(t, tenant, Config{now: clock.now})
	const id = "483f12ed-ae23-447e-a2de-a67a10db4353"
	broken := simulator.OnAssessmentQuery("names", simulator.ServerError(504))
	sim.SetGraphFault(broken)
	all := ids(tenant)[:6]
	r := reader.now(t, all...)
	if d := find(t, r, id); d.Name != "" || d.Severity != SeverityHigh || len(d.ControlIDs) != 1 || r.Err == nil || r.Subscriptions[0].Err != nil {
		t.Errorf("without names: %+v, %v", d, r.Err)
	}
	sim.SetGraphFault(nil)
	clock.advance(time.Hour)
	r = reader.now(t, all...)
	named := find(t, r, id)
	if named.Name == "" || r.Err != nil {
		t.Errorf("an hour later: %+v, %v", named, r.Err)
	}
	sim.SetGraphFault(simulator.OnAssessmentQuery("controls", simulator.ServerError(504)))
	clock.advance(25 * time.Hour)
	r = reader.now(t, all...)
	if d := find(t, r, id); d.Name != named.Name || !slices.Equal(d.ControlIDs, named.ControlIDs) || r.Err == nil {
		t.Errorf("a day later, without controls: %+v, %v", d, r.Err)
	}
}

// A failing subscription keeps its last counts for a day. After that there are none, which is not
// the same as 0. Severity and preview are those of the whole fleet, kept counts included.
func TestRecommendationReader_KeepsLastGood(t *testing.T) {
	t.Parallel()
	var clock clock
	tenant := recommendationsOf(resource(&simulator.Recommendation{Key: keyA, Severity: "Critical"}, "Unhealthy"))
	second := recommendationsOf(resource(&simulator.Recommendation{Key: keyA, Severity: "Low"}, "Unhealthy")).Subscriptions[0]
	second.ID = "99999999-0000-4000-8000-000000000000"
	tenant.Subscriptions = append(tenant.Subscriptions, second)
	sim, reader := startRecommendations(t, tenant, Config{now: clock.now})
	first := reader.now(t, ids(tenant)...)
	hidden := tenant.Subscriptions[0]
	hidden.NoAccess = true
	sim.SetSubscription(hidden)

	clock.advance(time.Hour)
	r := reader.now(t, ids(tenant)...)
	if s := r.Subscriptions[0]; ReasonOf(s.Err) != ReasonForbidden || !s.ReadAt.Equal(first.Subscriptions[0].ReadAt) || len(s.Scopes) != 1 {
		t.Errorf("an hour later: %+v", s)
	}
	if got := lines(r); len(got) != 2 || !strings.Contains(got[1], "critical") {
		t.Errorf("an hour later: %q", got)
	}
	for range 25 {
		clock.advance(time.Hour)
		r = reader.now(t, ids(tenant)...)
	}
	if s := r.Subscriptions[0]; ReasonOf(s.Err) != ReasonForbidden || !s.ReadAt.IsZero() || s.Scopes != nil {
		t.Errorf("a day later: %+v", s)
	}
	if got := lines(r); len(got) != 1 || !strings.Contains(got[0], "low") {
		t.Errorf("a day later: %q", got)
	}
}

// A revoked credential fails every subscription with one request for a token and no query.
func TestRecommendationReader_Authentication(t *testing.T) {
	t.Parallel()
	tenant := recommendationsOf(resource(&simulator.Recommendation{Key: keyA}, "Unhealthy"))
	sim, reader := startRecommendations(t, tenant, Config{})
	sim.SetTokenFault(simulator.ExpiredSecret())
	r := reader.now(t, tenant.Subscriptions[0].ID)
	if got := ReasonOf(r.Subscriptions[0].Err); got != ReasonAuthentication || sim.Requests()[simulator.RouteGraph] != 0 {
		t.Errorf("%v after %d queries", r.Subscriptions[0].Err, sim.Requests()[simulator.RouteGraph])
	}
}

// Counts that did not change are shared, and results that were returned never change.
func TestRecommendationReader_SharesCounts(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(2, 2)
	simulator.GenerateAssessments(&tenant, 20)
	sim, reader := startRecommendations(t, tenant, Config{})
	first := reader.now(t, ids(tenant)...)
	before := lines(first)
	changed := tenant.Subscriptions[1]
	changed.Assessments = recommendationsOf(resource(&simulator.Recommendation{Key: keyA}, "Unhealthy")).Subscriptions[0].Assessments
	sim.SetSubscription(changed)
	second := reader.now(t, ids(tenant)...)
	if &first.Subscriptions[0].Scopes[0].Counts[0] != &second.Subscriptions[0].Scopes[0].Counts[0] {
		t.Error("unchanged counts take memory twice")
	}
	if !slices.Equal(lines(first), before) || len(lines(second)) != 21 {
		t.Errorf("%d lines, later %d", len(lines(first)), len(lines(second)))
	}
}

// Keys of software and secrets that came and went are dropped.
func TestRecommendationReader_DropsUnusedKeys(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(2, 1)
	simulator.GenerateAssessments(&tenant, 1200)
	sim, reader := startRecommendations(t, tenant, Config{})
	first := reader.now(t, ids(tenant)...)
	before := lines(first)
	few := recommendationsOf(resource(&simulator.Recommendation{Key: keyA, Severity: "Low"}, "Unhealthy"), resource(&simulator.Recommendation{Key: keyB, Severity: "High"}, "Unhealthy"))
	for _, s := range tenant.Subscriptions {
		s.Assessments = few.Subscriptions[0].Assessments
		sim.SetSubscription(s)
	}
	second := reader.now(t, ids(tenant)...)
	if len(second.List) != 2 || len(lines(second)) != 4 || len(first.List) != 1200 || !slices.Equal(lines(first), before) {
		t.Errorf("%d descriptions, then %d: %q", len(first.List), len(second.List), lines(second))
	}
}

// A refused form is not tried for an hour, and the log says so once.
func TestRecommendationReader_Refused(t *testing.T) {
	t.Parallel()
	var clock clock
	var logged bytes.Buffer
	tenant := recommendationsOf(resource(&simulator.Recommendation{Key: keyA}, "Unhealthy"))
	sim, reader := startRecommendations(t, tenant, Config{now: clock.now, Logger: log.NewLogfmtLogger(&logged)})
	sim.SetGraphFault(simulator.RefusePackedAssessments())
	for _, test := range []struct {
		age     time.Duration
		queries int
	}{{0, 4}, {time.Minute, 1}, {time.Hour, 2}} {
		clock.advance(test.age)
		sim.ResetRequests()
		reader.now(t, tenant.Subscriptions[0].ID)
		if got := sim.Requests()[simulator.RouteGraph]; got != test.queries {
			t.Errorf("%d queries, want %d", got, test.queries)
		}
	}
	if got := strings.Count(logged.String(), "rejects the packed query of recommendations"); got != 2 {
		t.Errorf("logged %d times:\n%s", got, logged.String())
	}
}

// The published limits of the project: 4 queries for 1,000 subscriptions and 2 more a day.
func TestRecommendationReader_Queries(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(1000, 2)
	simulator.GenerateAssessments(&tenant, 150)
	sim, reader := startRecommendations(t, tenant, Config{})
	for _, want := range []int{6, 4} {
		sim.ResetRequests()
		r := reader.now(t, ids(tenant)...)
		if got := sim.Requests()[simulator.RouteGraph]; got != want || r.Err != nil || r.Subscriptions[999].Err != nil {
			t.Errorf("%d queries, want %d (%v, %v)", got, want, r.Err, r.Subscriptions[999].Err)
		}
	}
	sim.SetGraphFault(simulator.TooComplex(150))
	sim.ResetRequests()
	if r := reader.now(t, ids(tenant)...); r.Subscriptions[500].Err != nil || sim.Requests()[simulator.RouteGraph] != 10 { // 300 three times in 3, 100
		t.Errorf("%d queries, %v", sim.Requests()[simulator.RouteGraph], r.Subscriptions[500].Err)
	}
}

func TestRecommendationReader_Deadline(t *testing.T) {
	t.Parallel()
	tenant := recommendationsOf(resource(&simulator.Recommendation{Key: keyA}, "Unhealthy"))
	_, reader := startRecommendations(t, tenant, Config{})
	if err := reader.graph.Authenticate(within(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if got := ReasonOf(reader.read(canceled, assess(tenant.Subscriptions[0].ID)).Subscriptions[0].Err); got != ReasonCanceled {
		t.Errorf("canceled: reason %q", got)
	}
	// The first window belongs to the scores, and ends after the deadline.
	if got := ReasonOf(reader.Refresh(within(t, time.Second), assess(tenant.Subscriptions[0].ID)).Subscriptions[0].Err); got != ReasonThrottled {
		t.Errorf("first window: reason %q", got)
	}
}

func TestPortalURLs(t *testing.T) {
	t.Parallel()
	for cloud, want := range map[string][2]string{
		"public": {
			"https://portal.azure.com/#view/Microsoft_Azure_Security/GenericRecommendationDetailsBlade/assessmentKey/" + keyA,
			"https://portal.azure.com/#view/Microsoft_Azure_Security/RecommendationsBladeV2/subscriptionIds~/%5B%22" + keyB + "%22%5D/source/SecurityPosture_ViewRecommendation",
		},
		"usgovernment": {"https://portal.azure.us/#view/", "https://portal.azure.us/#view/"},
		"china":        {"https://portal.azure.cn/#view/", "https://portal.azure.cn/#view/"},
	} {
		configuration, err := ParseCloud(cloud, "", "", "")
		if err != nil {
			t.Fatal(err)
		}
		t.Run(cloud, func(t *testing.T) {
			t.Parallel()
			secret := func(o azcore.ClientOptions) (azcore.TokenCredential, error) {
				return azidentity.NewClientSecretCredential(simulator.TenantID, simulator.ClientID, "secret", &azidentity.ClientSecretCredentialOptions{ClientOptions: o})
			}
			client, err := New(Config{Cloud: configuration, Credential: secret})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(client.Close)
			if got := client.recommendationURL(keyA); !strings.HasPrefix(got, want[0]) {
				t.Errorf("got %s", got)
			}
			if got := client.RecommendationsURL(keyB); !strings.HasPrefix(got, want[1]) {
				t.Errorf("got %s", got)
			}
		})
	}
}

// A refresh and collections that run at once stay within the quota together.
func TestRecommendationReader_BesideScores(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(30, 2)
	simulator.GenerateAssessments(&tenant, 5)
	tenant.ResourceGraph.Queries, tenant.ResourceGraph.Window = 6, time.Second
	sim, client := start(t, tenant, Config{})
	g := newResourceGraph(client, graphPageSize, newGraphQuota(graphQuotaQueries))
	refreshed := make(chan *Recommendations)
	go func() {
		refreshed <- NewRecommendationReader(g).Refresh(within(t, time.Minute), assess(ids(tenant)...))
	}()
	for range 3 {
		for _, result := range g.SecureScores(within(t, time.Minute), ids(tenant)) {
			if result.Err != nil {
				t.Error(result.Err)
			}
		}
	}
	r := <-refreshed
	if r.Err != nil || r.Subscriptions[0].Err != nil || sim.Throttled() != 0 {
		t.Errorf("%v, %v, %d throttled", r.Err, r.Subscriptions[0].Err, sim.Throttled())
	}
}
