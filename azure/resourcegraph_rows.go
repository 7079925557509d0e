package azure

import (
	"encoding/json"
	"strings"
	"time"
)

const (
	graphScores = `securityresources | where type in~ ('microsoft.security/securescores','microsoft.security/securescores/securescorecontrols')`

	// packedQuery returns one row per subscription, which holds its scores and controls, so that a
	// batch is one page and costs one request of a small quota.
	packedQuery = graphScores + ` | summarize items = make_list(bag_pack('type', type, 'id', id, 'name', name, 'displayName', properties.displayName, 'score', properties.score, 'weight', properties.weight, 'environment', properties.environment, 'healthy', properties.healthyResourceCount, 'unhealthy', properties.unhealthyResourceCount, 'notApplicable', properties.notApplicableResourceCount)) by subscriptionId`

	// plainQuery returns one row per score and control. Resource Graph pages a result that has a
	// column id; the order keeps the pages from overlapping.
	plainQuery = graphScores + ` | project id, name, type, subscriptionId, displayName = properties.displayName, score = properties.score, weight = properties.weight, environment = properties.environment, healthy = properties.healthyResourceCount, unhealthy = properties.unhealthyResourceCount, notApplicable = properties.notApplicableResourceCount | order by id asc`
)

// graphPage is one response of Resource Graph.
type graphPage[Row any] struct {
	TotalRecords    int    `json:"totalRecords"`
	Data            []Row  `json:"data"`
	ResultTruncated string `json:"resultTruncated"`
	SkipToken       string `json:"$skipToken"`
}

func (p graphPage[Row]) truncated() bool { return strings.EqualFold(p.ResultTruncated, "true") }

// graphRow is a row of either query: a packed one has items, a plain one is an item.
type graphRow struct {
	SubscriptionID string      `json:"subscriptionId"`
	Items          []graphItem `json:"items"`
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
func decodePage(body []byte) (graphPage[graphRow], error) {
	var page graphPage[graphRow]
	err := decode(body, &page, maxGraphItems)
	if err == nil {
		return page, nil
	}
	var raw graphPage[json.RawMessage]
	if decode(body, &raw, maxGraphItems) != nil {
		return page, err
	}
	rows := make([]graphRow, len(raw.Data))
	for i := range rows {
		rows[i].err = decode(raw.Data[i], &rows[i], maxGraphItems)
	}
	return graphPage[graphRow]{raw.TotalRecords, rows, raw.ResultTruncated, raw.SkipToken}, nil
}

// graphAnswer holds the rows of all pages by subscription, and when the first request was sent.
type graphAnswer struct {
	startedAt     time.Time
	subscriptions map[string]*graphItems
}

func (a graphAnswer) add(rows []graphRow) {
	for _, row := range rows {
		id := strings.ToLower(row.SubscriptionID)
		if a.subscriptions[id] == nil {
			a.subscriptions[id] = &graphItems{}
		}
		a.subscriptions[id].add(row)
	}
}

// graphItems are the rows of one subscription in the form of ARM's lists.
type graphItems struct {
	scores, controls []scoreItem
	err              error
}

func (items *graphItems) add(row graphRow) {
	if row.err != nil {
		items.err = row.err
		return
	}
	if row.Type != "" {
		row.Items = append(row.Items, row.graphItem)
	}
	for _, i := range row.Items {
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

func (items *graphItems) parse() (scores []Score, controls []Control, err error) {
	if items.err != nil {
		return nil, nil, items.err
	}
	if scores, err = parseScores(items.scores); err == nil {
		controls, err = parseControls(items.controls)
	}
	return scores, controls, err
}
