package azure

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/go-kit/log/level"
)

const (
	graphSubscriptions = `resourcecontainers | where type =~ 'microsoft.resources/subscriptions'`

	// packedSubscriptions returns 16 rows: one alone could exceed Kusto's limit of 1 MiB for a list.
	packedSubscriptions = graphSubscriptions + ` | summarize items = make_list(bag_pack('subscriptionId', subscriptionId, 'name', name, 'tenantId', tenantId, 'state', properties.state)) by part = hash(subscriptionId, 16)`

	plainSubscriptions = graphSubscriptions + ` | project id, subscriptionId, name, tenantId, state = properties.state | order by id asc`
)

// Subscriptions is like [Client.Subscriptions], but makes one query instead of one request for each
// 50 subscriptions. ARM's lists remain in use for management groups, and if Resource Graph refuses
// the query or its result is incomplete: a query sees the first 10,000 subscriptions of a tenant.
func (g *ResourceGraph) Subscriptions(ctx context.Context) ([]Subscription, error) {
	if len(g.managementGroups) > 0 {
		return g.Client.Subscriptions(ctx)
	}
	listed, err := g.querySubscriptions(ctx)
	switch ReasonOf(err) {
	case ReasonAuthentication, ReasonTimeout, ReasonCanceled: // ARM's list would fail as well
		return nil, fmt.Errorf("list subscriptions: %w", err)
	}
	g.logListFallback(err)
	if err != nil || len(listed) == 0 {
		return g.Client.Subscriptions(ctx)
	}
	return g.selected(listed), nil
}

// querySubscriptions returns the configured subscriptions, or all that the identity sees.
func (g *ResourceGraph) querySubscriptions(ctx context.Context) ([]Subscription, error) {
	found := foundSubscriptions{known: map[string]bool{}}
	batches := [][]string{nil} // all
	if len(g.subscriptionIDs) > 0 {
		batches = slices.Collect(slices.Chunk(g.subscriptionIDs, maxSubscriptions))
	}
	for _, batch := range batches {
		err := g.subscriptions.run(g.now, g.logger, func(_ queryForm, query string) error {
			_, err := readPages(ctx, g, query, batch, parseSubscriptionRow, found.add)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	if found.invalid > 0 {
		g.logInvalidSubscriptions(operationQueryResourceGraph, found.invalid, found.err)
	}
	return found.subscriptions, nil
}

// logListFallback logs that ARM's list is used instead, once for each cause, and the end of that.
func (g *ResourceGraph) logListFallback(err error) {
	g.mu.Lock()
	before := g.listRefusal
	g.listRefusal = err
	g.mu.Unlock()
	switch {
	case Cause(err) == Cause(before):
	case err != nil:
		level.Warn(g.logger).Log("msg", "Resource Graph cannot list the subscriptions; using the list of Azure Resource Manager", "reason", ReasonOf(err), "err", err)
	default:
		level.Info(g.logger).Log("msg", "Resource Graph lists the subscriptions again")
	}
}

// subscriptionRow holds the subscriptions of a row: a packed one has many, a plain one is one.
type subscriptionRow struct {
	subscriptions []Subscription
	invalid       int   // items that were left out
	itemErr       error // why the first of them is invalid
	err           error // why the row is invalid, and with it the list
}

// graphSubscription is a subscription as Resource Graph writes it.
type graphSubscription struct {
	SubscriptionID string `json:"subscriptionId"`
	Name           string `json:"name"`
	TenantID       string `json:"tenantId"`
	State          string `json:"state"`
}

// parseSubscriptionRow leaves an invalid subscription out alone.
func parseSubscriptionRow(text jsontext.Value) (parsed subscriptionRow) {
	var row struct {
		SubscriptionID jsontext.Value    `json:"subscriptionId"`
		Items          *[]jsontext.Value `json:"items"`
	}
	items := []jsontext.Value{text}
	switch err := decode(text, &row, maxGraphItems); {
	case err != nil:
		return subscriptionRow{err: err}
	case row.Items != nil:
		items = *row.Items
	case row.SubscriptionID == nil:
		return subscriptionRow{err: invalidBecause(causeNotAList, "a row without a list of items")}
	}
	for _, item := range items {
		var s graphSubscription
		err := decode(item, &s, maxGraphItems)
		if err == nil {
			s.SubscriptionID, err = ParseSubscriptionID(s.SubscriptionID)
		}
		if err != nil {
			parsed.invalid++
			parsed.itemErr = cmp.Or(parsed.itemErr, err)
			continue
		}
		parsed.subscriptions = append(parsed.subscriptions, newSubscription(s.SubscriptionID, s.Name, s.TenantID, s.State))
	}
	return parsed
}

// foundSubscriptions are the subscriptions of all rows.
type foundSubscriptions struct {
	subscriptions []Subscription
	known         map[string]bool // by ID
	invalid       int
	err           error
}

func (f *foundSubscriptions) add(rows []subscriptionRow) error {
	for _, row := range rows {
		if row.err != nil {
			return row.err
		}
		f.invalid += row.invalid
		f.err = cmp.Or(f.err, row.itemErr)
		for _, s := range row.subscriptions {
			if !f.known[s.ID] {
				f.known[s.ID] = true
				f.subscriptions = append(f.subscriptions, s)
			}
		}
	}
	return nil
}
