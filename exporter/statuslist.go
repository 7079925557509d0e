package exporter

import (
	"slices"
	"strings"
)

// statusPageRows is the number of rows on a page.
const statusPageRows = 100

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

// newStatusList builds only the rows of the requested page in full.
func newStatusList(s *snapshot, q statusQuery, portal func(subscriptionID string) string) *statusList {
	totals := newTotals(s)
	list := &statusList{Totals: totals.sorted(), Known: len(s.subscriptions), Search: newStatusSearch(s, q)}
	list.Owned = len(list.Search.Owners) > 0
	list.Columns = newStatusColumns(q, list.Owned)
	if q == (statusQuery{page: 1}) { // not when people search
		list.FixNext = newFixNext(s)
	}
	entries := list.filter(s, q)
	for i := range entries {
		entries[i].setOrder(q.order, totals)
	}
	slices.SortFunc(entries, compareEntries)
	list.paginate(q, len(entries))
	start := (list.Page - 1) * statusPageRows
	for i := range entries[start:min(start+statusPageRows, len(entries))] {
		row := newStatusRow(&entries[start+i], totals, portal)
		row.OwnerLink = q.withOwner(row.Owner).link()
		list.Rows = append(list.Rows, row)
	}
	return list
}

// filter returns the rows that match the query, counts them, and sets the links to all states.
func (l *statusList) filter(s *snapshot, q statusQuery) []statusEntry {
	var counts [stateNotScored + 1]int64 // of what the search finds
	search := strings.ToLower(q.search)
	found := make([]statusEntry, 0, len(s.subscriptions))
	var entries []statusEntry // of one subscription
	for _, sub := range s.subscriptions {
		if !q.isOwned(sub) {
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
	all := statusFilter{Name: "all", Link: q.withState("").link(), Selected: q.state == ""}
	for _, n := range counts {
		all.Count += n
	}
	l.Filters = []statusFilter{all}
	for i, name := range rowStates {
		l.Filters = append(l.Filters, statusFilter{rowState(i).Text(), q.withState(name).link(), counts[i], name == q.state})
	}
	return found
}

// paginate sets the requested page and its neighbours.
func (l *statusList) paginate(q statusQuery, rows int) {
	l.Pages = max(1, (rows+statusPageRows-1)/statusPageRows)
	l.Page = min(q.page, l.Pages)
	if l.Page > 1 {
		l.Prev = q.withPage(l.Page - 1).link()
	}
	if l.Page < l.Pages {
		l.Next = q.withPage(l.Page + 1).link()
	}
}

// newStatusColumns returns the columns in the order of the template.
func newStatusColumns(q statusQuery, owned bool) []statusColumn {
	column := func(title, hint, order string) statusColumn {
		return statusColumn{Title: title, Hint: hint, Link: q.withOrder(order).link(), Selected: order == q.order, Number: true, Span: 1}
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
