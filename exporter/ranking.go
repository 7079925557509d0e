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

// ranking holds the recommendations of a subscription and its connectors by urgency, up to a
// maximum.
type ranking struct {
	scopes []rankedScope
	beyond int          // recommendations beyond the maximum
	reason azure.Reason // why they cannot be read; empty if they can
}

// rankedScope holds those of the subscription itself, or of one of its connectors.
type rankedScope struct {
	environment, connector string
	bySeverity             [azure.SeverityCritical + 1]int // unhealthy recommendations
	recommendations        []rankedRecommendation          // most urgent first
	otherUnhealthy         uint64                          // resources of those beyond the maximum
	otherExempt            uint64
}

// rankedRecommendation is a recommendation that resources do not follow.
type rankedRecommendation struct {
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
func (r *rankedRecommendation) maxIncrease() float64 {
	most := 0.0
	for _, i := range r.increases {
		most = max(most, i.points)
	}
	return most
}

// newRanking joins a subscription's recommendations with the controls of the same snapshot. It
// keeps the most urgent ones up to the maximum.
func newRanking(set *recommendationSet, s *subscription, c cutoffs) *ranking {
	read, v := set.byID[s.ID], c.values(s)
	if read == nil {
		return nil
	}
	ranked := &ranking{reason: azure.ReasonOf(read.Err)}
	if read.ReadAt.Before(c.recommendations) {
		return ranked
	}
	ranked.scopes = scopesOf(read, v)
	var all []*rankedRecommendation
	for i := range ranked.scopes {
		scope := &ranked.scopes[i]
		for _, c := range countsOf(read, scope, v) {
			r := &set.List[c.Index]
			if r.ID == otherID || c.Unhealthy+c.Exempt == 0 {
				continue
			}
			if c.Unhealthy > 0 {
				scope.bySeverity[r.Severity]++
			}
			scope.recommendations = append(scope.recommendations, rankedRecommendation{
				Recommendation: r, unhealthy: c.Unhealthy, exempt: c.Exempt, increases: increasesOf(r, c.Unhealthy, scope, v),
			})
		}
		for i := range scope.recommendations {
			all = append(all, &scope.recommendations[i])
		}
	}
	if len(all) > set.maximum {
		ranked.keepMostUrgent(all, set.maximum)
	}
	for i := range ranked.scopes {
		slices.SortFunc(ranked.scopes[i].recommendations, func(a, b rankedRecommendation) int { return compareUrgency(&a, &b) })
	}
	return ranked
}

// keepMostUrgent aggregates all but the most urgent recommendations. Replicas choose the same ones,
// because the choice depends on this snapshot alone.
func (r *ranking) keepMostUrgent(all []*rankedRecommendation, maximum int) {
	slices.SortStableFunc(all, compareUrgency)
	kept := make(map[*rankedRecommendation]bool, maximum)
	for _, urgent := range all[:maximum] {
		kept[urgent] = true
	}
	r.beyond = len(all) - maximum
	for i := range r.scopes {
		scope := &r.scopes[i]
		shown := make([]rankedRecommendation, 0, maximum)
		for n := range scope.recommendations {
			recommendation := &scope.recommendations[n]
			if kept[recommendation] {
				shown = append(shown, *recommendation)
				continue
			}
			scope.otherUnhealthy += uint64(recommendation.unhealthy)
			scope.otherExempt += uint64(recommendation.exempt)
		}
		scope.recommendations = slices.Clip(shown)
	}
}

// compareUrgency orders recommendations by severity, bound and ID. Those with exempt resources
// alone come last.
func compareUrgency(a, b *rankedRecommendation) int {
	return cmp.Or(
		cmp.Compare(boolean(b.unhealthy > 0), boolean(a.unhealthy > 0)),
		cmp.Compare(b.Severity, a.Severity),
		cmp.Compare(b.maxIncrease(), a.maxIncrease()),
		strings.Compare(a.ID, b.ID),
	)
}

// scopesOf returns the subscription itself, its connectors with a score, and those with a
// recommendation. Connectors to different clouds can have the same name.
func scopesOf(read *azure.SubscriptionRecommendations, v *values) []rankedScope {
	scopes := []rankedScope{{environment: scoreEnvironment(environmentAzure, "", v)}}
	add := func(environment, connector string) {
		if !slices.ContainsFunc(scopes, func(s rankedScope) bool { return s.environment == environment && s.connector == connector }) {
			scopes = append(scopes, rankedScope{environment: environment, connector: connector})
		}
	}
	if v != nil {
		for _, s := range v.scores {
			if key := s.key.Value(); key.connector != "" {
				add(key.environment, key.connector)
			}
		}
	}
	for _, s := range read.Scopes {
		add(scoreEnvironment(s.Environment, s.Connector, v), s.Connector)
	}
	return scopes
}

// scoreEnvironment returns the environment of a connector's score: the given one if there is such a
// score, or no score at all.
func scoreEnvironment(environment, connector string, v *values) string {
	if v == nil {
		return environment
	}
	other := ""
	for _, s := range v.scores {
		switch key := s.key.Value(); {
		case key.connector != connector:
		case key.environment == environment:
			return environment
		default:
			other = cmp.Or(other, key.environment)
		}
	}
	return cmp.Or(other, environment)
}

// countsOf returns the counts of a scope. Resources of one connector that name different
// environments, or none, add up.
func countsOf(read *azure.SubscriptionRecommendations, scope *rankedScope, v *values) []azure.RecommendationCount {
	var counts []azure.RecommendationCount
	for _, s := range read.Scopes {
		switch {
		case s.Connector != scope.connector || scoreEnvironment(s.Environment, s.Connector, v) != scope.environment:
		case counts == nil:
			counts = s.Counts
		default:
			counts = addCounts(counts, s.Counts)
		}
	}
	return counts
}

// addCounts adds counts of the same recommendations up.
func addCounts(a, b []azure.RecommendationCount) []azure.RecommendationCount {
	sum := slices.Clone(a) // shared with others
	position := make(map[uint32]int, len(sum))
	for i, c := range sum {
		position[c.Index] = i
	}
	for _, c := range b {
		if i, found := position[c.Index]; found {
			sum[i].Unhealthy += c.Unhealthy
			sum[i].Exempt += c.Exempt
		} else {
			sum = append(sum, c)
		}
	}
	return sum
}

// increasesOf returns the bounds of a recommendation in the controls that it belongs to. There are
// none for a preview and a folded category, which do not count towards the score.
func increasesOf(r *azure.Recommendation, unhealthy uint32, scope *rankedScope, v *values) []increase {
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
		if key.connector != scope.connector || key.environment != scope.environment || !slices.Contains(r.ControlIDs, key.id) {
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
