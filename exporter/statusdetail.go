package exporter

import (
	"cmp"
	"slices"
	"time"
	"unique"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
)

// statusDetail is the page of one subscription.
type statusDetail struct {
	azure.Subscription
	Portal   string // the link to the Azure portal, or empty
	Groups   string // the names of the management groups above, the root first
	State    rowState
	Failure  *statusFailure
	ReadAt   time.Time
	Sections []*statusSection // that of the subscription itself first
}

// statusSection is a score of the subscription or of one of its connectors, with its controls.
type statusSection struct {
	*statusScore
	Scored   bool            // false if Azure lists controls without their score
	Controls []statusControl // most gain first
}

// statusControl is a control on the status page.
type statusControl struct {
	ID, Name string
	azure.Points
	HasPoints                         bool
	Gain                              float64 // the points that are missing
	OfAll                             float64 // how much of the total score they are, as a ratio
	Healthy, Unhealthy, NotApplicable int64
	Recommendations                   []statusRecommendation // most urgent first
}

// statusRecommendation is a recommendation of a control.
type statusRecommendation struct {
	*azure.Recommendation
	Resources   int64
	MaxIncrease float64 // points
}

// HasRecommendations reports whether any control shows a recommendation.
func (s *statusSection) HasRecommendations() bool {
	return slices.ContainsFunc(s.Controls, func(c statusControl) bool { return len(c.Recommendations) > 0 })
}

func newStatusDetail(s *snapshot, sub *subscription, portal func(subscriptionID string) string) *statusDetail {
	v := s.cutoffs.values(sub)
	own := ownScore(v)
	d := &statusDetail{
		Subscription: sub.Subscription, Portal: portal(sub.ID), Groups: groupPath(sub.ManagementGroups),
		State: stateOf(sub, v, own), Failure: newStatusFailure(sub.err, sub.ID),
	}
	if sub.lastGood != nil {
		d.ReadAt = sub.lastGood.readAt
	}
	if v == nil {
		return d
	}
	totals, ranked := newTotals(s), s.rankings[s.index(sub.ID)]
	scores := map[scoreKey]*score{}
	for i := range v.scores {
		scores[v.scores[i].key.Value()] = &v.scores[i]
	}
	sections := map[scoreKey]*statusSection{}
	for key, score := range scores {
		sections[key] = &statusSection{statusScore: newStatusScore(score, sub.Target, totals), Scored: true}
	}
	for i := range v.controls {
		c := &v.controls[i]
		key := c.key.Value().scoreKey
		if sections[key] == nil {
			sections[key] = &statusSection{statusScore: newStatusScore(&score{key: unique.Make(key)}, nil, totals)}
		}
		shown := newStatusControl(c, scores[key], totals)
		shown.Recommendations = recommendationsOf(ranked, c)
		sections[key].Controls = append(sections[key].Controls, shown)
	}
	for _, section := range sections {
		slices.SortStableFunc(section.Controls, func(a, b statusControl) int {
			return cmp.Or(cmp.Compare(b.Gain, a.Gain), cmp.Compare(b.Unhealthy, a.Unhealthy), cmp.Compare(a.Name, b.Name))
		})
		d.Sections = append(d.Sections, section)
	}
	slices.SortFunc(d.Sections, func(a, b *statusSection) int {
		return cmp.Or(cmp.Compare(a.Connector, b.Connector), cmp.Compare(a.Environment, b.Environment), defaultFirst(a.Initiative, b.Initiative))
	})
	return d
}

// recommendationsOf returns the recommendations that a control can gain points from.
func recommendationsOf(ranked *ranking, c *control) []statusRecommendation {
	if ranked == nil {
		return nil
	}
	var all []statusRecommendation
	for _, scope := range ranked.scopes {
		for _, r := range scope.recommendations {
			for _, i := range r.increases {
				if i.control == c {
					all = append(all, statusRecommendation{r.Recommendation, int64(r.unhealthy), i.points})
				}
			}
		}
	}
	return all
}

func newStatusControl(c *control, s *score, totals totals) statusControl {
	key := c.key.Value()
	shown := statusControl{
		ID: key.id, Name: key.name, Points: c.Points, HasPoints: c.hasPoints, Gain: missingPoints(c.Points),
		Healthy: int64(c.healthy), Unhealthy: int64(c.unhealthy), NotApplicable: int64(c.notApplicable),
	}
	if s != nil {
		shown.OfAll = totals.share(s, shown.Gain)
	}
	return shown
}
