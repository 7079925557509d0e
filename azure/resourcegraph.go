package azure

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	resourceGraphPath       = "/providers/Microsoft.ResourceGraph/resources"
	resourceGraphAPIVersion = "2024-04-01"

	maxSubscriptions = 1000 // of a query
	// graphParallel is how many batches are read at once: 10,000 subscriptions take two rounds, and
	// if other clients use half of the quota, the first responses say so before it is exceeded.
	graphParallel = 5
	// fallbackAge is how long ARM's result for a subscription without rows is valid.
	fallbackAge = 10 * time.Minute
)

// ResourceGraph reads scores and controls from Azure Resource Graph (api-version 2024-04-01) with
// one query per 1,000 subscriptions, where [Client] makes two requests per subscription, and lists
// all subscriptions with one. It includes the connectors to other clouds. Everything else is the
// client's.
//
// Resource Graph silently leaves out a subscription that the identity cannot read, and one without
// a score. A subscription without rows is therefore read from ARM's lists, which tell these cases
// apart, and so are all subscriptions of a query that is refused as forbidden or not found. ARM's
// result is valid for ten minutes, because many subscriptions may have no score, and for ten more
// while ARM is too slow or throttles.
//
// Three forms of each query exist, because the best one is untested against real Azure: see
// [queryForm].
type ResourceGraph struct {
	*Client
	quota         *graphQuota
	pageSize      int
	scores        graphQuery
	subscriptions graphQuery
	// plainSlot serialises the plain query, which needs many requests per batch: concurrent batches
	// would all miss the deadline.
	plainSlot *semaphore.Weighted

	mu          sync.Mutex
	armFallback map[string]Result            // ARM's results for subscriptions without rows, by ID
	lastGroups  map[string][]ManagementGroup // by subscription ID, as read last

	listFailure, groupFailure failureLog
}

// NewResourceGraph creates a source of scores that shares everything else with the client.
func NewResourceGraph(c *Client) *ResourceGraph {
	return newResourceGraph(c, graphPageSize, newGraphQuota(graphQuotaQueries))
}

func newResourceGraph(c *Client, pageSize int, quota *graphQuota) *ResourceGraph {
	return &ResourceGraph{
		Client: c, quota: quota, pageSize: pageSize,
		scores:        graphQuery{subject: "scores", packed: packedScores, plain: plainScores},
		subscriptions: graphQuery{subject: "subscriptions", packed: packedSubscriptions, plain: plainSubscriptions},
		plainSlot:     semaphore.NewWeighted(1), armFallback: map[string]Result{},
	}
}

// SecureScores is like [Client.SecureScores].
func (g *ResourceGraph) SecureScores(ctx context.Context, subscriptionIDs []string) []Result {
	var mu sync.Mutex
	found := make(map[string]Result, len(subscriptionIDs))
	group := newTasks(graphParallel)
	for batch := range slices.Chunk(subscriptionIDs, maxSubscriptions) {
		group.Go(func() {
			results := g.readBatch(ctx, batch)
			mu.Lock()
			defer mu.Unlock()
			maps.Copy(found, results)
		})
	}
	group.Wait()

	var missing []string
	g.mu.Lock()
	for _, id := range subscriptionIDs {
		if result, ok := found[id]; !ok {
			missing = append(missing, id)
		} else if result.Err == nil {
			delete(g.armFallback, id) // it has rows now
		}
	}
	g.mu.Unlock()
	maps.Copy(found, g.fetchMissing(ctx, missing))
	results := make([]Result, len(subscriptionIDs))
	for i, id := range subscriptionIDs {
		results[i] = found[id]
	}
	return results
}

// readBatch returns the results of the subscriptions that have rows, or of all if the query fails.
func (g *ResourceGraph) readBatch(ctx context.Context, ids []string) map[string]Result {
	found, startedAt, err := g.queryScores(ctx, ids)
	half := len(ids) / 2
	switch {
	case half > 0 && resultTooLarge(err):
		results := g.readBatch(ctx, ids[:half])
		maps.Copy(results, g.readBatch(ctx, ids[half:]))
		return results
	case unreadable(err):
		return map[string]Result{}
	}
	results := make(map[string]Result, len(ids))
	if err != nil {
		err = fmt.Errorf("query Resource Graph for %d subscriptions: %w", len(ids), err)
		for _, id := range ids {
			results[id] = Result{StartedAt: startedAt, Err: err}
		}
		return results
	}
	readAt := g.now()
	for id, row := range found {
		if row.err != nil {
			results[id] = Result{StartedAt: startedAt, Err: fmt.Errorf("read Resource Graph's rows of subscription %s: %w", id, row.err)}
		} else {
			results[id] = Result{Scores: row.scores, Controls: row.controls, StartedAt: startedAt, ReadAt: readAt}
		}
	}
	return results
}

// resultTooLarge reports whether a smaller query may succeed.
func resultTooLarge(err error) bool {
	e, ok := errors.AsType[*Error](err)
	timedOut := ok && e.status == http.StatusGatewayTimeout && e.Reason == ReasonServerError
	return timedOut || hasCause(err, causeTruncated, causeTooLarge, codePayloadTooLarge, codeTooComplex)
}

// unreadable reports whether Azure refused the query because of its subscriptions. ARM knows the
// reason of each.
func unreadable(err error) bool {
	switch ReasonOf(err) {
	case ReasonForbidden, ReasonNotFound, ReasonNotRegistered:
		return true
	}
	return hasCause(err, codeNoneReadable)
}

// fetchMissing reads the subscriptions without rows from ARM.
func (g *ResourceGraph) fetchMissing(ctx context.Context, ids []string) map[string]Result {
	results := make(map[string]Result, len(ids))
	var due []string
	g.mu.Lock()
	for _, id := range ids {
		if kept, ok := g.armFallback[id]; ok && g.now().Sub(kept.StartedAt) < fallbackAge {
			results[id] = kept
		} else {
			due = append(due, id)
		}
	}
	g.mu.Unlock()

	fetched := g.Client.SecureScores(ctx, due)

	g.mu.Lock()
	defer g.mu.Unlock()
	for i, id := range due {
		result := fetched[i]
		results[id] = result
		switch ReasonOf(result.Err) {
		case "":
			// Scores that Resource Graph does not have yet are read every time.
			delete(g.armFallback, id)
			if len(result.Scores) == 0 {
				g.armFallback[id] = result
			}
		case ReasonForbidden, ReasonNotFound, ReasonNotRegistered:
			g.armFallback[id] = result
		case ReasonTimeout, ReasonThrottled:
			// There may be no time to renew all results that are due.
			if kept, ok := g.armFallback[id]; ok && g.now().Sub(kept.StartedAt) < 2*fallbackAge {
				results[id] = kept
			}
		}
	}
	return results
}
