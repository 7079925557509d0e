package exporter

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
)

// maxRecommendationInfos bounds the recommendations that are named.
const maxRecommendationInfos = 2000

// summaryFamilies are the gauges about recommendations with --recommendations=summary.
var summaryFamilies = []family{
	perSnapshot("recommendation_info", "Name, severity, effort, impact, category and portal link of a recommendation that is unhealthy in any subscription, from assessments in Azure Resource Graph (2024-04-01). The severity is the highest in all subscriptions. Always 1.", writeRecommendationInfos),
	perSnapshot("recommendations_last_success_timestamp_seconds", "Unix time in seconds of the last complete refresh of recommendations, in which Azure responded for every subscription and at least one could be read.",
		func(w *sampleWriter, s *snapshot) {
			if s.recommendations != nil && !s.recommendations.success.IsZero() {
				w.sample(float64(s.recommendations.success.UnixMilli()) / 1000)
			}
		}),
	perSnapshot("recommendations_scrape_failure", "1 while the recommendations of the subscription cannot be read, with the reason of the last refresh; absent otherwise.",
		func(w *sampleWriter, s *snapshot) {
			for i, r := range s.rankings {
				if r != nil && r.reason != "" {
					w.sample(1, label{"reason", string(r.reason)}, label{"subscription_id", s.subscriptions[i].ID})
				}
			}
		}),
	perSnapshot("unhealthy_recommendations", "Distinct unhealthy recommendations by severity, from assessments in Azure Resource Graph (2024-04-01). All recommendations of a dynamic category count as one.",
		func(w *sampleWriter, s *snapshot) {
			eachRankedScope(s, func(sub *subscription, scope *rankedScope) {
				for severity := azure.SeverityCritical; ; severity-- {
					if n := scope.bySeverity[severity]; n > 0 || severity != azure.SeverityUnknown {
						w.sample(float64(n), scope.labels(sub.ID, label{"recommendation_severity", severity.String()})...)
					}
					if severity == azure.SeverityUnknown {
						return
					}
				}
			})
		}),
}

// fullFamilies are the gauges about recommendations with --recommendations=full.
var fullFamilies = append([]family{
	perSnapshot("recommendation_max_increase", "Upper bound in points of what the control gains when this recommendation alone is fixed. Bounds are not additive: a resource counts only when it follows all recommendations of the control.",
		func(w *sampleWriter, s *snapshot) {
			eachRankedScope(s, func(sub *subscription, scope *rankedScope) {
				for _, r := range scope.recommendations {
					for _, i := range r.increases {
						key := i.control.key.Value()
						w.sample(i.points, scope.labels(sub.ID, label{"control_id", key.id}, label{"initiative", key.initiative}, label{"recommendation_id", r.ID})...)
					}
				}
			})
		}),
	perSnapshot("recommendation_resources", "Resources that do not follow the recommendation, by state: unhealthy or exempt. Findings instead of resources for a dynamic category. From assessments in Azure Resource Graph (2024-04-01).",
		func(w *sampleWriter, s *snapshot) {
			eachRankedScope(s, func(sub *subscription, scope *rankedScope) {
				resources := func(id, state string, n uint64) {
					if n > 0 {
						w.sample(float64(n), scope.labels(sub.ID, label{"recommendation_id", id}, label{"state", state})...)
					}
				}
				for _, r := range scope.recommendations {
					resources(r.ID, "exempt", uint64(r.exempt))
					resources(r.ID, "unhealthy", uint64(r.unhealthy))
				}
				resources(otherID, "exempt", scope.otherExempt)
				resources(otherID, "unhealthy", scope.otherUnhealthy)
			})
		}),
	perSnapshot("recommendations_folded", "Recommendations beyond --recommendations.max-per-subscription, aggregated as recommendation_id other.",
		func(w *sampleWriter, s *snapshot) {
			if beyond, known := s.beyondMaximum(); known {
				w.sample(float64(beyond))
			}
		}),
}, summaryFamilies...)

// familiesFor returns the gauges for the configuration.
func familiesFor(cfg Config, tags []tagLabel, reader *azure.RecommendationReader) []family {
	all := slices.Concat(families, ownershipFamilies(tags))
	switch {
	case reader == nil:
		return all
	case cfg.Recommendations == RecommendationsSummary:
		return slices.Concat(all, summaryFamilies)
	}
	return slices.Concat(all, fullFamilies)
}

// writeRecommendationInfos names every recommendation that is unhealthy in any subscription, and
// one for those beyond the maximum.
func writeRecommendationInfos(w *sampleWriter, s *snapshot) {
	beyond, known := s.beyondMaximum()
	if !known {
		return
	}
	var infos []*azure.Recommendation
	for i := range s.recommendations.List {
		if r := &s.recommendations.List[i]; r.Unhealthy > 0 && r.ID != otherID {
			infos = append(infos, r)
		}
	}
	slices.SortFunc(infos, func(a, b *azure.Recommendation) int {
		return cmp.Or(cmp.Compare(b.Severity, a.Severity), strings.Compare(a.ID, b.ID))
	})
	for _, r := range infos[:min(len(infos), maxRecommendationInfos)] {
		w.sample(1, infoLabels(r)...)
	}
	if beyond > 0 {
		w.sample(1, infoLabels(&azure.Recommendation{ID: otherID, Name: "Recommendations beyond the maximum per subscription"})...)
	}
}

func infoLabels(r *azure.Recommendation) []label {
	return []label{
		{"effort", strings.ToLower(r.Effort)},
		{"preview", strconv.FormatBool(r.Preview)},
		{"recommendation", cmp.Or(r.Name, r.ID)},
		{"recommendation_category", r.Category},
		{"recommendation_id", r.ID},
		{"recommendation_severity", r.Severity.String()},
		{"url", r.URL},
		{"user_impact", strings.ToLower(r.UserImpact)},
	}
}

// labels are those of the scope, and others, by name.
func (s *rankedScope) labels(subscriptionID string, others ...label) []label {
	labels := make([]label, 0, 3+len(others))
	if s.connector != "" {
		labels = append(labels, label{"connector", s.connector})
	}
	labels = append(labels, label{"environment", s.environment})
	labels = append(labels, others...)
	labels = append(labels, label{"subscription_id", subscriptionID})
	slices.SortFunc(labels, func(a, b label) int { return strings.Compare(a.name, b.name) })
	return labels
}

// eachRankedScope calls do for every subscription and connector whose recommendations are known.
func eachRankedScope(s *snapshot, do func(*subscription, *rankedScope)) {
	for i, r := range s.rankings {
		if r == nil {
			continue
		}
		for n := range r.scopes {
			do(s.subscriptions[i], &r.scopes[n])
		}
	}
}
