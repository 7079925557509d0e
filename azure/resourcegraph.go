package azure

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/go-kit/log/level"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
)

const (
	resourceGraphPath       = "/providers/Microsoft.ResourceGraph/resources"
	resourceGraphAPIVersion = "2024-04-01"

	maxGraphBody     = 17 << 20 // bytes; Resource Graph's own limit is 16 MiB
	maxGraphItems    = 100_000  // rows of a response and the items packed into them
	maxSubscriptions = 1000     // of a query
	graphPageSize    = 1000     // rows of a response
	graphParallel    = 4        // batches: responses of several megabytes are held in memory whole
	// fallbackAge is how long ARM's result for a subscription without rows is valid.
	fallbackAge = 10 * time.Minute
)

// ResourceGraph reads scores and controls from Azure Resource Graph (api-version 2024-04-01) with one
// query per 1,000 subscriptions, where [Client] makes two requests per subscription. It includes the
// connectors to other clouds. Everything except [ResourceGraph.SecureScores] is the client's.
//
// Resource Graph silently leaves out a subscription that the identity cannot read, and one without a
// score. A subscription without rows is therefore read from ARM's lists, which tell these cases apart.
// ARM's result is valid for ten minutes, because many subscriptions may have no score, and for ten
// more while ARM is too slow or throttles. A query that is forbidden means that the identity can read
// none of its subscriptions: as documented, Azure refuses it only then.
//
// The packed query is untested against real Azure. If it is refused and the plain one is not, the
// plain one is used until the process restarts.
type ResourceGraph struct {
	*Client
	quota    *graphQuota
	pageSize int

	packedRefused atomic.Bool
	// plainSlot serialises the plain query, which needs many requests per batch: concurrent batches
	// would all be late.
	plainSlot *semaphore.Weighted

	mu          sync.Mutex
	armFallback map[string]Result // ARM's results for subscriptions without rows, by ID
}

// NewResourceGraph creates a source of scores that shares everything else with the client.
func NewResourceGraph(c *Client) *ResourceGraph {
	return newResourceGraph(c, graphPageSize, newGraphQuota(graphQuotaQueries))
}

func newResourceGraph(c *Client, pageSize int, quota *graphQuota) *ResourceGraph {
	return &ResourceGraph{
		Client: c, quota: quota, pageSize: pageSize,
		plainSlot: semaphore.NewWeighted(1), armFallback: map[string]Result{},
	}
}

// SecureScores is like [Client.SecureScores].
func (g *ResourceGraph) SecureScores(ctx context.Context, subscriptionIDs []string) []Result {
	var mu sync.Mutex
	found := make(map[string]Result, len(subscriptionIDs))
	var group errgroup.Group
	group.SetLimit(graphParallel)
	for batch := range slices.Chunk(subscriptionIDs, maxSubscriptions) {
		group.Go(func() error {
			results := g.readBatch(ctx, batch)
			mu.Lock()
			defer mu.Unlock()
			maps.Copy(found, results)
			return nil
		})
	}
	_ = group.Wait() // the errors are in the results

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
	answer, err := g.query(ctx, ids)
	if half := len(ids) / 2; half > 0 && resultTooLarge(err) {
		results := g.readBatch(ctx, ids[:half])
		maps.Copy(results, g.readBatch(ctx, ids[half:]))
		return results
	}
	results := make(map[string]Result, len(ids))
	if err != nil {
		err = fmt.Errorf("query Resource Graph for %d subscriptions: %w", len(ids), err)
		for _, id := range ids {
			results[id] = Result{StartedAt: answer.startedAt, Err: err}
		}
		return results
	}
	readAt := g.now()
	for id, items := range answer.subscriptions {
		result := Result{StartedAt: answer.startedAt}
		if result.Scores, result.Controls, result.Err = items.parse(); result.Err == nil {
			result.ReadAt = readAt
		} else {
			result = Result{StartedAt: answer.startedAt, Err: fmt.Errorf("read Resource Graph's rows of subscription %s: %w", id, result.Err)}
		}
		results[id] = result
	}
	return results
}

// resultTooLarge reports whether a smaller query may succeed.
func resultTooLarge(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && slices.Contains([]string{codeResultTruncated, "ResponsePayloadTooLarge", codeGatewayTimeout, codeBodyTooLarge}, e.code)
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
			// More results may be due at once than there is time for.
			if kept, ok := g.armFallback[id]; ok && g.now().Sub(kept.StartedAt) < 2*fallbackAge {
				results[id] = kept
			}
		}
	}
	return results
}

// query returns the rows of the subscriptions, from the packed query unless Azure refuses it.
func (g *ResourceGraph) query(ctx context.Context, ids []string) (graphAnswer, error) {
	if g.packedRefused.Load() {
		return g.queryPlain(ctx, ids)
	}
	answer, err := g.readPages(ctx, packedQuery, ids)
	refused, ok := errors.AsType[*Error](err)
	if !ok || refused.status != http.StatusBadRequest || resultTooLarge(err) {
		return answer, err
	}
	startedAt := answer.startedAt
	answer, err = g.queryPlain(ctx, ids)
	answer.startedAt = startedAt
	if err == nil && g.packedRefused.CompareAndSwap(false, true) {
		level.Warn(g.logger).Log("msg", "Resource Graph refuses the packed query, which costs one request per 1,000 subscriptions; using the plain query from now on, which costs many", "operation", operationQueryResourceGraph, "err", refused)
	}
	return answer, err
}

func (g *ResourceGraph) queryPlain(ctx context.Context, ids []string) (graphAnswer, error) {
	if err := g.plainSlot.Acquire(ctx, 1); err != nil {
		return graphAnswer{}, classify(err)
	}
	defer g.plainSlot.Release(1)
	return g.readPages(ctx, plainQuery, ids)
}

// graphRequest is the body of a query.
type graphRequest struct {
	Query         string       `json:"query"`
	Subscriptions []string     `json:"subscriptions"`
	Options       graphOptions `json:"options"`
}

type graphOptions struct {
	ResultFormat string `json:"resultFormat"`
	Top          int    `json:"$top"`
	SkipToken    string `json:"$skipToken,omitempty"`
}

// readPages reads all pages of a query.
func (g *ResourceGraph) readPages(ctx context.Context, query string, ids []string) (graphAnswer, error) {
	request := graphRequest{query, ids, graphOptions{ResultFormat: "objectArray", Top: g.pageSize}}
	answer := graphAnswer{subscriptions: map[string]*graphItems{}}
	seen := map[string]bool{}
	rows := 0
	for len(seen) < maxPages {
		seen[request.Options.SkipToken] = true
		body, sentAt, err := g.post(ctx, request)
		if answer.startedAt.IsZero() {
			answer.startedAt = sentAt
		}
		if err != nil {
			return answer, err
		}
		page, err := decodePage(body)
		if err != nil {
			return answer, err
		}
		answer.add(page.Data)
		rows += len(page.Data)
		switch next := page.SkipToken; {
		case next == "" && page.truncated():
			return answer, &Error{Reason: ReasonInvalidResponse, Err: errors.New("the result is truncated"), code: codeResultTruncated}
		case next == "" && rows < page.TotalRecords:
			return answer, invalidResponse("%d of %d rows came", rows, page.TotalRecords)
		case next == "":
			return answer, nil
		case seen[next]:
			return answer, invalidResponse("$skipToken leads back to a page already read")
		default:
			request.Options.SkipToken = next
		}
	}
	return answer, &Error{Reason: ReasonInvalidResponse, Err: fmt.Errorf("more than %d pages", maxPages), code: codeResultTruncated}
}

// post sends a query within the quota and returns the body of the response and the time of the first
// attempt, which is zero if none was sent.
func (g *ResourceGraph) post(ctx context.Context, request graphRequest) (body []byte, sentAt time.Time, err error) {
	// Without 429, which is handled here because azcore does not know Resource Graph's quota headers,
	// and without 504, after which a smaller query may succeed.
	retries := withRetries(ctx, []int{http.StatusRequestTimeout, http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable})
	for {
		if err := g.quota.wait(ctx); err != nil {
			return nil, sentAt, err
		}
		if sentAt.IsZero() {
			sentAt = g.now()
		}
		req, err := runtime.NewRequest(retries, http.MethodPost, g.url(resourceGraphPath, resourceGraphAPIVersion))
		if err == nil {
			err = runtime.MarshalAsJSON(req, request)
		}
		if err != nil {
			return nil, sentAt, classify(err)
		}
		resp, err := g.do(req, operationQueryResourceGraph)
		g.quota.update(resp)
		if ReasonOf(err) != ReasonThrottled {
			return resp.body, sentAt, err
		}
	}
}
