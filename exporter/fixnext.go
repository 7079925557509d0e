package exporter

import (
	"cmp"
	"slices"
	"strings"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
)

// otherID is the recommendation_id of the recommendations beyond the maximum per subscription.
const otherID = "other"

// environmentAzure is that of a subscription itself.
const environmentAzure = "Azure"

// toFix is what a subscription and its connectors have to fix.
type toFix struct {
	scopes []scopeToFix
	// beyond is the number of recommendations beyond the maximum.
	beyond int
	reason azure.Reason // why they cannot be read; empty if they can
}

// scopeToFix is what a subscription itself, or one of its connectors, has to fix.
type scopeToFix struct {
	environment, connector string
	bySeverity             [azure.SeverityCritical + 1]int // unhealthy recommendations
	recommendations        []recommendationToFix           // most urgent first
	otherUnhealthy         uint64                          // resources of those beyond the maximum
	otherExempt            uint64
}

// recommendationToFix is a recommendation with resources that do not follow it.
type recommendationToFix struct {
	*azure.Recommendation
	unhealthy, exempt uint32
	increases         []increase
}

// increase is an upper bound of the points that a control gains when the recommendation alone is
// fixed. Those of one control do not add up.
type increase struct {
	control *control
	points  float64
}

// maxIncrease is the largest of the bounds.
func (r *recommendationToFix) maxIncrease() float64 {
	most := 0.0
	for _, i := range r.increases {
		most = max(most, i.points)
	}
	return most
}

// newToFix joins a subscription's recommendations with the controls of the same snapshot. It keeps
// the most urgent ones up to the maximum.
func newToFix(set *recommendationSet, s *subscription, c cutoffs, maximum int) *toFix {
	read, v := set.byID[s.ID], c.values(s)
	if read == nil || !s.Active() {
		return nil
	}
	fix := &toFix{}
	if read.Err != nil {
		fix.reason = azure.ReasonOf(read.Err)
	}
	if read.ReadAt.Before(c.recommendations) {
		return fix
	}
	fix.scopes = scopesOf(read, v)
	var all []*recommendationToFix
	for i := range fix.scopes {
		scope := &fix.scopes[i]
		for _, c := range countsOf(read, scope.connector) {
			r := &set.List[c.Index]
			if r.ID == otherID || c.Unhealthy+c.Exempt == 0 {
				continue
			}
			if c.Unhealthy > 0 {
				scope.bySeverity[r.Severity]++
			}
			scope.recommendations = append(scope.recommendations, recommendationToFix{
				Recommendation: r, unhealthy: c.Unhealthy, exempt: c.Exempt, increases: increasesOf(r, c.Unhealthy, scope, v),
			})
		}
		for i := range scope.recommendations {
			all = append(all, &scope.recommendations[i])
		}
	}
	if len(all) > maximum {
		fix.beyond = len(all) - maximum
		fix.keepMostUrgent(all, maximum)
	}
	for i := range fix.scopes {
		slices.SortFunc(fix.scopes[i].recommendations, func(a, b recommendationToFix) int { return moreUrgent(&a, &b) })
	}
	return fix
}

// keepMostUrgent aggregates all but the most urgent recommendations. Replicas choose the same ones,
// because the choice depends on this snapshot alone.
func (f *toFix) keepMostUrgent(all []*recommendationToFix, maximum int) {
	slices.SortStableFunc(all, moreUrgent)
	kept := make(map[*recommendationToFix]bool, maximum)
	for _, r := range all[:maximum] {
		kept[r] = true
	}
	for i := range f.scopes {
		scope := &f.scopes[i]
		shown := make([]recommendationToFix, 0, maximum)
		for n := range scope.recommendations {
			r := &scope.recommendations[n]
			if kept[r] {
				shown = append(shown, *r)
				continue
			}
			scope.otherUnhealthy += uint64(r.unhealthy)
			scope.otherExempt += uint64(r.exempt)
		}
		scope.recommendations = slices.Clip(shown)
	}
}

// moreUrgent orders recommendations by severity, bound and ID. Those with exempt resources alone
// come last.
func moreUrgent(a, b *recommendationToFix) int {
	return cmp.Or(
		cmp.Compare(boolean(b.unhealthy > 0), boolean(a.unhealthy > 0)),
		cmp.Compare(b.Severity, a.Severity),
		cmp.Compare(b.maxIncrease(), a.maxIncrease()),
		strings.Compare(a.ID, b.ID),
	)
}

// scopesOf returns the subscription itself, its connectors with a score, and those with a
// recommendation. The environment of a connector is that of its score if there is one.
func scopesOf(read *azure.SubscriptionRecommendations, v *values) []scopeToFix {
	scopes := []scopeToFix{{environment: environmentAzure}}
	add := func(environment, connector string) {
		if !slices.ContainsFunc(scopes, func(s scopeToFix) bool { return s.connector == connector }) {
			scopes = append(scopes, scopeToFix{environment: environment, connector: connector})
		}
	}
	if v != nil {
		for _, s := range v.scores {
			key := s.key.Value()
			add(key.environment, key.connector)
		}
	}
	for _, s := range read.Scopes {
		add(s.Environment, s.Connector)
	}
	return scopes
}

func countsOf(read *azure.SubscriptionRecommendations, connector string) []azure.RecommendationCount {
	for _, s := range read.Scopes {
		if s.Connector == connector {
			return s.Counts
		}
	}
	return nil
}

// increasesOf returns the bounds of a recommendation in the controls that it belongs to. There are
// none for a preview and a folded category, which do not count towards the score.
func increasesOf(r *azure.Recommendation, unhealthy uint32, scope *scopeToFix, v *values) []increase {
	if v == nil || unhealthy == 0 || r.Preview || len(r.ControlIDs) == 0 {
		return nil
	}
	var all []increase
	for i := range v.controls {
		c := &v.controls[i]
		if !c.hasPoints || c.Max == 0 {
			continue
		}
		key := c.key.Value()
		if key.connector != scope.connector || !slices.Contains(r.ControlIDs, key.id) {
			continue
		}
		all = append(all, increase{c, c.maxIncrease(unhealthy)})
	}
	return all
}

// maxIncrease is [azure.Control.MaxIncrease].
func (c *control) maxIncrease(unhealthy uint32) float64 {
	return azure.Control{Points: c.Points, HasPoints: true, Healthy: c.healthy, Unhealthy: c.unhealthy}.MaxIncrease(unhealthy)
}
