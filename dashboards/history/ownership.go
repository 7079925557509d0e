package main

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// ownership writes targets and management groups. The owner is a label of subscription_info.
func (h history) ownership(subscriptions []subscription) {
	h.family(prefix+"subscription_target_ratio", "gauge")
	for _, s := range subscriptions {
		percent, err := strconv.ParseFloat(strings.TrimSuffix(s.Tags[simulator.DemoTargetTag], "%"), 64)
		if err != nil {
			continue // no target
		}
		h.series(prefix+"subscription_target_ratio", []string{"subscription_id", s.ID}, func(i int) (float64, bool) {
			return percent / 100, s.exists(h, i)
		})
	}

	tenant := simulator.Demo()
	groups := slices.Sorted(maps.Keys(tenant.ManagementGroups))
	h.family(prefix+"management_group_info", "gauge")
	for _, group := range groups {
		labels := []string{"management_group_id", group, "management_group_name", tenant.ManagementGroupNames[group]}
		h.series(prefix+"management_group_info", labels, func(int) (float64, bool) { return 1, true })
	}
	h.family(prefix+"subscription_management_group", "gauge")
	for _, s := range subscriptions {
		for _, group := range groups {
			if !below(tenant.ManagementGroups, group, s.ID) {
				continue
			}
			labels := []string{"subscription_id", s.ID, "management_group_id", group}
			h.series(prefix+"subscription_management_group", labels, func(i int) (float64, bool) { return 1, s.exists(h, i) })
		}
	}
}

// below reports whether a subscription is in a group or in one below it.
func below(groups map[string][]string, group, subscription string) bool {
	return slices.ContainsFunc(groups[group], func(child string) bool {
		return child == subscription || below(groups, child, subscription)
	})
}
