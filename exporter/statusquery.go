package exporter

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
)

const (
	// maxSearch is the longest text to search for, in bytes. Names and IDs are shorter.
	maxSearch = 100
	// maxFilter is the longest owner or management group to filter by, in bytes.
	maxFilter = 512
)

// The orders of the rows.
const (
	byState     = "" // the worst state first, then the lowest score
	byScore     = "score"
	byGain      = "gain"
	byUnhealthy = "unhealthy"
	byName      = "name"
	byAge       = "age"
)

var statusOrders = []string{byState, byScore, byGain, byUnhealthy, byName, byAge}

// statusQuery is the query of /status. Its fields are the parameters of the address.
type statusQuery struct {
	subscription string // an ID: show this one alone
	state        string // show rows in this state; empty for all
	search       string // show rows whose name or ID contains it
	owner        string // show rows of this owner alone
	group        string // show rows below this management group alone, an ID
	order        string
	page         int // from 1
}

func parseStatusQuery(values url.Values) (statusQuery, error) {
	q := statusQuery{
		subscription: strings.ToLower(values.Get("subscription")),
		state:        values.Get("state"),
		search:       strings.TrimSpace(values.Get("q")),
		order:        values.Get("sort"),
		page:         1,
	}
	q.search = cutText(q.search, maxSearch)
	q.owner, q.group = cutText(values.Get("owner"), maxFilter), cutText(values.Get("group"), maxFilter)
	if n, err := strconv.Atoi(values.Get("page")); err == nil {
		q.page = max(1, n)
	}
	switch {
	case q.state != "" && !slices.Contains(rowStates, q.state):
		return q, fmt.Errorf("%w: unknown state", errNoSuchPage)
	case !slices.Contains(statusOrders, q.order):
		return q, fmt.Errorf("%w: unknown order", errNoSuchPage)
	}
	return q, nil
}

// cutText bounds text from an address.
func cutText(text string, bytes int) string {
	return strings.ToValidUTF8(text[:min(len(text), bytes)], "")
}

// link is the relative address of the list with one parameter changed, on its first page unless
// that is the parameter.
func (q statusQuery) link(parameter, value string) string {
	parameters := map[string]string{"state": q.state, "q": q.search, "owner": q.owner, "group": q.group, "sort": q.order}
	parameters[parameter] = value
	values := url.Values{}
	for name, value := range parameters {
		if value != "" {
			values.Set(name, value)
		}
	}
	if len(values) == 0 {
		return "status"
	}
	return "status?" + values.Encode()
}

// isSearch reports whether the query selects rows by more than their state.
func (q statusQuery) isSearch() bool { return q.search != "" || q.owner != "" || q.group != "" }

// selects reports whether the subscription has the owner and the management group of the query.
func (q statusQuery) selects(s *subscription) bool {
	return (q.owner == "" || s.Owner == q.owner) &&
		(q.group == "" || slices.ContainsFunc(s.ManagementGroups, func(g azure.ManagementGroup) bool { return g.ID == q.group }))
}
