package azure

import (
	"strings"
	"testing"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

func TestCheckRecommendations(t *testing.T) {
	t.Parallel()
	tenant := simulator.Demo()
	sim, g := startGraph(t, tenant, Config{})
	report := g.Check(within(t, time.Minute), func(int) {}, func() {})
	report.CheckRecommendations(within(t, time.Minute), g)
	for _, s := range report.Subscriptions {
		switch s.ID {
		case simulator.DemoDisabledID:
			if s.Recommendations != nil {
				t.Errorf("disabled: %+v", *s.Recommendations)
			}
		case simulator.DemoForbiddenID:
			if r := s.Recommendations; r.OK || r.Reason != ReasonForbidden || !strings.Contains(r.Detail, "missing permission Microsoft.Security/assessments/read") || !strings.Contains(r.Fix, "az role assignment create") {
				t.Errorf("forbidden: %+v", *r)
			}
		default:
			if !s.Recommendations.OK || !s.OK() {
				t.Errorf("%s: %+v", s.Name, s)
			}
		}
	}

	// The scores alone can be read.
	demo := tenant.Subscriptions[1]
	sim.SetGraphFault(simulator.OnAssessments(simulator.DropRows(demo.ID)))
	report = g.Check(within(t, time.Minute), func(int) {}, func() {})
	report.CheckRecommendations(within(t, time.Minute), g)
	if s := report.Subscriptions[1]; report.OK || s.OK() || !s.Scores.OK || s.Recommendations.Reason != ReasonForbidden {
		t.Errorf("got %+v", *s.Recommendations)
	}
}

func TestExportRecommendations(t *testing.T) {
	t.Parallel()
	tenant := simulator.Demo()
	_, g := startGraph(t, tenant, Config{})
	rows := 0
	for row := range g.ExportRecommendations(within(t, time.Minute), ids(tenant)[:3]).Rows() {
		rows++
		if row.SubscriptionID == "" || row.Recommendation == "" || row.Unhealthy+row.Exempt == 0 {
			t.Errorf("%+v", row)
		}
	}
	if rows < 100 {
		t.Errorf("%d rows", rows)
	}
}
