package azure

import (
	"context"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"strings"
	"sync"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// tokenTrace records the HTTP requests of one token request. azidentity's errors quote responses,
// lose the causes of failures, and differ between credentials.
type tokenTrace struct {
	mu       sync.Mutex
	exchange exchange
}

type tokenTraceKey struct{}

// exchange is an HTTP request of a credential and its outcome. The zero value means that there was
// none.
type exchange struct {
	host            string
	managedIdentity bool // sent to the endpoint of managed identities, not to Entra ID
	proxied         bool
	metadata        bool // about Entra ID's endpoints, not for a token
	done            bool

	err       error // instead of a response
	status    int
	mediaType string
	isJSON    bool
	code      string // AADSTS and a number, or ""
}

func (t *tokenTrace) last() exchange {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.exchange
}

func (t *tokenTrace) set(x exchange) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.exchange = x
}

// tracePolicy records each attempt of a credential's request in the [tokenTrace] of its context.
type tracePolicy struct{}

// Do implements [policy.Policy].
func (tracePolicy) Do(req *policy.Request) (*http.Response, error) {
	trace, ok := req.Raw().Context().Value(tokenTraceKey{}).(*tokenTrace)
	if !ok {
		return req.Next()
	}
	x := newExchange(req.Raw())
	trace.set(x)
	resp, err := req.Next()
	// A request that the deadline cut off stays unfinished.
	if err == nil || !errors.Is(req.Raw().Context().Err(), context.DeadlineExceeded) {
		x.finish(resp, err)
		trace.set(x)
	}
	return resp, err
}

func newExchange(req *http.Request) exchange {
	x := exchange{host: req.URL.Host, metadata: strings.Contains(req.URL.Path, "/.well-known/") || strings.Contains(req.URL.Path, "/discovery/")}
	proxy, err := http.ProxyFromEnvironment(req)
	x.proxied = proxy != nil || err != nil
	x.managedIdentity = req.URL.Hostname() == "169.254.169.254"
	for _, header := range []string{"Metadata", "X-IDENTITY-HEADER", "Secret"} {
		x.managedIdentity = x.managedIdentity || req.Header.Get(header) != ""
	}
	return x
}

func (x *exchange) finish(resp *http.Response, err error) {
	x.done = true
	if err != nil {
		x.err = err
		return
	}
	x.status = resp.StatusCode
	if mediaType, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err == nil {
		x.mediaType = mediaType
	}
	body, err := runtime.Payload(resp) // was read and stays readable
	if err == nil {
		x.isJSON = json.Valid(body)
		x.code = string(aadstsCode.Find(body))
	}
}
