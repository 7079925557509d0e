package azure

import (
	"cmp"
	"context"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	graphScores = `securityresources | where type in~ ('microsoft.security/securescores','microsoft.security/securescores/securescorecontrols')`

	// packedScores returns one row per subscription, which holds its scores and controls, so that a
	// batch is one page and costs one request of a small quota. The ID says which of both an item is.
	packedScores = graphScores + ` | summarize items = make_list(bag_pack('id', id, 'displayName', properties.displayName, 'score', properties.score, 'weight', properties.weight, 'environment', properties.environment, 'healthy', properties.healthyResourceCount, 'unhealthy', properties.unhealthyResourceCount, 'notApplicable', properties.notApplicableResourceCount)) by subscriptionId`

	// plainScores returns one row per score and control. Resource Graph pages a result that has a
	// column id; the order keeps the pages from overlapping.
	plainScores = graphScores + ` | project id, subscriptionId, displayName = properties.displayName, score = properties.score, weight = properties.weight, environment = properties.environment, healthy = properties.healthyResourceCount, unhealthy = properties.unhealthyResourceCount, notApplicable = properties.notApplicableResourceCount | order by id asc`
)

// queryScores returns the scores of the subscriptions that have rows, by ID, and the time of the
// first attempt, which is zero if none was sent.
func (g *ResourceGraph) queryScores(ctx context.Context, ids []string) (found map[string]*scoreRow, startedAt time.Time, err error) {
	err = g.scores.run(g.now, g.logger, func(form queryForm, query string) error {
		if form == formPlain {
			if err := g.plainSlot.Acquire(ctx, 1); err != nil {
				return classify(err)
			}
			defer g.plainSlot.Release(1)
		}
		found = make(map[string]*scoreRow, len(ids))
		started, err := readPages(ctx, g, query, ids, parseScoreRow, func(rows []scoreRow) error { return addScores(found, rows) })
		if startedAt.IsZero() {
			startedAt = started
		}
		return err
	})
	return found, startedAt, err
}

// addScores adds rows to those found before: the plain query has many of a subscription.
func addScores(found map[string]*scoreRow, rows []scoreRow) error {
	for i := range rows {
		row := &rows[i]
		before := found[row.subscriptionID]
		switch {
		case row.subscriptionID == "":
			return invalidResponse("a row has no subscription ID")
		case before == nil:
			found[row.subscriptionID] = row
		default:
			before.scores = append(before.scores, row.scores...)
			before.controls = append(before.controls, row.controls...)
			before.err = cmp.Or(before.err, row.err)
		}
	}
	return nil
}

// graphRow is a row of the query of scores: a packed one has items, a plain one is an item.
type graphRow struct {
	SubscriptionID string       `json:"subscriptionId"`
	Items          *[]graphItem `json:"items"`
	graphItem
}

// graphItem is a score or a control.
type graphItem struct {
	ID            string   `json:"id"`
	DisplayName   string   `json:"displayName"`
	Score         apiScore `json:"score"`
	Weight        float64  `json:"weight"`
	Environment   string   `json:"environment"`
	Healthy       float64  `json:"healthy"`
	Unhealthy     float64  `json:"unhealthy"`
	NotApplicable float64  `json:"notApplicable"`
}

// scoreRow holds the scores and controls of a row.
type scoreRow struct {
	subscriptionID string
	scores         []Score
	controls       []Control
	err            error
}

// parseScoreRow parses a row. An invalid one is a failure of its subscription alone.
func parseScoreRow(text jsontext.Value) scoreRow {
	var row graphRow
	err := decode(text, &row, maxGraphItems)
	if err != nil {
		var owner struct {
			SubscriptionID string `json:"subscriptionId"`
		}
		_ = decode(text, &owner, maxGraphItems) // the order of the members does not matter
		row.SubscriptionID = owner.SubscriptionID
	}
	parsed := scoreRow{subscriptionID: strings.ToLower(row.SubscriptionID), err: err}
	if parsed.err == nil {
		parsed.err = parsed.parse(&row)
	}
	return parsed
}

func (s *scoreRow) parse(row *graphRow) error {
	items := []graphItem{row.graphItem} // of a plain row
	switch {
	case row.Items != nil:
		items = *row.Items
		s.controls = make([]Control, 0, len(items))
	case row.ID == "":
		return invalidBecause(causeNotAList, "a row without a list of items")
	}
	for i := range items {
		if err := s.add(items[i].scoreItem()); err != nil {
			return err
		}
	}
	return nil
}

func (s *scoreRow) add(item *scoreItem) error {
	if segmentAfter(item.ID, "secureScoreControls") != "" {
		control, err := item.control(s.subscriptionID)
		s.controls = append(s.controls, control)
		return err
	}
	score, ok, err := item.score(s.subscriptionID)
	if ok {
		s.scores = append(s.scores, score)
	}
	return err
}

// scoreItem returns the item in the form of ARM's lists.
func (i *graphItem) scoreItem() *scoreItem {
	item := &scoreItem{ID: i.ID}
	p := &item.Properties
	p.DisplayName, p.Environment, p.Weight, p.Score = i.DisplayName, i.Environment, i.Weight, i.Score
	p.HealthyResourceCount, p.UnhealthyResourceCount, p.NotApplicableResourceCount = i.Healthy, i.Unhealthy, i.NotApplicable
	return item
}
