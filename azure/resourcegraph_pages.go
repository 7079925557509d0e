package azure

import (
	"context"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	maxGraphBody  = 17 << 20 // bytes; Resource Graph's own limit is 16 MiB
	maxGraphRow   = 4 << 20  // bytes; a packed row of a subscription is some 10 KiB
	maxGraphItems = 300_000  // rows of a query and the items packed into them
	maxGraphPages = 200      // of a query
	graphPageSize = 1000     // rows of a response
)

// graphRequest is the body of a request. Without subscriptions, a query covers all that the
// identity sees.
type graphRequest struct {
	Query         string       `json:"query"`
	Subscriptions []string     `json:"subscriptions,omitempty"`
	Options       graphOptions `json:"options"`
}

type graphOptions struct {
	ResultFormat string `json:"resultFormat"`
	Top          int    `json:"$top"`
	SkipToken    string `json:"$skipToken,omitempty"`
}

// readPages reads all pages of a query. It parses row by row and calls add with the rows of each
// complete page. It also returns the time of the first attempt, which is zero if none was sent.
func readPages[Row any](ctx context.Context, g *ResourceGraph, query string, ids []string, parse func(jsontext.Value) Row, add func([]Row) error) (startedAt time.Time, err error) {
	request := graphRequest{query, ids, graphOptions{ResultFormat: "objectArray", Top: g.pageSize}}
	seen := map[string]bool{}
	rows, items := 0, 0
	for len(seen) < maxGraphPages {
		seen[request.Options.SkipToken] = true
		var page *graphPage[Row]
		header, sentAt, err := g.post(ctx, request, func(body io.Reader) (err error) {
			page, err = readGraphPage(body, parse)
			return err
		})
		if startedAt.IsZero() {
			startedAt = sentAt
		}
		if err != nil {
			return startedAt, err
		}
		rows += len(page.Data.rows)
		items += page.Data.items
		next := page.SkipToken
		switch {
		case strings.EqualFold(header.Get("x-ms-tenant-subscription-limit-hit"), "true"):
			return startedAt, invalidBecause(causeTruncated, "the identity sees more subscriptions than a query covers")
		case items > maxGraphItems:
			return startedAt, invalidBecause(causeTooLarge, "more than %d items", maxGraphItems)
		case next == "" && strings.EqualFold(page.ResultTruncated, "true"):
			return startedAt, invalidBecause(causeTruncated, "the result is truncated")
		case next == "" && rows < page.TotalRecords:
			return startedAt, invalidBecause(causeTruncated, "%d of %d rows came", rows, page.TotalRecords)
		case next != "" && seen[next]:
			return startedAt, invalidResponse("$skipToken leads back to a page already read")
		}
		if err := add(page.Data.rows); err != nil || next == "" {
			return startedAt, err
		}
		request.Options.SkipToken = next
	}
	return startedAt, invalidBecause(causeTruncated, "more than %d pages", maxGraphPages)
}

// post sends a query within the quota; read gets the body of the response. It returns the header
// and the time of the first attempt, which is zero if none was sent.
func (g *ResourceGraph) post(ctx context.Context, request graphRequest, read func(io.Reader) error) (header http.Header, sentAt time.Time, err error) {
	// Without 429, which is handled here because azcore does not know Resource Graph's quota headers,
	// and without 504, after which a smaller query may succeed.
	retries := withRetries(ctx, []int{http.StatusRequestTimeout, http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable})
	for {
		req, err := g.newGraphRequest(retries, request)
		if err != nil {
			return nil, sentAt, err
		}
		if err := g.quota.wait(ctx); err != nil {
			return nil, sentAt, err
		}
		if sentAt.IsZero() {
			sentAt = g.now()
		}
		resp, err := g.stream(req, operationQueryResourceGraph, read)
		throttled := ReasonOf(err) == ReasonThrottled
		g.quota.update(resp.header, throttled)
		if !throttled {
			return resp.header, sentAt, err
		}
	}
}

func (c *Client) newGraphRequest(ctx context.Context, body graphRequest) (*policy.Request, error) {
	req, err := runtime.NewRequest(ctx, http.MethodPost, c.url(resourceGraphPath, resourceGraphAPIVersion))
	if err == nil {
		err = runtime.MarshalAsJSON(req, body)
	}
	if err != nil {
		return nil, classify(err)
	}
	return req, nil
}
