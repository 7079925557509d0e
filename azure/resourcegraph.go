package azure

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/go-kit/log/level"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
)

const (
	resourceGraphPath       = "/providers/Microsoft.ResourceGraph/resources"
	resourceGraphAPIVersion = "2024-04-01"

	// maxGraphBody is Resource Graph's own limit of an answer, and a little more.
	maxGraphBody = 17 << 20
	// graphBatch is how many subscriptions a query may name.
	graphBatch = 1000
	// graphPage is how many rows an answer may have.
	graphPage = 1000
	// maxGraphItems bounds the rows of an answer and what is packed into them.
	maxGraphItems = 100_000
	// graphParallel is how many batches are read at a time: answers of several
	// megabytes are held in memory whole.
	graphParallel = 4
	// verdictAge is how long ARM's word on a subscription without rows is good.
	verdictAge = 10 * time.Minute
)

const (
	graphScores = `securityresources | where type in~ ('microsoft.security/securescores','microsoft.security/securescores/securescorecontrols')`

	// packedQuery gives one row for a subscription, which holds its scores and
	// controls, so that a batch is one page and costs one unit of a small quota.
	packedQuery = graphScores + ` | summarize items = make_list(bag_pack('type', type, 'id', id, 'name', name, 'displayName', properties.displayName, 'score', properties.score, 'weight', properties.weight, 'environment', properties.environment, 'healthy', properties.healthyResourceCount, 'unhealthy', properties.unhealthyResourceCount, 'notApplicable', properties.notApplicableResourceCount)) by subscriptionId`

	// plainQuery gives a row for each score and control. Resource Graph pages what
	// has a column called id; the order keeps the pages from overlapping.
	plainQuery = graphScores + ` | project id, name, type, subscriptionId, displayName = properties.displayName, score = properties.score, weight = properties.weight, environment = properties.environment, healthy = properties.healthyResourceCount, unhealthy = properties.unhealthyResourceCount, notApplicable = properties.notApplicableResourceCount | order by id asc`
)

// ResourceGraph reads scores and controls from Azure Resource Graph (api-version
// 2024-04-01): one query for 1,000 subscriptions, where a [Client] by itself needs
// two calls for each. It tells of connectors to other clouds, too. Everything but
// [ResourceGraph.SecureScores] is the client's.
//
// Resource Graph leaves out a subscription that the identity may not read as
// silently as one that has no score. A subscription without rows is therefore read
// from ARM's own lists, which tell forbidden, not_found, not_registered and no
// score apart; what ARM said so is good for ten minutes, since many subscriptions
// may have no score, and for ten more while ARM has no time. When the query itself
// is refused as forbidden, the identity may read none of the batch: Azure documents
// that it is refused only then.
//
// That the packed query runs could not be tried on real Azure. When it is refused
// and the plain one is not, the plain one is used for as long as the process runs.
type ResourceGraph struct {
	*Client
	quota graphQuota
	// plain says that the packed query was refused. It takes many queries for a
	// batch, so that batches take turns: several at once would all be late.
	plain     atomic.Bool
	plainTurn *semaphore.Weighted
	pageSize  int

	mu       sync.Mutex
	verdicts map[string]Result // by subscription: what ARM said when there were no rows
}

// NewResourceGraph makes a source of scores that shares all of a client.
func NewResourceGraph(c *Client) *ResourceGraph {
	return &ResourceGraph{Client: c, plainTurn: semaphore.NewWeighted(1), pageSize: graphPage, verdicts: map[string]Result{}}
}

// SecureScores is like [Client.SecureScores].
func (g *ResourceGraph) SecureScores(ctx context.Context, subscriptionIDs []string) []Result {
	var mu sync.Mutex
	found := make(map[string]Result, len(subscriptionIDs))
	var group errgroup.Group
	group.SetLimit(graphParallel)
	for batch := range slices.Chunk(subscriptionIDs, graphBatch) {
		group.Go(func() error {
			outcomes := g.readBatch(ctx, batch)
			mu.Lock()
			defer mu.Unlock()
			maps.Copy(found, outcomes)
			return nil
		})
	}
	_ = group.Wait() // the errors are in the outcomes

	var missing []string
	g.mu.Lock()
	for _, id := range subscriptionIDs {
		o, ok := found[id]
		switch {
		case !ok:
			missing = append(missing, id)
		case o.Err == nil:
			delete(g.verdicts, id) // it has rows by now
		}
	}
	g.mu.Unlock()
	for i, o := range g.readMissing(ctx, missing) {
		found[missing[i]] = o
	}
	outcomes := make([]Result, len(subscriptionIDs))
	for i, id := range subscriptionIDs {
		outcomes[i] = found[id]
	}
	return outcomes
}

// readBatch returns the outcomes of those subscriptions that Resource Graph has
// rows of, or of all of them when the query fails.
func (g *ResourceGraph) readBatch(ctx context.Context, ids []string) map[string]Result {
	var began time.Time // when the first query was sent, not when the wait for it began
	rows, err := g.query(ctx, ids, &began)
	if half := len(ids) / 2; err != nil && half > 0 && isTooMuch(err) {
		outcomes := g.readBatch(ctx, ids[:half])
		maps.Copy(outcomes, g.readBatch(ctx, ids[half:]))
		return outcomes
	}
	outcomes := make(map[string]Result, len(ids))
	if err != nil {
		err = fmt.Errorf("query Resource Graph for %d subscriptions: %w", len(ids), err)
		for _, id := range ids {
			outcomes[id] = Result{StartedAt: began, Err: err}
		}
		return outcomes
	}
	readAt := time.Now()
	for id, items := range rows {
		o := Result{StartedAt: began, ReadAt: readAt}
		if o.Scores, o.Controls, o.Err = items.read(); o.Err != nil {
			o = Result{StartedAt: began, Err: subscriptionError("read Resource Graph's rows", id, o.Err)}
		}
		outcomes[id] = o
	}
	return outcomes
}

// isTooMuch says whether a failure may go away when less is asked for.
func isTooMuch(err error) bool {
	var e *Error
	return errors.As(err, &e) && (e.code == codeResultTruncated || e.code == "ResponsePayloadTooLarge" || e.code == codeGatewayTimeout || e.code == codeBodyTooLarge)
}

// readMissing asks ARM about the subscriptions that Resource Graph does not know.
func (g *ResourceGraph) readMissing(ctx context.Context, ids []string) []Result {
	outcomes := make([]Result, len(ids))
	var asked []string
	var positions []int
	g.mu.Lock()
	for i, id := range ids {
		if verdict, ok := g.verdicts[id]; ok && time.Since(verdict.StartedAt) < verdictAge {
			outcomes[i] = verdict
			continue
		}
		asked = append(asked, id)
		positions = append(positions, i)
	}
	g.mu.Unlock()

	answers := g.Client.SecureScores(ctx, asked)

	g.mu.Lock()
	defer g.mu.Unlock()
	for i, o := range answers {
		outcomes[positions[i]] = o
		switch ReasonOf(o.Err) {
		case "":
			// Scores that Resource Graph does not have yet are read anew each time.
			delete(g.verdicts, asked[i])
			if len(o.Scores) == 0 {
				g.verdicts[asked[i]] = o
			}
		case ReasonForbidden, ReasonNotFound, ReasonNotRegistered:
			g.verdicts[asked[i]] = o
		case ReasonTimeout, ReasonThrottled:
			// Many verdicts may be due at once, more than there is time for. What ARM said
			// last time holds until they had their turn.
			if verdict, ok := g.verdicts[asked[i]]; ok && time.Since(verdict.StartedAt) < 2*verdictAge {
				outcomes[positions[i]] = verdict
			}
		}
	}
	return outcomes
}

// query returns the rows of the subscriptions that have any.
func (g *ResourceGraph) query(ctx context.Context, ids []string, began *time.Time) (map[string]*graphItems, error) {
	if !g.plain.Load() {
		rows, err := g.pages(ctx, packedQuery, ids, began)
		var e *Error
		if !errors.As(err, &e) || e.status != http.StatusBadRequest || isTooMuch(err) {
			return rows, err
		}
		refused := e
		if rows, err = g.plainPages(ctx, ids, began); err != nil {
			return nil, err
		}
		if g.plain.CompareAndSwap(false, true) {
			level.Warn(g.logger).Log("msg", "Resource Graph refuses the packed query, which costs one query for 1,000 subscriptions; reading plain rows from now on, which cost many", "operation", operationQueryResourceGraph, "err", refused)
		}
		return rows, nil
	}
	return g.plainPages(ctx, ids, began)
}

func (g *ResourceGraph) plainPages(ctx context.Context, ids []string, began *time.Time) (map[string]*graphItems, error) {
	if err := g.plainTurn.Acquire(ctx, 1); err != nil {
		return nil, classify(err)
	}
	defer g.plainTurn.Release(1)
	return g.pages(ctx, plainQuery, ids, began)
}

// pages reads all pages of a query.
func (g *ResourceGraph) pages(ctx context.Context, query string, ids []string, began *time.Time) (map[string]*graphItems, error) {
	type options struct {
		ResultFormat string `json:"resultFormat"`
		Top          int    `json:"$top"`
		SkipToken    string `json:"$skipToken,omitempty"`
	}
	request := struct {
		Query         string   `json:"query"`
		Subscriptions []string `json:"subscriptions"`
		Options       options  `json:"options"`
	}{query, ids, options{ResultFormat: "objectArray", Top: g.pageSize}}

	found := map[string]*graphItems{}
	seen := map[string]bool{}
	rows := 0
	for len(seen) < maxPages {
		seen[request.Options.SkipToken] = true
		body, err := g.ask(ctx, request, began)
		if err != nil {
			return nil, err
		}
		page, err := decodePage(body)
		if err != nil {
			return nil, err
		}
		for _, row := range page.Data {
			id := strings.ToLower(row.SubscriptionID)
			if found[id] == nil {
				found[id] = &graphItems{}
			}
			found[id].add(row)
		}
		rows += len(page.Data)
		switch next := page.SkipToken; {
		case next == "" && strings.EqualFold(page.ResultTruncated, "true"):
			return nil, &Error{Reason: ReasonInvalidResponse, Err: errors.New("the result is truncated"), code: codeResultTruncated}
		case next == "" && rows < page.TotalRecords:
			return nil, invalid(fmt.Sprintf("%d of %d rows came", rows, page.TotalRecords))
		case next == "":
			return found, nil
		case seen[next]:
			return nil, invalid("$skipToken leads back to a page already read")
		default:
			request.Options.SkipToken = next
		}
	}
	return nil, &Error{Reason: ReasonInvalidResponse, Err: fmt.Errorf("more than %d pages", maxPages), code: codeResultTruncated}
}

// ask sends one query within the quota and returns the answer's body. It notes when
// the first one was sent.
func (g *ResourceGraph) ask(ctx context.Context, request any, began *time.Time) ([]byte, error) {
	// What takes a gateway too long is asked for in smaller pieces, and a refusal
	// for the quota is waited out here: azcore does not know Resource Graph's header.
	status := []int{http.StatusRequestTimeout, http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable}
	for {
		if err := g.quota.take(ctx); err != nil {
			return nil, err
		}
		if began.IsZero() {
			*began = time.Now()
		}
		req, err := runtime.NewRequest(policy.WithRetryOptions(ctx, retriesWithin(ctx, status)), http.MethodPost, g.link(resourceGraphPath, resourceGraphAPIVersion))
		if err != nil {
			return nil, classify(err)
		}
		if err := runtime.MarshalAsJSON(req, request); err != nil {
			return nil, classify(err)
		}
		answer, err := g.send(req, operationQueryResourceGraph)
		g.quota.update(answer)
		if ReasonOf(err) != ReasonThrottled {
			return answer.body, err
		}
	}
}

// graphItem is a score or a control in Resource Graph.
type graphItem struct {
	Type          string      `json:"type"`
	ID            string      `json:"id"`
	Name          string      `json:"name"`
	DisplayName   string      `json:"displayName"`
	Score         *scoreOfAPI `json:"score"`
	Weight        float64     `json:"weight"`
	Environment   string      `json:"environment"`
	Healthy       float64     `json:"healthy"`
	Unhealthy     float64     `json:"unhealthy"`
	NotApplicable float64     `json:"notApplicable"`
}

// graphRow is a row of either query: the packed one has items, the plain one is one.
type graphRow struct {
	SubscriptionID string      `json:"subscriptionId"`
	Items          []graphItem `json:"items"`
	graphItem
	err error // in the row
}

// graphAnswer is an answer of Resource Graph.
type graphAnswer[Row any] struct {
	TotalRecords    int    `json:"totalRecords"`
	Data            []Row  `json:"data"`
	ResultTruncated string `json:"resultTruncated"`
	SkipToken       string `json:"$skipToken"`
}

// decodePage decodes an answer. A value of a wrong type is the matter of its row
// alone; to find it costs a second reading, row by row.
func decodePage(body []byte) (page graphAnswer[graphRow], err error) {
	err = decode(body, &page, maxGraphItems)
	if err == nil {
		return page, nil
	}
	var raw graphAnswer[json.RawMessage]
	if decode(body, &raw, maxGraphItems) != nil {
		return page, err
	}
	page = graphAnswer[graphRow]{TotalRecords: raw.TotalRecords, ResultTruncated: raw.ResultTruncated, SkipToken: raw.SkipToken, Data: make([]graphRow, len(raw.Data))}
	for i := range raw.Data {
		page.Data[i].err = decode(raw.Data[i], &page.Data[i], maxGraphItems)
	}
	return page, nil
}

// graphItems are what the rows say of a subscription, in the shape of ARM's lists.
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

func (items *graphItems) read() ([]Score, []Control, error) {
	if items.err != nil {
		return nil, nil, items.err
	}
	s, err := scores(items.scores)
	if err != nil {
		return nil, nil, err
	}
	c, err := controls(items.controls)
	return s, c, err
}

// graphQuota keeps the queries of the process within Resource Graph's quota, which
// is counted for the identity in windows of some seconds.
type graphQuota struct {
	mu        sync.Mutex
	remaining int       // in this window
	resets    time.Time // the end of this window
}

// The published quota, used for as long as Azure has not told of a smaller one.
const (
	graphQuotaQueries = 15
	graphQuotaWindow  = 5 * time.Second
	maxQuotaWait      = time.Minute // is believed of a window's end
)

// take takes one query from the quota, waiting for the next window if it must and
// if that comes before ctx's deadline. Otherwise the reason is throttled, at once.
func (q *graphQuota) take(ctx context.Context) error {
	for {
		wait := q.tryTake(time.Now())
		if wait <= 0 {
			return nil
		}
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= wait {
			return &Error{Reason: ReasonThrottled, Err: fmt.Errorf("the quota of Resource Graph resets in %s, after the deadline", wait.Round(time.Millisecond))}
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return classify(ctx.Err())
		}
	}
}

// tryTake takes a query if there is one left, or says how long to wait.
func (q *graphQuota) tryTake(now time.Time) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !now.Before(q.resets) {
		q.remaining, q.resets = graphQuotaQueries, now.Add(graphQuotaWindow)
	}
	if q.remaining > 0 {
		q.remaining--
		return 0
	}
	return q.resets.Sub(now)
}

// update takes over what Azure says. It never says more than is known here: other
// queries may be under way that Azure has not counted yet.
func (q *graphQuota) update(a answer) {
	now := time.Now()
	remaining, err := strconv.Atoi(a.header.Get("x-ms-user-quota-remaining"))
	if err != nil {
		remaining = graphQuotaQueries
	}
	resets, known := quotaResetsAfter(a.header, a.status)
	resets = min(resets, maxQuotaWait)
	if a.status == http.StatusTooManyRequests {
		remaining = 0
		if !known || resets <= 0 {
			resets, known = graphQuotaWindow, true
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.remaining = min(q.remaining, max(remaining, 0))
	if known {
		q.resets = now.Add(resets)
	}
}

// quotaResetsAfter reads x-ms-user-quota-resets-after (hh:mm:ss) or Retry-After
// (seconds), which other refusals have for reasons of their own. The first may have
// lost a part of a second, without which the last queries of a window would be refused.
func quotaResetsAfter(h http.Header, status int) (time.Duration, bool) {
	if clock, err := time.Parse("15:04:05", h.Get("x-ms-user-quota-resets-after")); err == nil {
		return time.Duration(clock.Hour())*time.Hour + time.Duration(clock.Minute())*time.Minute + time.Duration(clock.Second()+1)*time.Second, true
	}
	if seconds, err := strconv.Atoi(h.Get("Retry-After")); err == nil && seconds >= 0 && status == http.StatusTooManyRequests {
		return time.Duration(seconds) * time.Second, true
	}
	return 0, false
}
