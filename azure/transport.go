package azure

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"golang.org/x/sync/semaphore"
)

// The operations that a [Request] may have; they become label values.
const (
	operationGetToken                = "get_token"
	operationListSubscriptions       = "list_subscriptions"
	operationListSecureScores        = "list_secure_scores"
	operationListSecureScoreControls = "list_secure_score_controls"
	operationQueryResourceGraph      = "query_resource_graph"
)

// Operations are the names of all calls that a [Client] makes.
var Operations = []string{operationGetToken, operationListSubscriptions, operationListSecureScores, operationListSecureScoreControls, operationQueryResourceGraph}

// Request tells of one HTTP call to Azure.
type Request struct {
	// Operation is one of [Operations].
	Operation string
	// Code is the HTTP status, or "error" when no complete answer came.
	Code string
	// Duration is from sending the request to the end of the answer's body. The
	// wait for a free place among the calls in flight is not in it.
	Duration time.Duration
	// QuotaRemaining holds what Azure's x-ms-ratelimit-remaining-* headers say is
	// left of its limits, by the rest of the header's name in lower case; and by
	// user-quota what x-ms-user-quota-remaining says is left of Resource Graph's.
	QuotaRemaining map[string]float64
}

// callOperation carries the operation of a request to callPolicy.
type callOperation string

// callPolicy stands where every attempt of a request passes: it holds an attempt
// back while too many are in flight, and tells of it when it is over.
type callPolicy struct {
	operation string              // of requests that carry none
	observe   func(Request)          // may be nil
	inFlight  *semaphore.Weighted // nil: any number; serves in the order of arrival
}

func newCallPolicy(observe func(Request), concurrency int) *callPolicy {
	return &callPolicy{observe: observe, inFlight: semaphore.NewWeighted(int64(concurrency))}
}

// Do implements [policy.Policy].
func (p *callPolicy) Do(req *policy.Request) (*http.Response, error) {
	if p.inFlight != nil {
		if err := p.inFlight.Acquire(req.Raw().Context(), 1); err != nil {
			return nil, err
		}
		defer p.inFlight.Release(1)
	}
	if p.observe == nil {
		return req.Next()
	}
	operation := callOperation(p.operation)
	req.OperationValue(&operation)
	began := time.Now()
	resp, err := req.Next()
	call := Request{Operation: string(operation), Code: "error", Duration: time.Since(began)}
	if err == nil {
		call.Code = strconv.Itoa(resp.StatusCode)
		call.QuotaRemaining = quotaRemaining(resp.Header)
	}
	p.observe(call)
	return resp, err
}

// maxQuotas bounds how many limits one answer can name: they become label values.
const maxQuotas = 10

func quotaRemaining(header http.Header) map[string]float64 {
	var quota map[string]float64
	for key, values := range header {
		limit, ok := strings.CutPrefix(strings.ToLower(key), "x-ms-ratelimit-remaining-")
		if strings.EqualFold(key, "x-ms-user-quota-remaining") { // Resource Graph's
			limit, ok = "user-quota", true
		}
		if !ok || len(limit) > 64 || len(quota) == maxQuotas {
			continue
		}
		// Some providers send a list of limits here, which is not a number.
		remaining, err := strconv.Atoi(values[0])
		if err != nil || remaining < 0 {
			continue
		}
		if quota == nil {
			quota = map[string]float64{}
		}
		quota[limit] = float64(remaining)
	}
	return quota
}

// newHTTPClient makes the one client for ARM and the token endpoint.
func newHTTPClient(rootCAs *x509.CertPool, concurrency int) *http.Client {
	return &http.Client{
		Transport: boundedTransport{
			largeScores: semaphore.NewWeighted(1), largeGraph: semaphore.NewWeighted(graphParallel), large: semaphore.NewWeighted(1),
			Transport: &http.Transport{
				Proxy:               http.ProxyFromEnvironment,
				DialContext:         (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
				TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: rootCAs},
				TLSHandshakeTimeout: 10 * time.Second,
				ForceAttemptHTTP2:   true,
				HTTP2: &http.HTTP2Config{
					// A connection that a firewall dropped silently between two scrapes is
					// noticed by a ping instead of by a scrape that times out.
					SendPingTimeout: 15 * time.Second, PingTimeout: 5 * time.Second,
					// The default lets each answer that is not read yet take 4 MiB. (A limit
					// for all together would let those that wait hold up the others.)
					MaxReceiveBufferPerStream: largeBody,
				},
				MaxIdleConns:           concurrency + 2,
				MaxIdleConnsPerHost:    concurrency,
				IdleConnTimeout:        90 * time.Second,
				MaxResponseHeaderBytes: 64 << 10,
			},
		},
	}
}

// largeBody is more than a real list of scores or controls has (some 20 KiB). Larger
// ones are read one at a time, for neither a hostile one nor a tenant full of them
// must fill the memory. Resource Graph's answers are large, and few. The list of
// subscriptions does not wait for either, of which one may stand still.
const largeBody = 1 << 18

// boundedTransport limits what is read of a body, for ARM and the token endpoint
// alike: azcore reads bodies whole. It also hides where a redirect leads.
type boundedTransport struct {
	*http.Transport
	largeScores, largeGraph, large *semaphore.Weighted
}

// RoundTrip implements [http.RoundTripper].
func (t boundedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.Transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	limit, large := int64(maxBody), t.large
	switch {
	case strings.HasSuffix(req.URL.Path, resourceGraphPath):
		limit, large = maxGraphBody, t.largeGraph
	case strings.Contains(req.URL.Path, "/providers/Microsoft.Security/"):
		large = t.largeScores
	}
	if resp.ContentLength > limit {
		resp.Body.Close()
		return nil, &http.MaxBytesError{Limit: limit}
	}
	// Neither ARM nor the token endpoint redirects, and following one could carry
	// the token elsewhere. Refusing it in CheckRedirect would be too late: by then
	// [http.Client] has rewound the request's body, which HTTP/2 may still be sending.
	resp.Header.Del("Location")
	resp.Body = &boundedBody{ReadCloser: http.MaxBytesReader(nil, resp.Body, limit), request: req, large: large}
	return resp, nil
}

// boundedBody waits for its turn once it turns out to be large.
type boundedBody struct {
	io.ReadCloser
	request *http.Request
	large   *semaphore.Weighted
	read    int
	turn    bool
}

// Read implements [io.Reader].
func (b *boundedBody) Read(p []byte) (int, error) {
	if b.read > largeBody && !b.turn {
		if err := b.large.Acquire(b.request.Context(), 1); err != nil {
			return 0, err
		}
		b.turn = true
	}
	n, err := b.ReadCloser.Read(p)
	b.read += n
	return n, err
}

// Close implements [io.Closer].
func (b *boundedBody) Close() error {
	if b.turn {
		b.large.Release(1)
		b.turn = false
	}
	return b.ReadCloser.Close()
}
