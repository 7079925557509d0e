package azure

import (
	"encoding/json"
	"strings"
	"time"
)

// graphDocument is one response of Resource Graph.
type graphDocument[Row any] struct {
	TotalRecords    int        `json:"totalRecords"`
	Data            *[]Row     `json:"data"`
	ResultTruncated string     `json:"resultTruncated"`
	SkipToken       string     `json:"$skipToken"`
	Error           *errorBody `json:"error"`
}

// graphPage is a response without the rows' encoding.
type graphPage struct {
	rows         []graphRow
	totalRecords int
	truncated    bool
	skipToken    string
}

// graphRow is a row of either query: a packed one has items, a plain one is an item.
type graphRow struct {
	SubscriptionID string       `json:"subscriptionId"`
	Items          *[]graphItem `json:"items"`
	graphItem
	err error // why the row cannot be decoded
}

// graphItem is a score or a control.
type graphItem struct {
	Type          string    `json:"type"`
	ID            string    `json:"id"`
	Name          string    `json:"name"`
	DisplayName   string    `json:"displayName"`
	Score         *apiScore `json:"score"`
	Weight        float64   `json:"weight"`
	Environment   string    `json:"environment"`
	Healthy       float64   `json:"healthy"`
	Unhealthy     float64   `json:"unhealthy"`
	NotApplicable float64   `json:"notApplicable"`
}

// decodePage decodes a response. If a value has the wrong type, it decodes row by row: only that row
// is invalid.
func decodePage(body []byte) (graphPage, error) {
	var document graphDocument[graphRow]
	err := decode(body, &document, maxGraphItems)
	if err == nil {
		return newGraphPage(document, body)
	}
	var raw graphDocument[json.RawMessage]
	if decode(body, &raw, maxGraphItems) != nil || raw.Data == nil {
		return graphPage{}, err
	}
	rows := make([]graphRow, len(*raw.Data))
	for i := range rows {
		rows[i].err = decode((*raw.Data)[i], &rows[i], maxGraphItems)
	}
	return newGraphPage(graphDocument[graphRow]{raw.TotalRecords, &rows, raw.ResultTruncated, raw.SkipToken, raw.Error}, body)
}

func newGraphPage(d graphDocument[graphRow], body []byte) (graphPage, error) {
	rows, err := listOf(d.Data, d.Error, body)
	return graphPage{rows, d.TotalRecords, strings.EqualFold(d.ResultTruncated, "true"), d.SkipToken}, err
}

// graphAnswer holds the rows of all pages by subscription, and when the first request was sent.
type graphAnswer struct {
	startedAt     time.Time
	subscriptions map[string]*graphItems
}

func (a graphAnswer) add(rows []graphRow) error {
	for _, row := range rows {
		id := strings.ToLower(row.SubscriptionID)
		if id == "" {
			return invalidResponse("a row has no subscription ID")
		}
		if a.subscriptions[id] == nil {
			a.subscriptions[id] = &graphItems{}
		}
		a.subscriptions[id].add(row)
	}
	return nil
}

// graphItems are the rows of one subscription in the form of ARM's lists.
type graphItems struct {
	scores, controls []scoreItem
	err              error
}

func (items *graphItems) add(row graphRow) {
	packed := []graphItem{row.graphItem} // for a plain row
	switch {
	case row.err != nil:
		items.err = row.err
		return
	case row.Items != nil:
		packed = *row.Items
	case row.Type == "":
		items.err = invalidBecause(causeNotAList, "a row without a list of items")
		return
	}
	for _, i := range packed {
		item := scoreItem{ID: i.ID, Name: i.Name}
		p := &item.Properties
		p.DisplayName, p.Environment, p.Weight, p.Score = i.DisplayName, i.Environment, i.Weight, i.Score
		p.HealthyResourceCount, p.UnhealthyResourceCount, p.NotApplicableResourceCount = i.Healthy, i.Unhealthy, i.NotApplicable
		if strings.HasSuffix(strings.ToLower(i.Type), "/securescorecontrols") {
			items.controls = append(items.controls, item)
		} else {
			items.scores = append(items.scores, item)
		}
	}
}

func (items *graphItems) parse(subscriptionID string) (scores []Score, controls []Control, err error) {
	if items.err != nil {
		return nil, nil, items.err
	}
	if scores, err = parseScores(subscriptionID, items.scores); err == nil {
		controls, err = parseControls(subscriptionID, items.controls)
	}
	return scores, controls, err
}
