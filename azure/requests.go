package azure

import (
	"net/http"
	"strconv"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// The operations of a [Request]; they become label values.
const (
	operationGetToken                = "get_token"
	operationListSubscriptions       = "list_subscriptions"
	operationListSecureScores        = "list_secure_scores"
	operationListSecureScoreControls = "list_secure_score_controls"
	operationQueryResourceGraph      = "query_resource_graph"
)

// Operations are all operations of a [Client].
var Operations = []string{operationGetToken, operationListSubscriptions, operationListSecureScores, operationListSecureScoreControls, operationQueryResourceGraph}

// Request describes one HTTP request to Azure.
type Request struct {
	// Operation is one of [Operations].
	Operation string
	// Code is the HTTP status, or "error" without a complete response.
	Code string
	// Duration is from sending the request to the end of the response body, without the wait for a
	// free slot among the concurrent requests.
	Duration time.Duration
	// QuotaRemaining holds what Azure reports of its limits, in requests, by the names of a closed
	// set: the rest of the documented x-ms-ratelimit-remaining-* headers, and user-quota of Resource
	// Graph's x-ms-user-quota-remaining.
	QuotaRemaining map[string]float64
}

// limitPolicy limits the concurrent attempts to its capacity. Waiting ones are served in the order
// of arrival.
type limitPolicy chan struct{}

// Do implements [policy.Policy].
func (p limitPolicy) Do(req *policy.Request) (*http.Response, error) {
	select {
	case p <- struct{}{}:
		defer func() { <-p }()
		return req.Next()
	case <-req.Raw().Context().Done():
		return nil, req.Raw().Context().Err()
	}
}

// requestOperation carries the operation of a request to metricsPolicy.
type requestOperation string

// metricsPolicy reports each attempt.
type metricsPolicy struct {
	operation requestOperation // of requests that carry none
	observe   func(Request)    // may be nil
}

// Do implements [policy.Policy].
func (p metricsPolicy) Do(req *policy.Request) (*http.Response, error) {
	start := time.Now()
	resp, err := req.Next()
	if p.observe == nil {
		return resp, err
	}
	operation := p.operation
	req.OperationValue(&operation)
	request := Request{Operation: string(operation), Code: "error", Duration: time.Since(start)}
	if err == nil {
		request.Code = strconv.Itoa(resp.StatusCode)
		request.QuotaRemaining = quotaRemaining(resp.Header)
	}
	p.observe(request)
	return resp, err
}

// quotaLimits are the limits that Azure documents, by the header that reports what remains of them.
// They become label values.
var quotaLimits = func() map[string]string {
	limits := map[string]string{http.CanonicalHeaderKey("x-ms-user-quota-remaining"): "user-quota"}
	for _, limit := range []string{
		"subscription-reads", "subscription-global-reads", "subscription-writes", "subscription-global-writes",
		"subscription-resource-requests", "subscription-resource-entities-read",
		"tenant-reads", "tenant-global-reads", "tenant-writes", "tenant-global-writes",
		"tenant-resource-requests", "tenant-resource-entities-read",
	} {
		limits[http.CanonicalHeaderKey("x-ms-ratelimit-remaining-"+limit)] = limit
	}
	return limits
}()

func quotaRemaining(header http.Header) map[string]float64 {
	quota := map[string]float64{}
	for key := range header {
		limit, known := quotaLimits[key]
		if !known {
			continue
		}
		if remaining, err := strconv.Atoi(header.Get(key)); err == nil && remaining >= 0 {
			quota[limit] = float64(remaining)
		}
	}
	return quota
}
