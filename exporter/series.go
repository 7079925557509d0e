package exporter

import (
	"maps"
	"slices"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
)

// family is a gauge of a snapshot. Its series come from the snapshot as a whole or from each
// subscription; the other function is nil.
type family struct {
	name, help     string
	ofSnapshot     func(*sampleWriter, *snapshot)
	ofSubscription func(*sampleWriter, *subscription)
}

// families are all gauges of a snapshot, by name.
var families = []family{
	perSnapshot("api_quota_remaining", "Lowest remaining quota reported by Azure during the last collection, in requests, by limit: the header's name after x-ms-ratelimit-remaining-, or user-quota for Resource Graph.",
		func(w *sampleWriter, s *snapshot) {
			for _, limit := range slices.Sorted(maps.Keys(s.api.quota)) {
				w.sample(s.api.quota[limit], label{"limit", limit})
			}
		}),
	perControl("control_current", "Points that the security control contributes to the score, from the Secure Score Controls API (2020-01-01).",
		func(w *sampleWriter, id string, c *control) {
			if c.hasPoints {
				w.controlSample(c.Current, id, c, "")
			}
		}),
	perControl("control_max", "Maximum points of the security control; 0 while it has no assessed resource. From the Secure Score Controls API (2020-01-01).",
		func(w *sampleWriter, id string, c *control) {
			if c.hasPoints {
				w.controlSample(c.Max, id, c, "")
			}
		}),
	perControl("control_resources", "Resources of the security control by state: healthy, unhealthy or not_applicable. From the Secure Score Controls API (2020-01-01).",
		func(w *sampleWriter, id string, c *control) {
			w.controlSample(c.healthy, id, c, "healthy")
			w.controlSample(c.notApplicable, id, c, "not_applicable")
			w.controlSample(c.unhealthy, id, c, "unhealthy")
		}),
	perControl("control_weight", "Azure's weight of the security control, from the Secure Score Controls API (2020-01-01).",
		func(w *sampleWriter, id string, c *control) { w.controlSample(c.weight, id, c, "") }),
	perScore("current", "Secure score of the subscription in points, from the Secure Scores API (2020-01-01). Azure recomputes it every 8 hours.",
		func(s *score) float64 { return s.Current }),
	perScore("max", "Maximum secure score of the subscription, in points, from the Secure Scores API (2020-01-01).",
		func(s *score) float64 { return s.Max }),
	perScore("ratio", "Secure score divided by its maximum, 0 to 1, as Azure rounds it (the API's percentage); 0 when the maximum is 0.",
		func(s *score) float64 { return s.ratio }),
	perSnapshot("scrape_duration_seconds", "Duration of the last collection in seconds.",
		func(w *sampleWriter, s *snapshot) { w.sample(s.duration.Seconds()) }),
	perSubscription("subscription_info", "Name, state, tenant and owner of the subscription, from the Subscriptions API (2022-12-01). The owner is the tag that --azure.owner-tag names. Always 1.",
		func(w *sampleWriter, s *subscription) {
			w.sample(1, label{"subscription_id", s.ID}, label{"subscription_name", s.Name}, label{"subscription_owner", s.Owner}, label{"subscription_state", s.State}, label{"tenant_id", s.TenantID})
		}),
	perSubscription("subscription_last_success_timestamp_seconds", "Unix time in seconds at which the subscription's values were read from Azure.",
		func(w *sampleWriter, s *subscription) {
			if s.Active() && s.lastGood != nil {
				w.sample(float64(s.lastGood.readAt.UnixMilli())/1000, label{"subscription_id", s.ID})
			}
		}),
	perSubscription("subscription_scored", "1 if the subscription has a secure score, 0 if Azure does not score it, for example because Foundational CSPM is off.",
		func(w *sampleWriter, s *subscription) {
			if v := w.cutoffs.values(s); v != nil {
				w.sample(boolean(len(v.scores) > 0), label{"subscription_id", s.ID})
			}
		}),
	perSubscription("subscription_scrape_failure", "1 while the subscription cannot be read, with the reason of the last collection; absent otherwise.",
		func(w *sampleWriter, s *subscription) {
			if s.Active() && s.err != nil {
				w.sample(1, label{"reason", string(azure.ReasonOf(s.err))}, label{"subscription_id", s.ID})
			}
		}),
	perSubscription("subscription_scrape_success", "1 if the last collection could read the subscription, 0 if not. Its last good values are then served up to --cache.max-stale.",
		func(w *sampleWriter, s *subscription) {
			if s.Active() {
				w.sample(boolean(s.err == nil), label{"subscription_id", s.ID})
			}
		}),
	perSnapshot("up", "1 if the last collection got a token and the list of subscriptions, 0 if not.",
		func(w *sampleWriter, s *snapshot) { w.sample(boolean(s.err == nil)) }),
	perScore("weight", "Azure's weight of the subscription in a weighted mean of ratios over subscriptions; Azure counts 0 as 1 there. From the Secure Scores API (2020-01-01).",
		func(s *score) float64 { return s.weight }),
}

func perSnapshot(name, help string, write func(*sampleWriter, *snapshot)) family {
	return family{name: namespace + "_" + name, help: help, ofSnapshot: write}
}

func perSubscription(name, help string, write func(*sampleWriter, *subscription)) family {
	return family{name: namespace + "_" + name, help: help, ofSubscription: write}
}

func perScore(name, help string, value func(*score) float64) family {
	return perSubscription(name, help, func(w *sampleWriter, s *subscription) {
		if v := w.cutoffs.values(s); v != nil {
			for i := range v.scores {
				w.scoreSample(value(&v.scores[i]), s.ID, &v.scores[i])
			}
		}
	})
}

func perControl(name, help string, write func(w *sampleWriter, subscriptionID string, c *control)) family {
	return perSubscription(name, help, func(w *sampleWriter, s *subscription) {
		if v := w.cutoffs.values(s); v != nil {
			for i := range v.controls {
				write(w, s.ID, &v.controls[i])
			}
		}
	})
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
