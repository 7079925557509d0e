package exporter

import (
	"cmp"
	"maps"
	"slices"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
)

// totals are the scores of all subscriptions and connectors together, by initiative: scores of
// different initiatives are never mixed.
type totals map[string]*total

// total is the weighted mean of all scores in one initiative.
type total struct {
	Initiative string
	Scores     int // how many are in it

	weighted, weights float64
}

func newTotals(s *snapshot) totals {
	t := totals{}
	for _, sub := range s.subscriptions {
		v := s.cutoffs.values(sub)
		if v == nil {
			continue
		}
		for i := range v.scores {
			t.add(&v.scores[i])
		}
	}
	return t
}

func (t totals) add(s *score) {
	initiative := s.key.Value().initiative
	of := t[initiative]
	if of == nil {
		of = &total{Initiative: initiative}
		t[initiative] = of
	}
	of.weighted += s.totalWeight() * s.ratio
	of.weights += s.totalWeight()
	of.Scores++
}

// totalWeight is the weight of the score in the total: 0 counts as 1, as Azure does it.
func (s *score) totalWeight() float64 { return cmp.Or(s.weight, 1) }

// Ratio is the weighted mean.
func (t *total) Ratio() float64 { return t.weighted / t.weights }

// share is what points of one score are worth in the total, as a ratio: weight × points ÷ the
// score's maximum, divided by the sum of all weights. This is how the Azure portal computes the
// potential increase of a control over several subscriptions.
func (t totals) share(s *score, points float64) float64 {
	of := t[s.key.Value().initiative]
	if of == nil || s.Max == 0 {
		return 0
	}
	return s.totalWeight() * points / s.Max / of.weights
}

// sorted returns the default initiative first.
func (t totals) sorted() []*total {
	return slices.SortedFunc(maps.Values(t), func(a, b *total) int { return compareDefaultFirst(azure.DefaultInitiative, a.Initiative, b.Initiative) })
}

// missingPoints are the points that can be gained. They are never negative.
func missingPoints(p azure.Points) float64 { return max(0, p.Max-p.Current) }
