package azure

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// resource is a row of the simulator with what a test cares about.
func resource(r *simulator.Recommendation, state string, change ...func(*simulator.Assessment)) simulator.Assessment {
	a := simulator.Assessment{Recommendation: r, Source: "Azure", State: state}
	for _, c := range change {
		c(&a)
	}
	return a
}

func connected(source, connector string) func(*simulator.Assessment) {
	return func(a *simulator.Assessment) { a.Source, a.Connector = source, connector }
}

// recommendationsOf is a tenant of one subscription with these rows, whose controls count
// resources.
func recommendationsOf(rows ...simulator.Assessment) simulator.Tenant {
	tenant := simulator.Generate(1, 2)
	for i := range tenant.Subscriptions[0].Controls {
		c := &tenant.Subscriptions[0].Controls[i]
		c.Healthy, c.Unhealthy = 3, 2
	}
	for i := range rows {
		rows[i].Resource = fmt.Sprintf("/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/vm-%d", i)
	}
	tenant.Subscriptions[0].Assessments = rows
	return tenant
}

// assess asks for subscriptions whose controls count healthy and unhealthy resources.
func assess(ids ...string) []AssessedSubscription {
	subscriptions := make([]AssessedSubscription, len(ids))
	for i, id := range ids {
		subscriptions[i] = AssessedSubscription{ID: id, Healthy: true, Unhealthy: true}
	}
	return subscriptions
}

// startRecommendations starts a reader with an unlimited quota.
func startRecommendations(t *testing.T, tenant simulator.Tenant, cfg Config) (*simulator.Server, *RecommendationReader) {
	t.Helper()
	tenant.ResourceGraph.Queries = 1_000_000
	sim, client := start(t, tenant, cfg)
	return sim, NewRecommendationReader(newResourceGraph(client, graphPageSize, newGraphQuota(1_000_000)))
}

// now reads without leaving the first window of the quota to the scores.
func (r *RecommendationReader) now(t *testing.T, ids ...string) *Recommendations {
	t.Helper()
	return r.read(within(t, time.Minute), assess(ids...))
}

// lines writes the rows, one a line, without texts.
func lines(r *Recommendations) []string {
	var lines []string
	for row := range r.Rows() {
		lines = append(lines, fmt.Sprintf("%s %s %s %s %s u=%d x=%d preview=%t", row.SubscriptionID[:8], row.Environment, row.Connector, row.RecommendationID, row.Severity, row.Unhealthy, row.Exempt, row.Preview))
	}
	slices.Sort(lines)
	return lines
}

func find(t *testing.T, r *Recommendations, id string) Recommendation {
	t.Helper()
	for _, d := range r.List {
		if d.ID == id && d.Unhealthy+d.Exempt > 0 {
			return d
		}
	}
	t.Fatalf("no recommendation %s", id)
	return Recommendation{}
}

const (
	keyA = "aaaaaaaa-0000-4000-8000-00000000000a"
	keyB = "bbbbbbbb-0000-4000-8000-00000000000b"
)

func TestRecommendations_Counts(t *testing.T) {
	t.Parallel()
	a := &simulator.Recommendation{Key: keyA, Name: "A", Severity: "High"}
	b := &simulator.Recommendation{Key: keyB, Name: "B", Severity: "Low"}
	preview := &simulator.Recommendation{Key: keyA, Name: "A", Severity: "High", Preview: true}
	chrome := &simulator.Recommendation{Key: keyA, Name: "Chrome", Severity: "Medium", Dynamic: "SoftwareUpdate", Preview: true}
	openssl := &simulator.Recommendation{Key: keyB, Name: "OpenSSL", Severity: "Critical", Dynamic: "softwareupdate"}
	for name, test := range map[string]struct {
		rows []simulator.Assessment
		want []string
	}{
		"states": {
			[]simulator.Assessment{resource(a, "Unhealthy"), resource(a, "unhealthy"), resource(a, "Healthy"), resource(b, "Healthy")},
			[]string{"00000001 Azure  " + keyA + " high u=2 x=0 preview=false"},
		},
		"exempt": {
			[]simulator.Assessment{
				resource(a, "Unhealthy"), resource(a, "NotApplicable", func(a *simulator.Assessment) { a.Cause = "Exempt" }),
				resource(b, "NotApplicable", func(a *simulator.Assessment) { a.Cause = "exempt" }), resource(b, "NotApplicable", func(a *simulator.Assessment) { a.Cause = "OffByPolicy" }),
			},
			[]string{"00000001 Azure  " + keyA + " high u=1 x=1 preview=false", "00000001 Azure  " + keyB + " low u=0 x=1 preview=false"},
		},
		"two sources of one subscription": {
			[]simulator.Assessment{resource(a, "Unhealthy"), resource(a, "Unhealthy", connected("OnPremise", "")), resource(a, "Unhealthy", connected("Aws", ""))},
			[]string{"00000001 Azure  " + keyA + " high u=3 x=0 preview=false"},
		},
		"both spellings of the source": {
			[]simulator.Assessment{resource(a, "Unhealthy", connected("Gcp", "g")), resource(a, "Unhealthy", connected("Gcp", "g"), func(a *simulator.Assessment) { a.CamelCase = true })},
			[]string{"00000001 GCP g " + keyA + " high u=2 x=0 preview=false"},
		},
		"connectors": {
			[]simulator.Assessment{resource(a, "Unhealthy", connected("Aws", "Prod")), resource(a, "Unhealthy", connected("AWS", "prod")), resource(a, "Unhealthy", connected("Gcp", "prod")), resource(a, "Unhealthy", connected("Mars", "m"))},
			[]string{
				"00000001 AWS prod " + keyA + " high u=2 x=0 preview=false", "00000001 GCP prod " + keyA + " high u=1 x=0 preview=false",
				"00000001 unknown m " + keyA + " high u=1 x=0 preview=false",
			},
		},
		"key in capitals": {
			[]simulator.Assessment{resource(a, "Unhealthy"), resource(&simulator.Recommendation{Key: strings.ToUpper(keyA), Severity: "Critical"}, "Unhealthy")},
			[]string{"00000001 Azure  " + keyA + " critical u=2 x=0 preview=false"},
		},
		"severity of unhealthy rows alone": {
			[]simulator.Assessment{resource(a, "Healthy"), resource(&simulator.Recommendation{Key: keyA, Severity: "Low"}, "Unhealthy")},
			[]string{"00000001 Azure  " + keyA + " low u=1 x=0 preview=false"},
		},
		"no severity": {
			[]simulator.Assessment{resource(&simulator.Recommendation{Key: keyA}, "Unhealthy")},
			[]string{"00000001 Azure  " + keyA + " unknown u=1 x=0 preview=false"},
		},
		"preview": {
			[]simulator.Assessment{resource(preview, "Unhealthy"), resource(preview, "Healthy")},
			[]string{"00000001 Azure  " + keyA + " high u=1 x=0 preview=true"},
		},
		"preview and not": {
			[]simulator.Assessment{resource(preview, "Unhealthy"), resource(a, "Healthy")},
			[]string{"00000001 Azure  " + keyA + " high u=1 x=0 preview=false"},
		},
		"folded": {
			[]simulator.Assessment{resource(chrome, "Unhealthy"), resource(openssl, "Unhealthy"), resource(openssl, "Unhealthy")},
			[]string{"00000001 Azure  category:SoftwareUpdate critical u=3 x=0 preview=false"},
		},
		"unknown category is not folded": {
			[]simulator.Assessment{resource(&simulator.Recommendation{Key: keyA, Severity: "Low", Dynamic: "Unknown"}, "Unhealthy")},
			[]string{"00000001 Azure  " + keyA + " low u=1 x=0 preview=false"},
		},
		"new category": {
			[]simulator.Assessment{resource(&simulator.Recommendation{Key: keyA, Severity: "Low", Dynamic: "NewThings"}, "Unhealthy")},
			[]string{"00000001 Azure  category:newthings low u=1 x=0 preview=false"},
		},
		"rows of other scopes": {
			[]simulator.Assessment{resource(a, "Unhealthy", func(a *simulator.Assessment) { a.Scope = "ResourceGroup" }), resource(a, "Unhealthy", func(a *simulator.Assessment) { a.Scope = "subscription" })},
			[]string{"00000001 Azure  " + keyA + " high u=1 x=0 preview=false"},
		},
		"all healthy": {[]simulator.Assessment{resource(a, "Healthy")}, nil},
	} {
		for form, fault := range map[string]simulator.Fault{"packed": nil, "plain": simulator.RefusePackedAssessments()} {
			t.Run(name+", "+form, func(t *testing.T) {
				t.Parallel()
				tenant := recommendationsOf(test.rows...)
				sim, reader := startRecommendations(t, tenant, Config{})
				sim.SetGraphFault(fault)
				subscription := AssessedSubscription{ID: tenant.Subscriptions[0].ID, Healthy: true}
				r := reader.read(within(t, time.Minute), []AssessedSubscription{subscription})
				if err := r.Subscriptions[0].Err; err != nil || r.Err != nil {
					t.Fatal(err, r.Err)
				}
				if got := lines(r); !slices.Equal(got, test.want) && form == "packed" {
					t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
				} else if !slices.Equal(got, test.want) {
					t.Errorf("plain: got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
				}
			})
		}
	}
}

// The demo's counts are those of its rows, in every form of the query and in parts.
func TestRecommendations_Demo(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 6, 30, 0, 0, 0, 0, time.UTC)
	tenant := simulator.Demo()
	tenant.Now = func() time.Time { return now }
	want := map[string]int{}
	for _, sub := range tenant.Subscriptions {
		for _, a := range sub.AssessmentsAt(now) {
			if a.State != "Unhealthy" || sub.NoAccess {
				continue
			}
			id := a.Key
			if a.Dynamic != "" && a.Dynamic != "Unknown" {
				id = foldedPrefix + a.Dynamic
			}
			want[sub.ID+" "+a.Connector+" "+id]++
		}
	}
	for name, test := range map[string]struct {
		fault simulator.Fault
		most  int
	}{
		"packed":            {nil, 0},
		"plain":             {simulator.RefusePackedAssessments(), 0},
		"parts":             {nil, 1000},
		"parts of keys":     {nil, 200},
		"plain in parts":    {simulator.RefusePackedAssessments(), 1000},
		"halves":            {simulator.TooComplex(2), 0},
		"halves and pages":  {simulator.OnBatchesOver(3, simulator.ResultTruncated(1)), 0},
		"payload too large": {simulator.PayloadTooLarge(1), 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenant := tenant
			tenant.ResourceGraph.MaxAssessments = test.most
			sim, reader := startRecommendations(t, tenant, Config{})
			sim.SetGraphFault(test.fault)
			r := reader.now(t, ids(tenant)...)
			if r.Err != nil {
				t.Error(r.Err)
			}
			got := map[string]int{}
			for row := range r.Rows() {
				if row.Unhealthy > 0 {
					got[row.SubscriptionID+" "+row.Connector+" "+row.RecommendationID] = int(row.Unhealthy)
				}
			}
			if len(got) != len(want) {
				t.Errorf("%d counts, want %d", len(got), len(want))
			}
			for key, n := range want {
				if got[key] != n {
					t.Errorf("%s: %d unhealthy, want %d", key, got[key], n)
				}
			}
		})
	}
}

func TestRecommendations_Description(t *testing.T) {
	t.Parallel()
	tenant := simulator.Demo()
	_, reader := startRecommendations(t, tenant, Config{})
	r := reader.now(t, ids(tenant)...)
	jit := find(t, r, "805651bc-6ecd-4c73-9b55-97a19d0582d0")
	if jit.Name != "Management ports of virtual machines should be protected with just-in-time network access control" || jit.Severity != SeverityHigh ||
		jit.Effort == "" || jit.UserImpact == "" || jit.Category != "Networking" || jit.Preview || jit.Folded() ||
		!slices.Equal(jit.ControlIDs, []string{"00000000-0000-4000-8000-000000000002"}) || jit.URL != "" {
		t.Errorf("%+v", jit)
	}
	if shared := find(t, r, "08e628db-e2ed-4793-bc91-d13e684401c3"); len(shared.ControlIDs) != 4 || !slices.IsSorted(shared.ControlIDs) {
		t.Errorf("a recommendation of four controls: %+v", shared)
	}
	if folded := find(t, r, "category:SoftwareUpdate"); folded.Name != "SoftwareUpdate" || folded.Category != "SoftwareUpdate" || folded.Severity != SeverityCritical ||
		folded.Effort+folded.UserImpact+folded.URL != "" || folded.ControlIDs != nil || !folded.Folded() {
		t.Errorf("a folded category: %+v", folded)
	}
	if preview := find(t, r, "0396b18c-41aa-489c-affd-4ee5d1714a59"); !preview.Preview || len(preview.ControlIDs) != 1 {
		t.Errorf("a preview: %+v", preview)
	}
	if unmapped := find(t, r, "17618b1a-ed14-49bb-b37f-9f8ba967be8b"); unmapped.ControlIDs != nil || unmapped.Name == "" {
		t.Errorf("an unmapped one: %+v", unmapped)
	}
	distinct := map[string]bool{}
	for _, d := range r.List {
		distinct[d.ID] = true
		if d.Name == "" || d.Unhealthy == 0 {
			t.Errorf("%+v", d)
		}
	}
	if len(distinct) != len(r.List) || len(distinct) < 60 {
		t.Errorf("%d recommendations with %d IDs", len(r.List), len(distinct))
	}
}

func TestRecommendations_RowsAsJSON(t *testing.T) {
	t.Parallel()
	r := Recommendations{
		Subscriptions: []SubscriptionRecommendations{{ID: "s", Scopes: []RecommendationScope{{Environment: "Azure", Counts: []RecommendationCount{{Index: 0, Unhealthy: 2, Exempt: 1}}}}}},
		List:          []Recommendation{{ID: keyA, Name: "A", Severity: SeverityHigh, Effort: "Low", UserImpact: "High", Category: "Data", ControlIDs: []string{"c"}, URL: "https://portal"}},
	}
	for row := range r.Rows() {
		got, err := json.Marshal(row)
		want := `{"subscription_id":"s","environment":"Azure","recommendation_id":"` + keyA + `","recommendation":"A","severity":"high","unhealthy":2,"exempt":1,"effort":"Low","user_impact":"High","category":"Data","preview":false,"control_ids":["c"],"url":"https://portal"}`
		if err != nil || string(got) != want {
			t.Errorf("got %s (%v), want %s", got, err, want)
		}
	}
}

// No bound exceeds what its control lacks, and fixing everything gains exactly that.
func TestControl_MaxIncrease(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		healthy, unhealthy, points := float64(random.IntN(1000)), float64(random.IntN(1000)), float64(random.IntN(11))
		c := Control{Healthy: healthy, Unhealthy: unhealthy, Points: Points{Max: points}, HasPoints: true}
		if healthy+unhealthy > 0 {
			c.Current = points / (healthy + unhealthy) * healthy
		}
		gain := c.Max - c.Current
		n := uint32(random.IntN(1500))
		bound := c.MaxIncrease(n)
		if bound < 0 || bound > gain {
			t.Fatalf("%+v %+v: %d unhealthy resources gain up to %g, the control %g", c, c.Points, n, bound, gain)
		}
		if all := c.MaxIncrease(uint32(unhealthy)); unhealthy+healthy > 0 && (all > gain || gain-all > 1e-9) {
			t.Fatalf("%+v %+v: fixing everything gains %g, want %g", c, c.Points, all, gain)
		}
		if n > 0 && bound < c.MaxIncrease(n-1) {
			t.Fatalf("%+v: one more resource lowers the bound", c)
		}
	}
	for name, c := range map[string]Control{
		"no points":       {Healthy: 1, Unhealthy: 1},
		"no resource":     {Points: Points{Max: 4}, HasPoints: true},
		"points by error": {Healthy: 1, Unhealthy: 1, Points: Points{Current: 5, Max: 4}, HasPoints: true},
	} {
		if got := c.MaxIncrease(7); got != 0 {
			t.Errorf("%s: %g", name, got)
		}
	}
}
