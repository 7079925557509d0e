package exporter

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
)

// The states of a subscription on the status page, worst first.
const (
	stateFailing  = "failing"  // the last collection could not read it
	stateStale    = "stale"    // no collection for longer than its values are served
	stateFine     = "fine"     // read, and scored
	stateUnscored = "unscored" // Azure does not score it
)

var states = []string{stateFailing, stateStale, stateFine, stateUnscored}

// statusEntry is what the order of the rows depends on.
type statusEntry struct {
	*subscription
	state string
	ratio float64 // of the default initiative; above 1 without a score
}

func newStatusEntry(s *snapshot, sub *subscription) statusEntry {
	entry := statusEntry{subscription: sub, state: stateUnscored, ratio: 2}
	v := s.cutoffs.values(sub)
	if v != nil {
		if i := ownScore(v.scores); i >= 0 {
			entry.ratio = v.scores[i].ratio
		}
	}
	switch {
	case !sub.Active():
	case sub.err != nil:
		entry.state = stateFailing
	case sub.lastGood != nil && v == nil:
		entry.state = stateStale
	case v != nil && len(v.scores) > 0:
		entry.state = stateFine
	}
	return entry
}

func worstFirst(a, b statusEntry) int {
	return cmp.Or(
		cmp.Compare(slices.Index(states, a.state), slices.Index(states, b.state)),
		cmp.Compare(a.ratio, b.ratio), cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID),
	)
}

// statusRow is a subscription on the status page.
type statusRow struct {
	azure.Subscription
	State     string
	Failure   *statusFailure
	Score     *statusScore // of Azure itself, in the default initiative if there is one; or nil
	Others    []statusScore
	Unhealthy float64 // resources of all controls of Score's initiative
	ReadAt    time.Time
	Controls  []statusControl // most gain first
}

// statusScore is a score on the status page.
type statusScore struct {
	Environment, Connector, Initiative string
	azure.Points
	Ratio float64
}

// statusControl is a control on the status page.
type statusControl struct {
	ID, Name, Environment, Connector, Initiative string
	azure.Points
	HasPoints                               bool
	Gain, Healthy, Unhealthy, NotApplicable float64
}

func newStatusRow(s *snapshot, sub *subscription) *statusRow {
	row := &statusRow{Subscription: sub.Subscription, State: newStatusEntry(s, sub).state, Failure: newStatusFailure(sub.err, sub.ID)}
	if sub.lastGood != nil {
		row.ReadAt = sub.lastGood.readAt
	}
	v := s.cutoffs.values(sub)
	if v == nil {
		return row
	}
	own := ownScore(v.scores)
	for i, score := range v.scores {
		key := score.key.Value()
		shown := statusScore{key.environment, key.connector, key.initiative, score.Points, score.ratio}
		if i == own {
			row.Score = &shown
		} else {
			row.Others = append(row.Others, shown)
		}
	}
	slices.SortStableFunc(row.Others, func(a, b statusScore) int { return defaultFirst(a.Initiative, b.Initiative) })
	for _, c := range v.controls {
		key := c.key.Value()
		if row.Score != nil && key.initiative == row.Score.Initiative {
			row.Unhealthy += c.unhealthy
		}
		row.Controls = append(row.Controls, statusControl{
			key.id, key.name, key.environment, key.connector, key.initiative, c.Points, c.hasPoints,
			c.Max - c.Current, c.healthy, c.unhealthy, c.notApplicable,
		})
	}
	slices.SortStableFunc(row.Controls, func(a, b statusControl) int {
		return cmp.Or(cmp.Compare(b.Gain, a.Gain), cmp.Compare(b.Unhealthy, a.Unhealthy), cmp.Compare(a.Name, b.Name))
	})
	return row
}

// ownScore returns the index of the score of Azure itself, that of the default initiative if
// there is one; or -1.
func ownScore(scores []score) int {
	best := -1
	for i, s := range scores {
		if key := s.key.Value(); key.connector == "" && (best < 0 || defaultFirst(key.initiative, scores[best].key.Value().initiative) < 0) {
			best = i
		}
	}
	return best
}

// defaultFirst orders initiatives.
func defaultFirst(a, b string) int {
	switch {
	case a == b:
		return 0
	case a == azure.DefaultInitiative:
		return -1
	case b == azure.DefaultInitiative:
		return 1
	}
	return cmp.Compare(a, b)
}

// aggregate is the score of all subscriptions and connectors in one initiative. Scores of
// several initiatives are never mixed.
type aggregate struct {
	Initiative string
	Scores     int // how many are in it

	weighted, weights float64
}

// Ratio is the weighted mean of the ratios.
func (a *aggregate) Ratio() float64 { return a.weighted / a.weights }

// aggregates returns one aggregate for each initiative, the default one first.
func aggregates(s *snapshot) []*aggregate {
	byInitiative := map[string]*aggregate{}
	for _, sub := range s.subscriptions {
		v := s.cutoffs.values(sub)
		if v == nil {
			continue
		}
		for _, score := range v.scores {
			initiative := score.key.Value().initiative
			a := byInitiative[initiative]
			if a == nil {
				a = &aggregate{Initiative: initiative}
				byInitiative[initiative] = a
			}
			weight := cmp.Or(score.weight, 1) // as Azure counts it
			a.weighted += weight * score.ratio
			a.weights += weight
			a.Scores++
		}
	}
	return slices.SortedFunc(maps.Values(byInitiative), func(a, b *aggregate) int { return defaultFirst(a.Initiative, b.Initiative) })
}
