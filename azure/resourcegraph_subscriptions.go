package azure

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	graphSubscriptions = `resourcecontainers | where type =~ 'microsoft.resources/subscriptions'`

	// packedSubscriptions returns 64 rows: one alone could exceed Kusto's limit of 1 MiB for a list.
	packedSubscriptions = graphSubscriptions + ` | summarize items = make_list(bag_pack('subscriptionId', subscriptionId, 'name', name, 'tenantId', tenantId, 'state', properties.state, 'groups', properties.managementGroupAncestorsChain)) by part = hash(subscriptionId, 64)`

	plainSubscriptions = graphSubscriptions + ` | project id, subscriptionId, name, tenantId, state = properties.state, groups = properties.managementGroupAncestorsChain | order by id asc`
)

// withTags adds all tags to the query: Kusto looks a single one up in its exact case.
func withTags(query string) string {
	return strings.NewReplacer("'groups', ", "'tags', tags, 'groups', ", "groups = ", "tags, groups = ").Replace(query)
}

// Subscriptions is like [Client.Subscriptions], but makes one query instead of one request for each
// 50 subscriptions. ARM's lists remain in use for management groups, and if Resource Graph refuses
// the query or its result is incomplete: a query sees the first 10,000 subscriptions of a tenant.
func (g *ResourceGraph) Subscriptions(ctx context.Context) ([]Subscription, error) {
	if len(g.managementGroups) > 0 {
		return NewARM(g).Subscriptions(ctx)
	}
	listed, err := g.querySubscriptions(ctx, g.batches(), !g.tags.none())
	switch ReasonOf(err) {
	case ReasonAuthentication, ReasonTimeout, ReasonCanceled: // ARM's list would fail as well
		return nil, fmt.Errorf("list subscriptions: %w", err)
	}
	g.listFailure.record(g.logger, err, "Resource Graph cannot list the subscriptions; using the list of Azure Resource Manager", "Resource Graph lists the subscriptions again")
	switch {
	case resultTooLarge(err): // for one query
		if listed, err = g.Client.Subscriptions(ctx); err == nil {
			g.addManagementGroups(ctx, listed)
		}
		return listed, err
	case err != nil || len(listed) == 0:
		listed, err = g.Client.Subscriptions(ctx)
		g.lastManagementGroups(listed)
		return listed, err
	}
	subscriptions := g.selected(listed)
	g.keepManagementGroups(subscriptions)
	g.logTargets(subscriptions)
	return subscriptions, nil
}

// batches returns the subscriptions of each query: the configured ones, or nil for all that the
// identity sees.
func (g *ResourceGraph) batches() [][]string {
	if len(g.subscriptionIDs) == 0 {
		return [][]string{nil}
	}
	return slices.Collect(slices.Chunk(g.subscriptionIDs, maxSubscriptions))
}

// querySubscriptions returns the subscriptions with these IDs, or for nil all that the identity
// sees, with their management groups and optionally their tags.
func (g *ResourceGraph) querySubscriptions(ctx context.Context, batches [][]string, tags bool) ([]Subscription, error) {
	found := foundSubscriptions{known: map[string]bool{}, groups: sharedGroups{}}
	for _, batch := range batches {
		err := g.subscriptions.run(g.now, g.logger, func(_ queryForm, query string) error {
			if tags {
				query = withTags(query)
			}
			_, err := readPages(ctx, g, query, batch, g.parseSubscriptionRow, found.add)
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

// subscriptionRow holds the subscriptions of a row: a packed one has many, a plain one is one.
type subscriptionRow struct {
	subscriptions []Subscription
	invalid       int   // items that were left out
	itemErr       error // why the first of them is invalid
	err           error // why the row is invalid, and with it the list
}

// graphSubscription is a subscription as Resource Graph writes it.
type graphSubscription struct {
	SubscriptionID string         `json:"subscriptionId"`
	Name           string         `json:"name"`
	TenantID       string         `json:"tenantId"`
	State          string         `json:"state"`
	Tags           jsontext.Value `json:"tags"`
	Groups         jsontext.Value `json:"groups"`
}

// parseSubscriptionRow leaves an invalid subscription out alone.
func (g *ResourceGraph) parseSubscriptionRow(text jsontext.Value) (parsed subscriptionRow) {
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
		subscription := newSubscription(s.SubscriptionID, s.Name, s.TenantID, s.State)
		subscription.ManagementGroups = parseAncestors(s.Groups)
		g.tags.addTo(&subscription, s.Tags)
		parsed.subscriptions = append(parsed.subscriptions, subscription)
	}
	return parsed
}

// foundSubscriptions are the subscriptions of all rows.
type foundSubscriptions struct {
	subscriptions []Subscription
	known         map[string]bool // by ID
	groups        sharedGroups
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
				s.ManagementGroups = f.groups.share(s.ManagementGroups)
				f.subscriptions = append(f.subscriptions, s)
			}
		}
	}
	return nil
}
