package exporter

import (
	"fmt"
	"slices"
	"testing"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
)

// A subscription and each of its connectors have one row, with the score of the default initiative.
// Connectors of two clouds can have the same name.
func TestStatusRow_OneForEachConnector(t *testing.T) {
	t.Parallel()
	sub := &subscription{Subscription: azure.Subscription{ID: "1", Name: "Sales"}}
	for name, test := range map[string]struct {
		scores []azure.Score
		want   []string
	}{
		"no score": {nil, []string{"Sales not-scored"}},
		"a connector alone": {
			[]azure.Score{{Connector: "prod", Environment: "GCP", Initiative: "custom"}},
			[]string{"Sales not-scored", "prod read GCP custom"},
		},
		"several initiatives and clouds": {
			[]azure.Score{
				{Connector: "prod", Environment: "GCP", Initiative: "custom"},
				{Connector: "prod", Environment: "AWS", Initiative: "ascScore"},
				{Environment: "Azure", Initiative: "a-custom"},
				{Connector: "prod", Environment: "GCP", Initiative: "ascScore"},
				{Environment: "AWS", Initiative: "ascScore"}, // should Azure not name a connector
				{Environment: "Azure", Initiative: "ascScore"},
				{Connector: "prod", Environment: "AWS", Initiative: "a-custom"},
			},
			[]string{"Sales read Azure ascScore", "prod read AWS ascScore", "prod read GCP ascScore"},
		},
	} {
		sub.lastGood = newValues(azure.Result{Scores: test.scores})
		var got []string
		for _, e := range appendEntries(nil, sub, sub.lastGood) {
			row := e.name + " " + e.state.String()
			if e.score != nil {
				key := e.score.key.Value()
				row = fmt.Sprint(row, " ", key.environment, " ", key.initiative)
			}
			got = append(got, row)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}
