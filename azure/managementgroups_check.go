package azure

import (
	"context"
	"fmt"
	"slices"
)

// CheckManagementGroups adds to a report whether the groups above the subscriptions can be read,
// unless none is listed. It takes up to a minute.
func (r *Report) CheckManagementGroups(ctx context.Context, g *ResourceGraph) {
	ctx, cancel := context.WithTimeout(ctx, subscriptionTimeout)
	defer cancel()
	var ids []string
	for _, s := range r.Subscriptions {
		if s.State != "" { // it is listed
			ids = append(ids, s.ID)
		}
	}
	if len(ids) == 0 {
		return
	}
	found, err := g.querySubscriptions(ctx, slices.Collect(slices.Chunk(ids, maxSubscriptions)), false)
	result := r.result(err, "", actionQueryGraph)
	if err == nil {
		result.Detail = describeGroups(found, len(ids))
	}
	r.ManagementGroups = &result
	r.OK = r.OK && result.OK
}

// describeGroups counts the groups above subscriptions that are visible.
func describeGroups(found []Subscription, subscriptions int) string {
	groups := map[string]bool{}
	below := 0
	for _, s := range found {
		if len(s.ManagementGroups) > 0 {
			below++
		}
		for _, group := range s.ManagementGroups {
			groups[group.ID] = true
		}
	}
	if below == 0 {
		return "none visible"
	}
	return fmt.Sprintf("%d, above %d of %d subscriptions", len(groups), below, subscriptions)
}
