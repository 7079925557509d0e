package exporter

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
)

const (
	// statusPageRows is the number of rows on a page.
	statusPageRows = 100
	// maxStatusOptions bounds the owners and the management groups to choose from. The rows link to
	// the others.
	maxStatusOptions = 500
)

// statusList is the list of subscriptions and connectors.
type statusList struct {
	Totals  []*total // of each initiative, the default one first
	FixNext []*fixNext
	Known   int  // subscriptions, whatever the query
	Owned   bool // the owner of any subscription is known
	Columns []statusColumn
	Filters []statusFilter
	Search  statusSearch

	Subscriptions, Connectors int // that the query finds
	Rows                      []*statusRow
	Page, Pages               int
	Prev, Next                string // links, empty at the ends
}

// statusColumn is the head of a column, with a link that sorts the rows by it if there is one.
type statusColumn struct {
	Title, Hint, Link string
	Selected, Number  bool
	Span              int
}

// statusFilter is a link to the rows in one state.
type statusFilter struct {
	Name, Link string
	Count      int64
	Selected   bool
}

// statusSearch is the form for a search within the selected state.
type statusSearch struct {
	Text, State, Order string
	MaxLength          int
	Owners, Groups     []statusOption // to choose from, without the one for all
	Clear              string         // the link to the list without the search, or empty
}

// statusOption is an owner or a management group to choose.
type statusOption struct {
	Value, Text string
	Selected    bool
}

// newStatusList builds only the rows of the requested page in full.
func newStatusList(s *snapshot, q statusQuery, portal func(subscriptionID string) string) *statusList {
	totals := newTotals(s)
	list := &statusList{Totals: totals.sorted(), Known: len(s.subscriptions), Search: newStatusSearch(s, q)}
	list.Owned = len(list.Search.Owners) > 0
	list.Columns = newStatusColumns(q, list.Owned)
	if q == (statusQuery{page: 1}) { // not when people search
		list.FixNext = newFixNext(s, totals)
	}
	entries, counts := list.filter(s, q)
	list.Filters = newStatusFilters(q, counts)
	for i := range entries {
		entries[i].setSortKey(q.order, totals)
	}
	slices.SortFunc(entries, compareEntries)
	list.paginate(q, len(entries))
	start := (list.Page - 1) * statusPageRows
	for i := range entries[start:min(start+statusPageRows, len(entries))] {
		row := newStatusRow(&entries[start+i], totals, portal)
		row.OwnerLink = q.link("owner", row.Owner)
		list.Rows = append(list.Rows, row)
	}
	return list
}

// filter returns the rows that match the query, and counts them and those in each state.
func (l *statusList) filter(s *snapshot, q statusQuery) (found []statusEntry, counts [stateNotScored + 1]int64) {
	search := strings.ToLower(q.search)
	found = make([]statusEntry, 0, len(s.subscriptions))
	var entries []statusEntry // of one subscription
	for _, sub := range s.subscriptions {
		if !q.selects(sub) {
			continue
		}
		entries = appendEntries(entries[:0], sub, s.cutoffs.values(sub))
		for _, e := range entries {
			if !e.contains(search) {
				continue
			}
			counts[e.state]++
			if q.state != "" && e.state.String() != q.state {
				continue
			}
			found = append(found, e)
			if e.isConnector() {
				l.Connectors++
			} else {
				l.Subscriptions++
			}
		}
	}
	return found, counts
}

// newStatusFilters returns the links to all rows and to those in each state.
func newStatusFilters(q statusQuery, counts [stateNotScored + 1]int64) []statusFilter {
	filters := []statusFilter{{Name: "all", Link: q.link("state", ""), Selected: q.state == ""}}
	for i, name := range rowStates {
		filters[0].Count += counts[i]
		filters = append(filters, statusFilter{rowState(i).Text(), q.link("state", name), counts[i], name == q.state})
	}
	return filters
}

// paginate sets the requested page and its neighbours.
func (l *statusList) paginate(q statusQuery, rows int) {
	l.Pages = max(1, (rows+statusPageRows-1)/statusPageRows)
	l.Page = min(q.page, l.Pages)
	if l.Page > 1 {
		l.Prev = q.link("page", strconv.Itoa(l.Page-1))
	}
	if l.Page < l.Pages {
		l.Next = q.link("page", strconv.Itoa(l.Page+1))
	}
}

// newStatusColumns returns the columns in the order of the template.
func newStatusColumns(q statusQuery, owned bool) []statusColumn {
	column := func(title, hint, order string) statusColumn {
		return statusColumn{Title: title, Hint: hint, Link: q.link("sort", order), Selected: order == q.order, Number: true, Span: 1}
	}
	columns := []statusColumn{
		column("Name", "Sort by name", byName),
		column("Score", "Sort by score, lowest first", byScore),
		{Title: "Points", Number: true, Span: 1},
		column("Potential gain", gainHint+". Sort by gain, highest first", byGain),
		column("Unhealthy", "Unhealthy resources in all controls of the score; a resource counts once in each of its controls. Sort by count, highest first", byUnhealthy),
		column("Read", "When the values were read from Azure. Sort by age, oldest first", byAge),
		column("Collection", "Whether the last collection could read the subscription. Sort by state, failures first", byState),
	}
	columns[0].Number, columns[3].Span, columns[6].Number = false, 2, false
	if owned {
		columns = slices.Insert(columns, 1, statusColumn{Title: "Owner", Span: 1})
	}
	return columns
}

// gainHint explains the two numbers of a potential gain.
const gainHint = "Points below the maximum, and their share of the total score in percentage points (pp)"

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
		search.Clear = statusQuery{state: q.state, order: q.order}.link("q", "")
	}
	return search
}

// newStatusOptions returns the options by text. The selected one is always among them, so that the
// form keeps it.
func newStatusOptions(texts map[string]string, selected string) []statusOption {
	values := slices.SortedFunc(maps.Keys(texts), func(a, b string) int {
		return cmp.Or(strings.Compare(strings.ToLower(texts[a]), strings.ToLower(texts[b])), strings.Compare(a, b))
	})
	values = values[:min(len(values), maxStatusOptions)]
	if selected != "" && !slices.Contains(values, selected) {
		values = append(values, selected)
	}
	options := make([]statusOption, len(values))
	for i, value := range values {
		options[i] = statusOption{value, cmp.Or(texts[value], value), value == selected}
	}
	return options
}
