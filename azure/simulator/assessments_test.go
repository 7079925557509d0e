package simulator_test

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

const (
	assessmentTypes = `securityresources | where type =~ 'microsoft.security/assessments' `
	packedCounts    = assessmentTypes + `| extend source = tolower(coalesce(tostring(properties.resourceDetails.Source), tostring(properties.resourceDetails.source))) | summarize assessments = sum(u), items = make_list(strcat(key, '|', source)) by subscriptionId`
	plainCounts     = assessmentTypes + `| where tostring(properties.scope) in~ ('') | extend source = tolower(coalesce(tostring(properties.resourceDetails.Source), tostring(properties.resourceDetails.source))) | summarize u = count(), h = count(), x = count(), n = count(), s = max(1), p = count() by subscriptionId, key, source, connector | extend id = strcat(key) | order by id asc`
)

// A control's unhealthy resources are those of its recommendations, at any time, and its score is
// the published formula: fixing a resource moves the score by max ÷ (healthy + unhealthy).
func TestAssessments_AgreeWithControls(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 6, 30, 0, 0, 0, 0, time.UTC)
	for _, sub := range simulator.Demo().Subscriptions {
		before := map[string]simulator.Control{}
		for minute := range 40 {
			now := start.Add(time.Duration(minute) * time.Minute)
			at := sub.At(now)
			assessments := sub.AssessmentsAt(now)
			check(t, before, at.Controls, assessments, "")
			for _, c := range at.Connectors {
				check(t, before, c.Controls, assessments, c.Name)
			}
		}
	}
}

func check(t *testing.T, before map[string]simulator.Control, controls []simulator.Control, assessments []simulator.Assessment, connector string) {
	t.Helper()
	unhealthy := map[*simulator.Recommendation]map[string]bool{}
	for _, a := range assessments {
		if a.Connector == connector && a.State == "Unhealthy" && !a.Preview && !a.Unmapped {
			if unhealthy[a.Recommendation] == nil {
				unhealthy[a.Recommendation] = map[string]bool{}
			}
			unhealthy[a.Recommendation][a.Resource] = true
		}
	}
	for _, c := range controls {
		union := map[string]bool{}
		for _, r := range c.Recommendations {
			for resource := range unhealthy[r] {
				union[resource] = true
			}
		}
		if len(union) != c.Unhealthy {
			t.Fatalf("control %q of %q has %d unhealthy resources, its recommendations %d", c.DisplayName, connector, c.Unhealthy, len(union))
		}
		last, seen := before[connector+c.ID]
		before[connector+c.ID] = c
		if !seen || c.Published != nil || c.Weight() == 0 {
			continue
		}
		fixed := last.Unhealthy - c.Unhealthy
		want := c.Max / float64(c.Weight()) * float64(fixed)
		if got := c.Score().Current - last.Score().Current; math.Abs(got-want) > 0.01+1e-9 {
			t.Errorf("fixing %d resources of %q gains %g points, want %g", fixed, c.DisplayName, got, want)
		}
	}
}

func TestDemo_RecommendationsOfEveryKind(t *testing.T) {
	t.Parallel()
	found := map[string]map[string]bool{}
	names, controls := map[string]bool{}, map[*simulator.Recommendation]int{}
	for _, sub := range simulator.Demo().Subscriptions {
		for _, a := range sub.AssessmentsAt(time.Unix(0, 0)) {
			names[a.Name] = true
			for kind, of := range map[string]bool{
				"preview": a.Preview, "unmapped": a.Unmapped, "dynamic": a.Dynamic != "", "dynamic without a category": a.Dynamic == "Unknown",
				"exempt": a.Cause == "Exempt", "off by policy": a.Cause == "OffByPolicy", "camel case": a.CamelCase, "Arc machine": a.Connector == "" && a.Source == "Aws",
				"AWS": a.Connector != "" && a.Source == "Aws", "GCP": a.Connector != "" && a.Source == "Gcp", "severity " + a.Severity: true,
			} {
				if of {
					if found[kind] == nil {
						found[kind] = map[string]bool{}
					}
					found[kind][a.Key] = true
				}
			}
		}
		for _, c := range sub.Controls {
			for _, r := range c.Recommendations {
				controls[r]++
			}
		}
	}
	for _, kind := range []string{"preview", "unmapped", "dynamic", "dynamic without a category", "exempt", "off by policy", "camel case", "Arc machine", "AWS", "GCP", "severity Low", "severity Medium", "severity High", "severity Critical"} {
		if len(found[kind]) == 0 {
			t.Errorf("no recommendation is %s", kind)
		}
	}
	if len(names) < 60 {
		t.Errorf("%d recommendations", len(names))
	}
	if !slices.ContainsFunc(simulator.Demo().Subscriptions[1].Controls[1].Recommendations, func(r *simulator.Recommendation) bool { return strings.HasPrefix(r.Key, "805651bc") }) {
		t.Error("no just-in-time access in the control about management ports")
	}
}

// Queries are recognized by the columns of their result. Spelling and filters in the text decide
// which rows count.
func TestAssessments_Queries(t *testing.T) {
	t.Parallel()
	r := &simulator.Recommendation{Key: "AAAAAAAA-0000-4000-8000-000000000001", Name: "Fix it", Severity: "High"}
	tenant := generous(simulator.Generate(2, 1))
	tenant.Subscriptions[0].Assessments = []simulator.Assessment{
		{Recommendation: r, Resource: "/a", Source: "Azure", State: "Unhealthy"},
		{Recommendation: r, Resource: "/b", Source: "Azure", State: "Healthy", CamelCase: true},
		{Recommendation: r, Resource: "/c", Source: "Azure", State: "Unhealthy", Scope: "Cluster"},
	}
	_, c := start(t, tenant)
	const id = "00000001-0000-4000-8000-000000000001"
	const key = "aaaaaaaa-0000-4000-8000-000000000001"
	for name, test := range map[string]struct{ query, want string }{
		"packed":           {packedCounts, `{"subscriptionId":"` + id + `","assessments":3,"items":["` + key + `|azure||3|2|1|0|0|0"]}`},
		"plain and scoped": {plainCounts, `{"id":"` + id + `|` + key + `|azure|","subscriptionId":"` + id + `","key":"` + key + `","source":"azure","connector":"","u":1,"h":1,"x":0,"n":0,"s":3,"p":0}`},
		"one spelling of the source": {
			strings.Replace(packedCounts, "resourceDetails.source", "resourceDetails.Source", 1),
			`"items":["` + key + `|azure||3|2|0|0|0|0","` + key + `|||0|0|1|0|0|0"]`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			response, body := c.refusal(object{"query": test.query})
			if response.StatusCode != 200 || !strings.Contains(body, test.want) {
				t.Errorf("%d %s, want %s", response.StatusCode, body, test.want)
			}
		})
	}
	if response, body := c.refusal(object{"query": assessmentTypes + `| summarize c = count() by name`}); response.StatusCode != 400 {
		t.Errorf("other columns: %d %s", response.StatusCode, body)
	}
}

// The parts of a query are disjoint and complete.
func TestAssessments_Parts(t *testing.T) {
	t.Parallel()
	tenant := generous(simulator.Generate(1, 1))
	simulator.GenerateAssessments(&tenant, 40)
	_, c := start(t, tenant)
	items := func(where string) []string {
		var packed struct{ Data []struct{ Items []string } }
		_, body := c.refusal(object{"query": strings.Replace(packedCounts, "| extend", where+"| extend", 1)})
		if err := json.Unmarshal([]byte(body), &packed); err != nil {
			t.Fatal(err)
		}
		if len(packed.Data) == 0 {
			return nil
		}
		return packed.Data[0].Items
	}
	var parts []string
	for i := range 4 {
		parts = append(parts, items(fmt.Sprintf("| where hash(tolower(name)) %% 4 == %d ", i))...)
	}
	whole := items("")
	slices.Sort(whole)
	slices.Sort(parts)
	if len(whole) != 40 || !slices.Equal(parts, whole) {
		t.Errorf("%d items in parts, %d in one", len(parts), len(whole))
	}
}

func TestAssessments_Faults(t *testing.T) {
	t.Parallel()
	tenant := generous(simulator.Generate(3, 1))
	simulator.GenerateAssessments(&tenant, 10) // 40 rows in each
	tenant.ResourceGraph.MaxAssessments = 50
	sim, c := start(t, tenant)
	for name, test := range map[string]struct {
		fault         simulator.Fault
		subscriptions int
		query, want   string
	}{
		"small enough":       {nil, 1, packedCounts, `"assessments":40`},
		"too many rows":      {nil, 2, packedCounts, `"code":"UnexpectedQueryExecutionError"`},
		"too many":           {simulator.TooComplex(0), 1, packedCounts, `"code":"UnexpectedQueryExecutionError"`},
		"refused":            {simulator.RefusePackedAssessments(), 1, packedCounts, `"code":"InvalidQuery"`},
		"plain not refused":  {simulator.RefusePackedAssessments(), 1, plainCounts, `"key":`},
		"scores not refused": {simulator.OnAssessments(simulator.ServerError(500)), 1, packedQuery, `"items":[{`},
	} {
		sim.SetGraphFault(test.fault)
		_, body := c.refusal(object{"query": test.query, "subscriptions": idsOf(tenant)[:test.subscriptions]})
		if !strings.Contains(body, test.want) {
			t.Errorf("%s: %.300s, want %s", name, body, test.want)
		}
	}
}
