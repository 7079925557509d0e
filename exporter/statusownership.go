package exporter

import (
	"maps"
	"slices"
	"strings"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
)

// maxStatusOptions bounds the owners and the management groups to choose from. The rows link to the
// others.
const maxStatusOptions = 500

// statusOption is an owner or a management group to choose.
type statusOption struct {
	Value, Text string
	Selected    bool
}

func newStatusSearch(s *snapshot, q statusQuery) statusSearch {
	owners := map[string]string{}
	for _, sub := range s.subscriptions {
		if sub.Owner != "" {
			owners[sub.Owner] = sub.Owner
		}
	}
	search := statusSearch{
		Text: q.search, State: q.state, Order: q.order, MaxLength: maxSearch,
		Owners: newStatusOptions(owners, q.owner), Groups: newStatusOptions(groupNames(s), q.group),
	}
	if q.isSearch() {
		search.Clear = q.withoutSearch().link()
	}
	return search
}

// newStatusOptions returns the options by text. The selected one is always among them, so that the
// form keeps it.
func newStatusOptions(texts map[string]string, selected string) []statusOption {
	values := slices.SortedFunc(maps.Keys(texts), func(a, b string) int {
		if texts[a] != texts[b] {
			return strings.Compare(strings.ToLower(texts[a]), strings.ToLower(texts[b]))
		}
		return strings.Compare(a, b)
	})
	values = values[:min(len(values), maxStatusOptions)]
	if selected != "" && !slices.Contains(values, selected) {
		values = append(values, selected)
	}
	options := make([]statusOption, len(values))
	for i, value := range values {
		text := texts[value]
		if text == "" {
			text = value
		}
		options[i] = statusOption{value, text, value == selected}
	}
	return options
}

// isOwned says whether the subscription has the owner and the management group of the query.
func (q statusQuery) isOwned(s *subscription) bool {
	return (q.owner == "" || s.Owner == q.owner) &&
		(q.group == "" || slices.ContainsFunc(s.ManagementGroups, func(g azure.ManagementGroup) bool { return g.ID == q.group }))
}

// bar is a ratio on a bar, with a mark for its target if there is one.
type bar struct {
	Ratio  float64
	Target *float64
}

// Bar shows the score.
func (s *statusScore) Bar() bar { return bar{s.Ratio, s.Target} }

// Bar shows the total.
func (t *total) Bar() bar { return bar{Ratio: t.Ratio()} }

// groupPath joins the names of management groups, the root first.
func groupPath(groups []azure.ManagementGroup) string {
	names := make([]string, len(groups))
	for i, group := range groups {
		names[len(groups)-1-i] = group.Name
	}
	return strings.Join(names, " / ")
}
