package azure

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
)

// queryForm is a form of the query, from the best to the most widely supported. A form that Azure
// refuses with 400 is replaced by the next one that it accepts. The plain form costs many requests,
// so after an hour the best one is tried again.
type queryForm int

const (
	formBagPack queryForm = iota
	formPack
	formPlain
)

// retryFormAfter is how long the plain form is used before a better one is tried again.
const retryFormAfter = time.Hour

const (
	graphScores = `securityresources | where type in~ ('microsoft.security/securescores','microsoft.security/securescores/securescorecontrols')`

	// packedQuery returns one row per subscription, which holds its scores and controls, so that a
	// batch is one page and costs one request of a small quota.
	packedQuery = graphScores + ` | summarize items = make_list(bag_pack('type', type, 'id', id, 'name', name, 'displayName', properties.displayName, 'score', properties.score, 'weight', properties.weight, 'environment', properties.environment, 'healthy', properties.healthyResourceCount, 'unhealthy', properties.unhealthyResourceCount, 'notApplicable', properties.notApplicableResourceCount)) by subscriptionId`

	// plainQuery returns one row per score and control. Resource Graph pages a result that has a
	// column id; the order keeps the pages from overlapping.
	plainQuery = graphScores + ` | project id, name, type, subscriptionId, displayName = properties.displayName, score = properties.score, weight = properties.weight, environment = properties.environment, healthy = properties.healthyResourceCount, unhealthy = properties.unhealthyResourceCount, notApplicable = properties.notApplicableResourceCount | order by id asc`
)

func (f queryForm) query() string {
	switch f {
	case formBagPack:
		return packedQuery
	case formPack: // the older name of the same function
		return strings.Replace(packedQuery, "bag_pack(", "pack(", 1)
	}
	return plainQuery
}

func (f queryForm) String() string {
	return [...]string{"bag_pack, one request per 1,000 subscriptions", "pack, one request per 1,000 subscriptions", "plain rows, many requests per 1,000 subscriptions"}[f]
}

// query returns the rows of the subscriptions, in the best form that Azure accepts.
func (g *ResourceGraph) query(ctx context.Context, ids []string) (graphAnswer, error) {
	first := g.form.best(g.now())
	var startedAt time.Time
	for form := first; ; form++ {
		answer, err := g.queryAs(ctx, form, ids)
		if startedAt.IsZero() {
			startedAt = answer.startedAt
		}
		answer.startedAt = startedAt
		switch {
		case err == nil:
			g.form.accepted(form, g.logger)
			return answer, nil
		case !formRefused(err):
			return answer, err
		case form == formPlain:
			g.form.allRefused(first)
			return answer, err
		}
		g.form.refused(form, err, g.now())
	}
}

// formRefused reports whether another form of the query may succeed.
func formRefused(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.status == http.StatusBadRequest && e.Reason == ReasonInvalidResponse && !resultTooLarge(err) && !unreadable(err)
}

// formChoice is the form in use. A refused form is skipped at once, so that concurrent batches do not
// spend the quota on it, but logged only once another form is accepted.
type formChoice struct {
	mu      sync.Mutex
	form    queryForm
	since   time.Time // when it was chosen, or a better one last tried
	refusal error     // of the form before it
	logged  queryForm
}

// best returns the form to use. Once an hour one query tries the best one instead of the plain one.
func (c *formChoice) best(now time.Time) queryForm {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.form == formPlain && now.Sub(c.since) >= retryFormAfter {
		c.since = now
		return formBagPack
	}
	return c.form
}

func (c *formChoice) refused(form queryForm, err error, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if form >= c.form {
		c.form, c.since, c.refusal = form+1, now, err
	}
}

// allRefused forgets the refusals: the form is not the reason for them.
func (c *formChoice) allRefused(first queryForm) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.form = first
}

func (c *formChoice) accepted(form queryForm, logger log.Logger) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.form = min(c.form, form)
	switch {
	case form != c.form || form == c.logged: // a slower query, or nothing new
		return
	case form < c.logged:
		level.Info(logger).Log("msg", "Resource Graph accepts a better form of the query again", "operation", operationQueryResourceGraph, "form", form)
	default:
		level.Warn(logger).Log("msg", "Resource Graph refuses the best form of the query; using another one from now on", "operation", operationQueryResourceGraph, "form", form, "err", c.refusal)
	}
	c.logged = form
}

func (g *ResourceGraph) queryAs(ctx context.Context, form queryForm, ids []string) (graphAnswer, error) {
	if form == formPlain {
		if err := g.plainSlot.Acquire(ctx, 1); err != nil {
			return graphAnswer{}, classify(err)
		}
		defer g.plainSlot.Release(1)
	}
	return g.readPages(ctx, form.query(), ids)
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
	for len(seen) < maxGraphPages {
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
		if err := answer.add(page.rows); err != nil {
			return answer, err
		}
		rows += len(page.rows)
		switch next := page.skipToken; {
		case next == "" && page.truncated:
			return answer, invalidBecause(causeTruncated, "the result is truncated")
		case next == "" && rows < page.totalRecords:
			return answer, invalidResponse("%d of %d rows came", rows, page.totalRecords)
		case next == "":
			return answer, nil
		case seen[next]:
			return answer, invalidResponse("$skipToken leads back to a page already read")
		default:
			request.Options.SkipToken = next
		}
	}
	return answer, invalidBecause(causeTruncated, "more than %d pages", maxGraphPages)
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
		throttled := ReasonOf(err) == ReasonThrottled
		g.quota.update(resp.header, throttled)
		if !throttled {
			return resp.body, sentAt, err
		}
	}
}
