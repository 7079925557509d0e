package exporter

import (
	"cmp"
	"slices"
	"strings"
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
	Sections []*statusSection // those of the subscription itself first
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
	d := &statusDetail{
		Subscription: sub.Subscription, Portal: portal(sub.ID), Groups: groupPath(sub.ManagementGroups),
		State: appendEntries(nil, sub, v)[0].state, Failure: newStatusFailure(sub.err, sub.ID),
	}
	if sub.lastGood != nil {
		d.ReadAt = sub.lastGood.readAt
	}
	if v == nil {
		return d
	}
	totals, ranked := newTotals(s), s.rankings[s.index(sub.ID)]
	sections := map[scoreKey]*statusSection{}
	add := func(s *score, scored bool) *statusSection {
		section := &statusSection{statusScore: newStatusScore(s, sub.Target, totals), Scored: scored}
		sections[s.key.Value()] = section
		d.Sections = append(d.Sections, section)
		return section
	}
	for i := range v.scores {
		add(&v.scores[i], true)
	}
	for i := range v.controls {
		c := &v.controls[i]
		key := c.key.Value().scoreKey
		section := sections[key]
		if section == nil {
			section = add(&score{key: unique.Make(key)}, false)
		}
		shown := newStatusControl(c, scoreOf(v, key), totals)
		shown.Recommendations = recommendationsOf(ranked, c)
		section.Controls = append(section.Controls, shown)
	}
	for _, section := range d.Sections {
		slices.SortStableFunc(section.Controls, func(a, b statusControl) int {
			return cmp.Or(cmp.Compare(b.Gain, a.Gain), cmp.Compare(b.Unhealthy, a.Unhealthy), cmp.Compare(a.Name, b.Name))
		})
	}
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

// groupPath joins the names of management groups, the root first.
func groupPath(groups []azure.ManagementGroup) string {
	names := make([]string, len(groups))
	for i, group := range groups {
		names[len(groups)-1-i] = group.Name
	}
	return strings.Join(names, " / ")
}
