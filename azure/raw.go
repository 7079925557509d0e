package azure

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// Queries are the queries of [ResourceGraph] for scores and controls, by form.
var Queries = map[string]string{
	"bag_pack": formBagPack.text(packedScores, plainScores),
	"pack":     formPack.text(packedScores, plainScores),
	"plain":    formPlain.text(packedScores, plainScores),
}

// RawResponse is an HTTP response as Azure sent it, for diagnosis. Its status is not interpreted,
// and its body is bounded like every other but may hold anything.
type RawResponse struct {
	Status int
	Header http.Header
	Body   []byte
}

// Get requests a path of ARM with its query, such as /subscriptions?api-version=2022-12-01. The
// target cannot name another host, so that the token stays with ARM. The error has a [Reason] and
// means that there was no response. [Config.Observe] sees the operation list_subscriptions.
func (c *Client) Get(ctx context.Context, target string) (RawResponse, error) {
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || !strings.HasPrefix(u.Path, "/") {
		return RawResponse{}, fmt.Errorf("request ARM: %w", invalidResponse("the target is not a path"))
	}
	address := c.endpoint.JoinPath(u.EscapedPath())
	address.RawQuery = u.RawQuery
	req, err := runtime.NewRequest(withRetries(ctx, transientStatus), http.MethodGet, address.String())
	if err != nil {
		return RawResponse{}, fmt.Errorf("request ARM: %w", classify(err))
	}
	return c.doRaw(req, operationListSubscriptions)
}

// QueryResourceGraph runs a query for one page of up to top rows. No subscription means all that
// the identity can read. The error is like that of [Client.Get].
func (c *Client) QueryResourceGraph(ctx context.Context, query string, subscriptionIDs []string, top int, skipToken string) (RawResponse, error) {
	// Without 429, which a retry within seconds repeats.
	retries := withRetries(ctx, []int{http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable})
	options := graphOptions{ResultFormat: "objectArray", Top: top, SkipToken: skipToken}
	req, err := c.newGraphRequest(retries, graphRequest{query, subscriptionIDs, options})
	if err != nil {
		return RawResponse{}, fmt.Errorf("query Resource Graph: %w", err)
	}
	return c.doRaw(req, operationQueryResourceGraph)
}

func (c *Client) doRaw(req *policy.Request, operation string) (RawResponse, error) {
	resp, err := c.do(req, operation)
	if resp.status != 0 {
		return RawResponse{resp.status, resp.header, resp.body}, nil
	}
	return RawResponse{}, err
}
