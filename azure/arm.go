package azure

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// A scrape has seconds: azcore's defaults would spend 9.9 s on four attempts.
const (
	maxRetries    = 2
	retryDelay    = 250 * time.Millisecond
	maxRetryDelay = 2 * time.Second
)

// listAll reads all pages of an ARM list. Every failure is an [*Error].
func listAll[T any](ctx context.Context, c *Client, operation, path, apiVersion string) ([]T, error) {
	link := c.url(path, apiVersion)
	var items []T
	size := 0
	seen := map[string]bool{}
	for len(seen) < maxPages {
		seen[link] = true
		var page struct {
			Value    []T    `json:"value"`
			NextLink string `json:"nextLink"`
		}
		n, err := c.getJSON(ctx, operation, link, &page)
		if err != nil {
			return nil, err
		}
		if size += n; size > maxListBytes {
			return nil, invalidResponse("more than %d bytes", maxListBytes)
		}
		if len(items)+len(page.Value) > maxItems {
			return nil, invalidResponse("more than %d items", maxItems)
		}
		items = append(items, page.Value...)
		if page.NextLink == "" {
			return items, nil
		}
		if link, err = sameHost(c.endpoint, page.NextLink); err != nil {
			return nil, err
		}
		if seen[link] {
			return nil, invalidResponse("nextLink leads back to a page already read")
		}
	}
	return nil, invalidResponse("more than %d pages", maxPages)
}

// sameHost returns nextLink, ready to be requested. It fails unless nextLink is an https address on
// the endpoint's host and port: the request will carry the bearer token.
func sameHost(endpoint *url.URL, nextLink string) (string, error) {
	encoded, err := runtime.EncodeQueryParams(nextLink)
	if err != nil {
		return "", invalidResponse("nextLink is no URL")
	}
	u, err := url.Parse(encoded)
	switch {
	case err != nil:
		return "", invalidResponse("nextLink is no URL")
	case u.Scheme != "https":
		return "", invalidResponse("nextLink is not https")
	case u.User != nil || !strings.EqualFold(u.Hostname(), endpoint.Hostname()) || port(u) != port(endpoint):
		return "", invalidResponse("nextLink leads to another host")
	}
	return u.String(), nil
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	return "443"
}

// url returns the address of an ARM path.
func (c *Client) url(path, apiVersion string) string {
	u := c.endpoint.JoinPath(path)
	u.RawQuery = url.Values{"api-version": {apiVersion}}.Encode()
	return u.String()
}

// getJSON reads one JSON document and returns its size in bytes. Every failure is an [*Error].
func (c *Client) getJSON(ctx context.Context, operation, link string, into any) (size int, err error) {
	req, err := runtime.NewRequest(withRetries(ctx, transientStatus), http.MethodGet, link)
	if err != nil {
		return 0, &Error{Reason: ReasonInvalidResponse, Err: summarize(err)}
	}
	resp, err := c.do(req, operation)
	if err != nil {
		return 0, err
	}
	return len(resp.body), decode(resp.body, into, maxItems)
}

// response is an HTTP response whose body has been read.
type response struct {
	status int // 0 if there was no response
	header http.Header
	body   []byte
}

// do sends a request and reads the response. Every failure is an [*Error]; a response other than 200
// is returned beside it.
func (c *Client) do(req *policy.Request, operation string) (response, error) {
	req.Raw().Header.Set("Accept", "application/json")
	req.SetOperationValue(requestOperation(operation))
	httpResponse, err := c.pipeline.Do(req)
	if err != nil {
		e := classify(err)
		if httpResponse != nil {
			httpResponse.Body.Close()
			// azcore could not parse the challenge, and its error quotes it.
			if httpResponse.StatusCode == http.StatusUnauthorized && e.Reason == ReasonNetwork {
				e = classifyStatus(httpResponse.StatusCode, nil)
			}
		}
		return response{}, e
	}
	body, err := runtime.Payload(httpResponse)
	if err != nil {
		return response{}, classify(err)
	}
	resp := response{httpResponse.StatusCode, httpResponse.Header, body}
	if resp.status != http.StatusOK {
		return resp, classifyStatus(resp.status, body)
	}
	return resp, nil
}

// transientStatus are the statuses after which a retry may succeed.
var transientStatus = []int{
	http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
	http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
}

// withRetries allows retries after a broken connection and after these statuses, while the longest
// wait for one fits the deadline of ctx. Otherwise azcore would sleep until the deadline, and a
// throttled request would look like a slow one.
func withRetries(ctx context.Context, statuses []int) context.Context {
	return policy.WithRetryOptions(ctx, policy.RetryOptions{
		MaxRetries: maxRetries, RetryDelay: retryDelay, MaxRetryDelay: maxRetryDelay,
		ShouldRetry: func(resp *http.Response, err error) bool {
			if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= maxRetryDelay {
				return false
			}
			if err != nil {
				return classify(err).Reason == ReasonNetwork
			}
			return runtime.HasStatusCode(resp, statuses...)
		},
	})
}
