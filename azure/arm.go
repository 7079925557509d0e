package azure

import (
	"context"
	"io"
	"net/http"
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

// url returns the address of an ARM path, which starts with a slash.
func (c *Client) url(path, apiVersion string) string {
	return c.endpoint.String() + path + "?api-version=" + apiVersion
}

// get reads one JSON document. Every failure is an [*Error].
func (c *Client) get(ctx context.Context, operation, link string) (body []byte, err error) {
	req, err := runtime.NewRequest(withRetries(ctx, transientStatus), http.MethodGet, link)
	if err != nil {
		return nil, invalidResponse("%w", summarize(err))
	}
	resp, err := c.do(req, operation)
	return resp.body, err
}

// response is an HTTP response whose body has been read.
type response struct {
	status int // 0 if there was no complete response
	header http.Header
	body   []byte
}

// do sends a request and reads the response. Every failure is an [*Error]; a response other than
// 200 is returned beside it.
func (c *Client) do(req *policy.Request, operation string) (response, error) {
	req.Raw().Header.Set("Accept", "application/json")
	req.SetOperationValue(requestOperation(operation))
	httpResponse, err := c.pipeline.Do(req)
	if err != nil {
		if failure := (tokenFailure{}); req.OperationValue(&failure) && failure.err != nil {
			err = failure.err
		}
		e := classify(err)
		if httpResponse == nil {
			return response{}, e
		}
		httpResponse.Body.Close()
		// azcore could not parse the challenge, and its error quotes it.
		if httpResponse.StatusCode == http.StatusUnauthorized && e.Reason == ReasonNetwork {
			e = classifyResponse(response{status: httpResponse.StatusCode, header: httpResponse.Header})
		}
		return response{header: httpResponse.Header}, e
	}
	body, err := runtime.Payload(httpResponse)
	if err != nil {
		return response{}, classify(err)
	}
	resp := response{httpResponse.StatusCode, httpResponse.Header, body}
	if resp.status != http.StatusOK {
		return resp, classifyResponse(resp)
	}
	return resp, nil
}

// stream is like do, but read gets the body of a 200 while it arrives, once for each attempt.
func (c *Client) stream(req *policy.Request, operation string, read func(io.Reader) error) (response, error) {
	runtime.SkipBodyDownload(req)
	req.SetOperationValue(bodyReader(read))
	return c.do(req, operation)
}

// bodyReader carries the reader of a body to streamPolicy.
type bodyReader func(io.Reader) error

// streamPolicy reads a body within the attempt, so that the other policies see its end.
type streamPolicy struct{}

// Do implements [policy.Policy].
func (streamPolicy) Do(req *policy.Request) (*http.Response, error) {
	resp, err := req.Next()
	var read bodyReader
	if err != nil || resp.StatusCode != http.StatusOK || !req.OperationValue(&read) {
		return resp, err
	}
	defer resp.Body.Close()
	err = read(resp.Body)
	resp.Body = http.NoBody
	return resp, err
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
