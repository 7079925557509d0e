package azure

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/semaphore"
)

// newTransport creates the one transport for ARM and the token endpoint.
func newTransport(rootCAs *x509.CertPool, concurrency int) *limitedTransport {
	return &limitedTransport{
		large:       semaphore.NewWeighted(1),
		largeScores: semaphore.NewWeighted(1),
		largeGraph:  semaphore.NewWeighted(graphParallel),
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: rootCAs},
			TLSHandshakeTimeout: 10 * time.Second,
			ForceAttemptHTTP2:   true,
			HTTP2: &http.HTTP2Config{
				// A ping detects a connection that a firewall silently dropped between two
				// scrapes; otherwise a scrape would time out on it.
				SendPingTimeout: 15 * time.Second, PingTimeout: 5 * time.Second,
				// By default each unread response may buffer 4 MiB. (A limit for all streams
				// together would let the waiting ones block the others.)
				MaxReceiveBufferPerStream: largeBody,
			},
			MaxIdleConns:           concurrency + 2,
			MaxIdleConnsPerHost:    concurrency,
			IdleConnTimeout:        90 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
		},
	}
}

// largeBody is more than a real list of scores or controls has, which is some 20 KiB. Larger bodies
// take turns, so that a tenant full of them cannot fill the memory. Each kind takes them
// separately: a stalled score list must not block the list of subscriptions.
const largeBody = 1 << 18

// limitedTransport bounds response bodies, from ARM and from the token endpoint, because azcore
// reads them whole. Unlike [http.Client] it follows no redirect: neither of them redirects, and
// another host could get the token.
type limitedTransport struct {
	*http.Transport
	large, largeScores, largeGraph *semaphore.Weighted
}

// Do implements [policy.Transporter].
func (t *limitedTransport) Do(req *http.Request) (*http.Response, error) {
	resp, err := t.RoundTrip(req)
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
	resp.Body = &limitedBody{ReadCloser: http.MaxBytesReader(nil, resp.Body, limit), request: req, large: large}
	return resp, nil
}

// limitedBody waits for its turn once it proves large.
type limitedBody struct {
	io.ReadCloser
	request *http.Request
	large   *semaphore.Weighted
	size    int
	holding bool
}

// Read implements [io.Reader].
func (b *limitedBody) Read(p []byte) (int, error) {
	if b.size > largeBody && !b.holding {
		if err := b.large.Acquire(b.request.Context(), 1); err != nil {
			return 0, err
		}
		b.holding = true
	}
	n, err := b.ReadCloser.Read(p)
	b.size += n
	return n, err
}

// Close implements [io.Closer].
func (b *limitedBody) Close() error {
	if b.holding {
		b.large.Release(1)
		b.holding = false
	}
	return b.ReadCloser.Close()
}
