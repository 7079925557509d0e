package main

import (
	"math"
	"slices"
	"strings"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// published is a recommendation that Microsoft publishes half a day before the end.
const published = "805651bc-6ecd-4c73-9b55-97a19d0582d0"

// finding is a recommendation of a control in one score.
type finding struct {
	*simulator.Recommendation
	score
	control int
	share   float64 // of the control's unhealthy resources
}

// findings are those of all scores, without previews and what the exporter counts by category.
func findings(scores []score) (all []finding) {
	for _, s := range scores {
		for k, c := range s.windows[0].Controls {
			for _, r := range c.Recommendations {
				if !r.Preview && !r.Unmapped && r.Dynamic == "" {
					all = append(all, finding{r, s, k, 0.2 + 0.8*noise(s.owner, r.Key)})
				}
			}
		}
	}
	return all
}

// unhealthy returns the unhealthy resources at sample i.
func (f finding) unhealthy(h history, i int) float64 {
	if !f.served(h, i) || f.Key == published && h.daysAgo(i) > 0.5 {
		return 0
	}
	return math.Round(f.share * float64(f.windows[h.window(f.owner, i)].Controls[f.control].Unhealthy))
}

// maxIncrease returns the upper bound of the points that the control gains.
func (f finding) maxIncrease(h history, i int) float64 {
	c := f.windows[h.window(f.owner, i)].Controls[f.control]
	if c.Weight() == 0 {
		return 0
	}
	score := c.Score()
	return min(score.Max*f.unhealthy(h, i)/float64(c.Weight()), score.Max-score.Current)
}

// labels identify the subscription or connector.
func (f finding) place() []string {
	return slices.DeleteFunc(slices.Clone(f.labels), func(l string) bool { return l == "initiative" || l == "ascScore" })
}

// recommendations writes the series of all recommendations.
func (h history) recommendations(scores []score) {
	all := findings(scores)
	byKey := map[string][]finding{}
	var keys []string
	for _, f := range all {
		if byKey[f.Key] == nil {
			keys = append(keys, f.Key)
		}
		byKey[f.Key] = append(byKey[f.Key], f)
	}

	h.family(prefix+"recommendation_info", "gauge")
	for _, key := range keys {
		r := byKey[key][0]
		labels := []string{
			"recommendation_id", key, "recommendation", r.Name, "recommendation_severity", strings.ToLower(r.Severity),
			"recommendation_category", strings.Join(r.Categories, ","), "effort", strings.ToLower(r.Effort),
			"user_impact", strings.ToLower(r.UserImpact), "preview", "false", "url", "",
		}
		h.series(prefix+"recommendation_info", labels, func(i int) (float64, bool) {
			return 1, slices.ContainsFunc(byKey[key], func(f finding) bool { return f.unhealthy(h, i) > 0 })
		})
	}

	h.family(prefix+"recommendation_resources", "gauge")
	first := map[string]bool{} // a recommendation of two controls has one series
	for _, f := range all {
		if first[f.owner+f.Key] {
			continue
		}
		first[f.owner+f.Key] = true
		labels := append(f.place(), "recommendation_id", f.Key, "state", "unhealthy")
		h.series(prefix+"recommendation_resources", labels, func(i int) (float64, bool) {
			n := f.unhealthy(h, i)
			return n, n > 0
		})
	}

	h.family(prefix+"recommendation_max_increase", "gauge")
	for _, f := range all {
		labels := append(slices.Clone(f.labels), "recommendation_id", f.Key, "control_id", f.windows[0].Controls[f.control].ID)
		h.series(prefix+"recommendation_max_increase", labels, func(i int) (float64, bool) {
			return f.maxIncrease(h, i), f.unhealthy(h, i) > 0
		})
	}

	h.family(prefix+"unhealthy_recommendations", "gauge")
	for _, s := range scores {
		own := slices.DeleteFunc(slices.Clone(all), func(f finding) bool { return f.owner != s.owner })
		for _, severity := range []string{"critical", "high", "medium", "low"} {
			labels := append(finding{score: s}.place(), "recommendation_severity", severity)
			h.series(prefix+"unhealthy_recommendations", labels, func(i int) (float64, bool) {
				distinct := map[string]bool{}
				for _, f := range own {
					if strings.EqualFold(f.Severity, severity) && f.unhealthy(h, i) > 0 {
						distinct[f.Key] = true
					}
				}
				return float64(len(distinct)), s.served(h, i)
			})
		}
	}

	h.gauge(prefix+"recommendations_last_success_timestamp_seconds", nil, func(i int) float64 {
		t := h.time(i)
		return float64(t - t%3600)
	})
}
