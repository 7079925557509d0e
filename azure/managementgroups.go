package azure

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// maxAncestors bounds the management groups above a subscription. Azure allows six levels below
	// the root.
	maxAncestors = 10
	// groupTimeout bounds the queries for management groups, which the list of subscriptions waits
	// for.
	groupTimeout = 10 * time.Second
)

// ManagementGroup is a management group above a subscription.
type ManagementGroup struct {
	ID   string
	Name string // its display name, or the ID if there is none
}

// ARM reads scores from the lists of Azure Resource Manager, as [Client] does, and the management
// groups of the subscriptions from Resource Graph (api-version 2024-04-01).
type ARM struct {
	*Client
	graph *ResourceGraph
}

// NewARM creates a source that shares everything with g.
func NewARM(g *ResourceGraph) *ARM { return &ARM{Client: g.Client, graph: g} }

// Subscriptions is like [Client.Subscriptions] and adds the management groups, which it reads at
// the same time. If they cannot be read, the last ones remain and the list does not fail.
func (a *ARM) Subscriptions(ctx context.Context) ([]Subscription, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var subscriptions []Subscription
	var groups map[string][]ManagementGroup
	var err, groupErr error
	both := newTasks(2)
	both.Go(func() { groups, groupErr = a.graph.readGroups(ctx, a.graph.batches()) })
	both.Go(func() {
		if subscriptions, err = a.Client.Subscriptions(ctx); err != nil {
			cancel() // without a list, groups are of no use
		}
	})
	both.Wait()
	switch {
	case err != nil:
		return nil, err
	case resultTooLarge(groupErr): // for a query over all that the identity sees
		a.graph.addManagementGroups(ctx, subscriptions)
	default:
		a.graph.setManagementGroups(subscriptions, groups, groupErr)
	}
	return subscriptions, nil
}

// addManagementGroups reads the groups above the subscriptions, with one query for 1,000 of them.
func (g *ResourceGraph) addManagementGroups(ctx context.Context, subscriptions []Subscription) {
	ids := make([]string, len(subscriptions))
	for i, s := range subscriptions {
		ids[i] = s.ID
	}
	groups, err := g.readGroups(ctx, slices.Collect(slices.Chunk(ids, maxSubscriptions)))
	g.setManagementGroups(subscriptions, groups, err)
}

// readGroups returns the groups above subscriptions by ID, also those of the queries that succeed
// beside one that fails.
func (g *ResourceGraph) readGroups(ctx context.Context, batches [][]string) (map[string][]ManagementGroup, error) {
	timeout := groupTimeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(deadline)/2)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var mu sync.Mutex
	groups := map[string][]ManagementGroup{}
	var failure error
	queries := newTasks(graphParallel)
	for _, batch := range batches {
		queries.Go(func() {
			found, err := g.querySubscriptions(ctx, [][]string{batch}, false)
			mu.Lock()
			defer mu.Unlock()
			failure = cmp.Or(failure, err)
			for _, s := range found {
				groups[s.ID] = s.ManagementGroups
			}
		})
	}
	queries.Wait()
	return groups, failure
}

// setManagementGroups sets the groups that were read. If a query failed, the others keep their last
// ones.
func (g *ResourceGraph) setManagementGroups(subscriptions []Subscription, groups map[string][]ManagementGroup, err error) {
	g.groupFailure.record(g.logger, err, "cannot read management groups; using the last known ones", "management groups can be read again")
	if err != nil {
		g.lastManagementGroups(subscriptions)
	}
	for i, s := range subscriptions {
		if found, ok := groups[s.ID]; ok || err == nil {
			subscriptions[i].ManagementGroups = found
		}
	}
	g.keepManagementGroups(subscriptions)
}

// keepManagementGroups remembers the groups for the next time that they cannot be read.
func (g *ResourceGraph) keepManagementGroups(subscriptions []Subscription) {
	last := make(map[string][]ManagementGroup, len(subscriptions))
	for _, s := range subscriptions {
		if s.ManagementGroups != nil {
			last[s.ID] = s.ManagementGroups
		}
	}
	g.mu.Lock()
	g.lastGroups = last
	g.mu.Unlock()
}

// lastManagementGroups adds the groups that were read last.
func (g *ResourceGraph) lastManagementGroups(subscriptions []Subscription) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, s := range subscriptions {
		subscriptions[i].ManagementGroups = g.lastGroups[s.ID]
	}
}

// graphGroup is an element of the column managementGroupAncestorsChain, whose name is the ID of a
// group.
type graphGroup struct {
	Name        string `json:"name"`
	DisplayName string `json:"displayName"`
}

// parseAncestors returns the groups above a subscription, the nearest first, in Azure's order.
// Anything but a list is none: the column is absent if the identity does not see the groups.
func parseAncestors(text []byte) []ManagementGroup {
	var chain []graphGroup
	if len(text) == 0 || decode(text, &chain, maxGraphItems) != nil {
		return nil
	}
	var groups []ManagementGroup
	for _, element := range chain {
		id := sanitize(element.Name)
		known := slices.ContainsFunc(groups, func(g ManagementGroup) bool { return strings.EqualFold(g.ID, id) })
		if id == "" || known {
			continue
		}
		groups = append(groups, ManagementGroup{ID: id, Name: cmp.Or(sanitize(element.DisplayName), id)})
		if len(groups) == maxAncestors {
			break
		}
	}
	return groups
}

// sharedGroups are lists of management groups, each once: most subscriptions have the same as
// another one.
type sharedGroups map[string][]ManagementGroup

func (s sharedGroups) share(groups []ManagementGroup) []ManagementGroup {
	if len(groups) == 0 {
		return nil
	}
	var key strings.Builder
	for _, group := range groups {
		key.WriteString(group.ID + "\n" + group.Name + "\n") // sanitized texts have no line breaks
	}
	shared, ok := s[key.String()]
	if !ok {
		shared = slices.Clip(groups)
		s[key.String()] = shared
	}
	return shared
}
