package main

import (
	"math"
	"slices"
	"strconv"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

const prefix = "azure_secure_score_"

// score is the secure score of a subscription or of one of its connectors.
type score struct {
	subscription
	owner   string
	labels  []string
	windows []simulator.Connector // the controls by window
}

func (h history) newScore(s subscription, owner, environment string, controls []simulator.Control, connector ...string) score {
	labels := append([]string{"subscription_id", s.ID, "environment", environment, "initiative", "ascScore"}, connector...)
	windows := make([]simulator.Connector, h.window(owner, 0)+1)
	for w := range windows {
		windows[w].Controls = s.controlsAt(w, controls, owner)
	}
	return score{s, owner, slices.Clip(labels), windows}
}

// scoresOf returns the scores of all subscriptions and of their connectors.
func (h history) scoresOf(subscriptions []subscription) (scores []score) {
	for _, s := range subscriptions {
		if !s.readable() || s.NoScore {
			continue
		}
		scores = append(scores, h.newScore(s, s.ID, "Azure", s.Controls))
		for _, c := range s.Connectors {
			scores = append(scores, h.newScore(s, s.ID+c.Name, c.Environment, c.Controls, "connector", c.Name))
		}
	}
	return scores
}

// scores writes the series of scores and of their controls.
func (h history) scores(scores []score) {
	for _, f := range []struct {
		name string
		of   func(simulator.Connector) float64
	}{
		{"current", func(c simulator.Connector) float64 { return c.Score().Current }},
		{"max", func(c simulator.Connector) float64 { return c.Score().Max }},
		{"ratio", func(c simulator.Connector) float64 { return c.Score().Ratio }},
		{"weight", func(c simulator.Connector) float64 { return float64(c.Weight()) }},
	} {
		h.family(prefix+f.name, "gauge")
		for _, s := range scores {
			h.series(prefix+f.name, s.labels, func(i int) (float64, bool) {
				return f.of(s.windows[h.window(s.owner, i)]), s.served(h, i)
			})
		}
	}
	for _, f := range []struct {
		name, state string
		of          func(simulator.Control) float64
	}{
		{"control_current", "", func(c simulator.Control) float64 { return c.Score().Current }},
		{"control_max", "", func(c simulator.Control) float64 { return c.Score().Max }},
		{"control_weight", "", func(c simulator.Control) float64 { return float64(c.Weight()) }},
		{"control_resources", "healthy", func(c simulator.Control) float64 { return float64(c.Healthy) }},
		{"control_resources", "unhealthy", func(c simulator.Control) float64 { return float64(c.Unhealthy) }},
		{"control_resources", "not_applicable", func(c simulator.Control) float64 { return float64(c.NotApplicable) }},
	} {
		if f.state == "" || f.state == "healthy" {
			h.family(prefix+f.name, "gauge")
		}
		for _, s := range scores {
			for k, c := range s.windows[0].Controls {
				labels := append(s.labels, "control_id", c.ID, "control", c.DisplayName)
				if f.state != "" {
					labels = append(labels, "state", f.state)
				}
				h.series(prefix+f.name, labels, func(i int) (float64, bool) {
					return f.of(s.windows[h.window(s.owner, i)].Controls[k]), s.served(h, i)
				})
			}
		}
	}
}

// subscriptions writes the series of each subscription, and the failures of all.
func (h history) subscriptions(subscriptions []subscription) {
	each := func(name string, of func(subscription) (labels []string, value func(i int) (float64, bool))) {
		h.family(prefix+name, "gauge")
		for _, s := range subscriptions {
			if labels, value := of(s); value != nil {
				h.series(prefix+name, append([]string{"subscription_id", s.ID}, labels...), func(i int) (float64, bool) {
					v, ok := value(i)
					return v, ok && s.exists(h, i)
				})
			}
		}
	}
	type value = func(i int) (float64, bool)
	each("subscription_info", func(s subscription) ([]string, value) {
		labels := []string{"subscription_name", s.Name, "tenant_id", simulator.TenantID, "subscription_state", s.State}
		if owner := s.Tags[simulator.DemoOwnerTag]; owner != "" {
			labels = append(labels, "subscription_owner", owner)
		}
		return labels, func(int) (float64, bool) { return 1, true }
	})
	each("subscription_scored", func(s subscription) ([]string, value) {
		if !s.readable() {
			return nil, nil
		}
		return nil, func(int) (float64, bool) { return boolean(!s.NoScore), true }
	})
	each("subscription_scrape_success", func(s subscription) ([]string, value) {
		if !s.active() {
			return nil, nil
		}
		return nil, func(i int) (float64, bool) { return boolean(s.failure(h, i) == ""), true }
	})
	h.family(prefix+"subscription_scrape_failure", "gauge")
	for _, s := range subscriptions {
		for _, reason := range []string{"authentication", "forbidden", "throttled"} {
			labels := []string{"subscription_id", s.ID, "reason", reason}
			h.series(prefix+"subscription_scrape_failure", labels, func(i int) (float64, bool) {
				return 1, s.active() && s.exists(h, i) && s.failure(h, i) == reason
			})
		}
	}
	each("subscription_last_success_timestamp_seconds", func(s subscription) ([]string, value) {
		if !s.readable() {
			return nil, nil
		}
		return nil, func(i int) (float64, bool) {
			for i > 0 && s.failure(h, i) != "" {
				i--
			}
			return float64(h.time(i)) - math.Round(3*noise(s.ID, strconv.Itoa(i))), true
		}
	})
	h.family(prefix+"scrape_failures", "counter")
	for _, reason := range azure.Reasons {
		h.counter(prefix+"scrape_failures_total", []string{"reason", string(reason)}, func(i int) (n float64) {
			for _, s := range subscriptions {
				n += boolean(s.active() && s.exists(h, i) && s.failure(h, i) == string(reason))
			}
			return n
		})
	}
}
