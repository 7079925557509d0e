package exporter

import (
	"slices"
	"strings"
	"testing"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// Connectors to different clouds can have the same name, and a resource of a connector may not say
// which cloud it is in.
func TestRanking_ConnectorsOfOneName(t *testing.T) {
	t.Parallel()
	r := &simulator.Recommendation{Key: "aaaaaaaa-0000-4000-8000-00000000000a", Name: "A", Severity: "High"}
	other := &simulator.Recommendation{Key: "bbbbbbbb-0000-4000-8000-00000000000b", Name: "B", Severity: "Low"}
	control := simulator.Control{ID: "cccccccc-0000-4000-8000-00000000000c", DisplayName: "C", Max: 8, Healthy: 4, Unhealthy: 4, Recommendations: []*simulator.Recommendation{r, other}}
	tenant := simulator.Generate(1, 1)
	sub := &tenant.Subscriptions[0]
	for _, environment := range []string{"AWS", "GCP"} {
		sub.Connectors = append(sub.Connectors, simulator.Connector{Name: "prod", Environment: environment, Controls: []simulator.Control{control}})
	}
	for i, source := range []string{"Aws", "Gcp", "Gcp", ""} {
		sub.Assessments = append(sub.Assessments, simulator.Assessment{Recommendation: r, Resource: "/resources/" + string(rune('a'+i)), Connector: "prod", Source: source, State: "Unhealthy"})
	}
	sub.Assessments = append(sub.Assessments, simulator.Assessment{Recommendation: other, Resource: "/resources/e", Connector: "prod", State: "Unhealthy"})

	labels := func(environment, more string) string {
		return `{connector="prod",` + strings.ReplaceAll(more, "ENVIRONMENT", `environment="`+environment+`"`) + `,subscription_id="` + sub.ID + `"} `
	}
	const resources, of = "azure_secure_score_recommendation_resources", "ENVIRONMENT,recommendation_id="
	for name, test := range map[string]struct {
		source func(*azure.Client) Source
		want   []string
	}{
		"with a score": {
			func(c *azure.Client) Source { return azure.NewResourceGraph(c) },
			[]string{
				resources + labels("AWS", of+`"`+r.Key+`",state="unhealthy"`) + "2",
				resources + labels("AWS", of+`"`+other.Key+`",state="unhealthy"`) + "1",
				resources + labels("GCP", of+`"`+r.Key+`",state="unhealthy"`) + "2",
			},
		},
		"without a score": {
			func(c *azure.Client) Source { return c },
			[]string{
				resources + labels("AWS", of+`"`+r.Key+`",state="unhealthy"`) + "1",
				resources + labels("GCP", of+`"`+r.Key+`",state="unhealthy"`) + "2",
				resources + labels("unknown", of+`"`+r.Key+`",state="unhealthy"`) + "1",
				resources + labels("unknown", of+`"`+other.Key+`",state="unhealthy"`) + "1",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startWithRecommendationsFrom(t, tenant, DefaultConfig(), test.source)
			lines := s.scrapeWithRecommendations(t)
			got := containing(containing(lines, resources), `connector="prod"`)
			slices.Sort(got)
			if !slices.Equal(got, test.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
			series := map[string]bool{}
			for _, line := range lines {
				name := line[:strings.LastIndexByte(line, ' ')]
				if series[name] && !strings.HasPrefix(line, "#") {
					t.Errorf("duplicate series %s", name)
				}
				series[name] = true
			}
		})
	}
}
