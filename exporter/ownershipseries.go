package exporter

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
)

// ownershipFamilies are the gauges about the tags, targets and management groups of subscriptions.
// They are not in /probe.
func ownershipFamilies(tags []tagLabel) []family {
	return []family{
		perSnapshot("management_group_info", "Display name of a management group above a subscription, from Azure Resource Graph (2024-04-01). Always 1.", writeManagementGroups),
		perSubscription("subscription_management_group", "A management group above the subscription: its parent and each ancestor up to the root that the identity sees. From Azure Resource Graph (2024-04-01). Always 1.",
			func(w *sampleWriter, s *subscription) {
				for _, group := range s.ManagementGroups {
					w.sample(1, label{"management_group_id", group.ID}, label{"subscription_id", s.ID})
				}
			}),
		perSubscription("subscription_tags", "Tags of the subscription that --azure.subscription-tag names, from the Subscriptions API (2022-12-01) or Azure Resource Graph (2024-04-01). Always 1.",
			func(w *sampleWriter, s *subscription) {
				labels := append(make([]label, 0, 1+len(tags)), label{"subscription_id", s.ID})
				for _, tag := range tags {
					if value := tag.of(s.Subscription); value != "" {
						labels = append(labels, label{tag.name, value})
					}
				}
				if len(labels) > 1 {
					w.sample(1, labels...)
				}
			}),
		perSubscription("subscription_target_ratio", "Target of the secure score, 0 to 1, from the tag of the subscription that --azure.target-tag names. It also applies to the subscription's connectors.",
			func(w *sampleWriter, s *subscription) {
				if s.Target != nil {
					w.sample(*s.Target, label{"subscription_id", s.ID})
				}
			}),
	}
}

// writeManagementGroups names every group above a subscription once.
func writeManagementGroups(w *sampleWriter, s *snapshot) {
	names := groupNames(s)
	for _, id := range slices.Sorted(maps.Keys(names)) {
		w.sample(1, label{"management_group_id", id}, label{"management_group_name", names[id]})
	}
}

// groupNames returns the display names of all management groups by ID. While Azure renames a group,
// subscriptions can have different names of it: the first one counts.
func groupNames(s *snapshot) map[string]string {
	names := map[string]string{}
	for _, sub := range s.subscriptions {
		for _, group := range sub.ManagementGroups {
			names[group.ID] = cmp.Or(names[group.ID], group.Name)
		}
	}
	return names
}

// tagLabel is the label of a tag, whose value is [azure.Subscription.Tags] at this index.
type tagLabel struct {
	name  string
	index int
}

var notInLabel = regexp.MustCompile(`[^a-zA-Z0-9_]`)

// newTagLabels returns the labels of these tags by name. If two tags have the same label, the first
// one has it.
func newTagLabels(tags []string, logger log.Logger) []tagLabel {
	var labels []tagLabel
	for i, tag := range tags {
		name := "tag_" + notInLabel.ReplaceAllLiteralString(tag, "_")
		if n := slices.IndexFunc(labels, func(l tagLabel) bool { return l.name == name }); n >= 0 {
			level.Warn(logger).Log("msg", "ignoring a tag that maps to the same label as another", "label", name, "tag", tag, "other", tags[labels[n].index])
			continue
		}
		labels = append(labels, tagLabel{name, i})
	}
	slices.SortFunc(labels, func(a, b tagLabel) int { return strings.Compare(a.name, b.name) })
	return labels
}

// of returns the value of the tag, or nothing.
func (l tagLabel) of(s azure.Subscription) string {
	if l.index >= len(s.Tags) {
		return ""
	}
	return s.Tags[l.index]
}
