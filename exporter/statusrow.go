package exporter

import (
	"cmp"
	"math"
	"net/url"
	"strings"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
)

// rowState is the state of a row on the status page. The worst comes first.
type rowState int

const (
	stateFailing   rowState = iota // the last collection could not read it
	stateStale                     // no collection for longer than its values are served
	stateRead                      // read, and scored
	stateNotScored                 // Azure does not score it
)

// rowStates are the values of ?state=.
var rowStates = []string{stateFailing: "failing", stateStale: "stale", stateRead: "read", stateNotScored: "not-scored"}

// String returns the value of ?state=.
func (s rowState) String() string { return rowStates[s] }

// Text is the state in words.
func (s rowState) Text() string { return strings.ReplaceAll(s.String(), "-", " ") }

// statusEntry is what search, filters and the order need to know of a row: a subscription, or one
// of its connectors to another cloud. There is one for each row of all pages, so it is small.
type statusEntry struct {
	sub   *subscription
	score *score // in the default initiative if there is one; or nil
	state rowState
	name  string

	rank    rowState // The rows are sorted by rank,
	sortKey float64  // then by sortKey, then by name.
}

// appendEntries adds the rows of a subscription with these values, its own one first.
func appendEntries(entries []statusEntry, sub *subscription, v *values) []statusEntry {
	shown := shownScores(v)
	if len(shown) == 0 || shown[0].key.Value().connector != "" {
		entries = append(entries, statusEntry{sub: sub, state: stateOf(sub, v, nil), name: sub.Name})
	}
	for _, s := range shown {
		name := cmp.Or(s.key.Value().connector, sub.Name)
		entries = append(entries, statusEntry{sub: sub, score: s, state: stateOf(sub, v, s), name: name})
	}
	return entries
}

// shownScores returns one score of the subscription itself and of each of its connectors, in the
// default initiative if there is one.
func shownScores(v *values) []*score {
	if v == nil {
		return nil
	}
	var shown []*score
	var last scoreKey
	for i := range v.scores {
		key := v.scores[i].key.Value()
		if len(shown) == 0 || key.connector != last.connector || key.connector != "" && key.environment != last.environment {
			shown = append(shown, &v.scores[i])
		}
		last = key
	}
	return shown
}

// stateOf returns the state of a subscription or connector with this score, or without one.
func stateOf(sub *subscription, v *values, s *score) rowState {
	switch {
	case !sub.Active():
		return stateNotScored
	case sub.err != nil:
		return stateFailing
	case sub.lastGood != nil && v == nil:
		return stateStale
	case s != nil:
		return stateRead
	}
	return stateNotScored
}

// contains reports whether the name or the ID of a row contains a text in lower case. A connector
// is also found by its subscription.
func (e *statusEntry) contains(text string) bool {
	return strings.Contains(e.sub.ID, text) || strings.Contains(strings.ToLower(e.name), text) ||
		e.isConnector() && strings.Contains(strings.ToLower(e.sub.Name), text)
}

func (e *statusEntry) isConnector() bool {
	return e.score != nil && e.score.key.Value().connector != ""
}

// setSortKey prepares the entry for compareEntries. Rows that lack what they are sorted by come
// last.
func (e *statusEntry) setSortKey(order string, totals totals) {
	e.sortKey = math.MaxFloat64
	if order == byState {
		e.rank = e.state
	}
	switch {
	case order == byName:
		e.name, e.sortKey = strings.ToLower(e.name), 0
	case order == byAge:
		if e.sub.lastGood != nil {
			e.sortKey = float64(e.sub.lastGood.readAt.UnixMicro())
		}
	case e.score == nil:
	case order == byGain:
		e.sortKey = -totals.share(e.score, missingPoints(e.score.Points))
	case order == byUnhealthy:
		e.sortKey = -e.unhealthy()
	default:
		e.sortKey = e.score.ratio
	}
}

func compareEntries(a, b statusEntry) int {
	return cmp.Or(
		cmp.Compare(a.rank, b.rank), cmp.Compare(a.sortKey, b.sortKey), cmp.Compare(a.name, b.name), cmp.Compare(a.sub.ID, b.sub.ID),
	)
}

// unhealthy counts the unhealthy resources of all controls of the row's score. A resource counts in
// each of its controls.
func (e *statusEntry) unhealthy() float64 {
	var sum float64
	for i := range e.sub.lastGood.controls {
		if c := &e.sub.lastGood.controls[i]; c.key.Value().scoreKey == e.score.key.Value() {
			sum += c.unhealthy
		}
	}
	return sum
}

// statusRow is a row of the status page.
type statusRow struct {
	azure.Subscription
	Link      string // to its page
	Portal    string // to the Azure portal, or empty
	OwnerLink string // to the rows of the same owner
	Connector string // its name, or empty in the row of the subscription itself
	State     rowState
	Failure   *statusFailure
	Score     *statusScore // or nil
	Unhealthy int64        // resources of all controls of the score
	ReadAt    time.Time
}

// statusScore is a score on the status page.
type statusScore struct {
	Environment, Connector, Initiative string
	azure.Points
	Ratio  float64
	Target *float64 // a ratio, or nil
	Gain   float64  // the points that are missing
	OfAll  float64  // how much of the total score they are, as a ratio
	Anchor string   // of the score on the page of the subscription
}

func newStatusRow(e *statusEntry, totals totals, portal func(subscriptionID string) string) *statusRow {
	row := &statusRow{
		Subscription: e.sub.Subscription, State: e.state, Failure: newStatusFailure(e.sub.err, e.sub.ID),
		Link: "status?subscription=" + e.sub.ID, Portal: portal(e.sub.ID),
	}
	if e.sub.lastGood != nil {
		row.ReadAt = e.sub.lastGood.readAt
	}
	if e.score != nil {
		row.Score, row.Unhealthy = newStatusScore(e.score, e.sub.Target, totals), int64(e.unhealthy())
		if row.Connector = row.Score.Connector; row.Connector != "" {
			row.Link += "#" + row.Score.Anchor
		}
	}
	return row
}

func newStatusScore(s *score, target *float64, totals totals) *statusScore {
	key, gain := s.key.Value(), missingPoints(s.Points)
	return &statusScore{
		Environment: key.environment, Connector: key.connector, Initiative: key.initiative,
		Points: s.Points, Ratio: s.ratio, Target: target, Gain: gain, OfAll: totals.share(s, gain),
		Anchor: url.PathEscape(key.environment + "-" + key.connector),
	}
}
