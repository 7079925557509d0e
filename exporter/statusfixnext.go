package exporter

import (
	"cmp"
	"slices"
	"strings"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
)

const (
	// fixNextControls and fixNextRecommendations bound the list "Fix next".
	fixNextControls        = 5
	fixNextRecommendations = 3
)

// fixNext is a control to fix, over all subscriptions and connectors.
type fixNext struct {
	Name            string
	Gain            float64 // how much of the total score it lacks, as a ratio
	Unhealthy       int64   // resources
	Scopes          int     // subscriptions and connectors that lack points of it
	Recommendations []*fixNextRecommendation
	More            int // recommendations that are not shown
}

// fixNextRecommendation is a recommendation of a control.
type fixNextRecommendation struct {
	*azure.Recommendation
	Resources int64 // unhealthy ones
	Scopes    int   // subscriptions and connectors with unhealthy resources
}

// newFixNext returns the controls of the default initiative that gain most, by the portal's
// formula, and their recommendations. A control without any is listed as itself.
func newFixNext(s *snapshot, totals totals) []*fixNext {
	byID := map[string]*fixNext{}
	for _, sub := range s.subscriptions {
		v := s.cutoffs.values(sub)
		if v == nil {
			continue
		}
		for i := range v.controls {
			c := &v.controls[i]
			key := c.key.Value()
			of := scoreOf(v, key.scoreKey)
			if of == nil || key.initiative != azure.DefaultInitiative || missingPoints(c.Points) == 0 {
				continue
			}
			f := byID[key.id]
			if f == nil {
				f = &fixNext{Name: cmp.Or(key.name, key.id)}
				byID[key.id] = f
			}
			f.Gain += totals.share(of, missingPoints(c.Points))
			f.Unhealthy += int64(c.unhealthy)
			f.Scopes++
		}
	}
	addRecommendations(s, byID)
	all := make([]*fixNext, 0, len(byID))
	for _, f := range byID {
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b *fixNext) int {
		return cmp.Or(cmp.Compare(b.Gain, a.Gain), cmp.Compare(b.Unhealthy, a.Unhealthy), strings.Compare(a.Name, b.Name))
	})
	return all[:min(len(all), fixNextControls)]
}

// addRecommendations adds the unhealthy recommendations of the whole fleet to their controls.
// Previews do not count towards the score.
func addRecommendations(s *snapshot, byID map[string]*fixNext) {
	if s.recommendations == nil {
		return
	}
	scopes := make([]int, len(s.recommendations.List))
	for i, ranked := range s.rankings {
		if ranked == nil || len(ranked.scopes) == 0 {
			continue
		}
		read := s.recommendations.byID[s.subscriptions[i].ID]
		for _, scope := range read.Scopes {
			for _, c := range scope.Counts {
				if c.Unhealthy > 0 {
					scopes[c.Index]++
				}
			}
		}
	}
	for i := range s.recommendations.List {
		r := &s.recommendations.List[i]
		if scopes[i] == 0 || r.Preview {
			continue
		}
		for _, id := range r.ControlIDs {
			if f := byID[id]; f != nil {
				f.Recommendations = append(f.Recommendations, &fixNextRecommendation{r, int64(min(r.Unhealthy, 1<<53)), scopes[i]})
			}
		}
	}
	for _, f := range byID {
		slices.SortFunc(f.Recommendations, func(a, b *fixNextRecommendation) int {
			return cmp.Or(cmp.Compare(b.Severity, a.Severity), cmp.Compare(b.Unhealthy, a.Unhealthy), strings.Compare(a.ID, b.ID))
		})
		f.More = max(0, len(f.Recommendations)-fixNextRecommendations)
		f.Recommendations = f.Recommendations[:len(f.Recommendations)-f.More]
	}
}

// scoreOf returns the score that a control belongs to, or nil.
func scoreOf(v *values, key scoreKey) *score {
	for i := range v.scores {
		if v.scores[i].key.Value() == key {
			return &v.scores[i]
		}
	}
	return nil
}
