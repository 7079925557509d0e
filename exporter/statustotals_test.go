package exporter

import (
	"math"
	"testing"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// All potential gains together are what the total score lacks, over scores and over controls.
func TestStatusTotals_GainsAddUp(t *testing.T) {
	t.Parallel()
	s := startFrom(t, simulator.Demo(), DefaultConfig(), azure.Config{}, resourceGraph)
	s.scrape(t, "")
	list, snapshot := s.list(t), s.exporter.cache.latest()
	var ofScores, ofControls float64
	for _, row := range list.Rows {
		if row.Score != nil {
			ofScores += row.Score.OfAll
		}
	}
	for _, sub := range snapshot.subscriptions {
		for _, section := range newStatusDetail(snapshot, sub, s.exporter.cache.collector.source.RecommendationsURL).Sections {
			for _, control := range section.Controls {
				ofControls += control.OfAll
			}
		}
	}
	lacking := 1 - list.Totals[0].Ratio()
	// Azure rounds ratios to four decimals.
	if math.Abs(ofScores-lacking) > 1e-4 || math.Abs(ofControls-lacking) > 1e-4 || lacking < 0.1 {
		t.Errorf("the total lacks %g, all scores %g, all controls %g", lacking, ofScores, ofControls)
	}
}

// The share of a score's points in the total follows its weight; Azure counts the weight 0 as 1.
func TestStatusTotals_Share(t *testing.T) {
	t.Parallel()
	values := newValues(azure.Result{Scores: []azure.Score{
		{Initiative: "ascScore", Environment: "Azure", Points: azure.Points{Current: 40, Max: 50}, Ratio: 0.8, Weight: 7},
		{Initiative: "custom", Environment: "Azure", Points: azure.Points{Current: 1, Max: 4}, Ratio: 0.25, Weight: 3},
		{Initiative: "ascScore", Environment: "AWS", Connector: "a", Points: azure.Points{Current: 5, Max: 10}, Ratio: 0.5},
		{Initiative: "ascScore", Environment: "GCP", Connector: "b", Weight: 2},
	}})
	totals := totals{}
	for i := range values.scores {
		totals.add(&values.scores[i])
	}
	if sorted := totals.sorted(); len(sorted) != 2 || sorted[0].Scores != 3 || math.Abs(sorted[0].Ratio()-(7*0.8+0.5)/10) > 1e-9 || sorted[1].Ratio() != 0.25 {
		t.Errorf("the totals are %+v", sorted)
	}
	for i, want := range []float64{7 * 0.2 / 10, 0.75, 0.5 / 10, 0} {
		s := &values.scores[i]
		if got := totals.share(s, missingPoints(s.Points)); math.Abs(got-want) > 1e-9 {
			t.Errorf("the share of score %d is %g, want %g", i, got, want)
		}
	}
}
