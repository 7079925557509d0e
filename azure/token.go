package azure

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

const (
	// tokenTimeout bounds one token request, whoever waits for it. It is longer than most scrapes: a
	// token that comes too late for one scrape still serves the next.
	tokenTimeout = 30 * time.Second
	// minValidity is how long a token must still be valid to be used while it is renewed: as long as
	// a scrape may take.
	minValidity = time.Minute
	// renewInterval is the minimum time between attempts to renew a valid token, as in azcore, and
	// between attempts to replace a revoked one.
	renewInterval = 30 * time.Second
)

// tokenSource caches the tokens of a credential and coalesces requests for them.
//
// azidentity queues callers behind a lock that ignores their contexts and retries for each of them.
// Here all callers share one background request, each leaves at its own deadline, and no caller
// waits for the renewal of a valid token. Tokens are cached because some credentials do not: az runs
// once for each request.
type tokenSource struct {
	credential azcore.TokenCredential
	ctx        context.Context // ends with close
	cancel     context.CancelFunc
	running    sync.WaitGroup

	mu         sync.Mutex
	inflight   map[string]*tokenFetch // by tenant, claims and scopes
	tokens     map[string]*cachedToken
	rejected   *tokenFetch // the last one that failed to answer a challenge
	rejectedAt time.Time
}

// cachedToken is a token and the time of the last attempt to renew it.
type cachedToken struct {
	azcore.AccessToken
	renewedAt time.Time
}

// tokenFetch is one request for a token.
type tokenFetch struct {
	done  chan struct{} // closed once token and err are set
	token azcore.AccessToken
	err   error
}

func newTokenSource(credential azcore.TokenCredential) *tokenSource {
	ctx, cancel := context.WithCancel(context.Background())
	return &tokenSource{
		credential: credential, ctx: ctx, cancel: cancel,
		inflight: map[string]*tokenFetch{}, tokens: map[string]*cachedToken{},
	}
}

// GetToken implements [azcore.TokenCredential]. The credential's failures are an [*Error]; the error
// of ctx is returned as it is.
func (s *tokenSource) GetToken(ctx context.Context, options policy.TokenRequestOptions) (azcore.AccessToken, error) {
	fetch := s.fetch(options)
	select {
	case <-fetch.done:
	case <-ctx.Done():
		select {
		case <-fetch.done: // prefer the token when both are ready
		default:
			return azcore.AccessToken{}, ctx.Err()
		}
	}
	return fetch.token, fetch.err
}

// fetch returns a finished fetch if a valid token is cached. Otherwise it joins the one in flight for
// these options, or starts one.
func (s *tokenSource) fetch(options policy.TokenRequestOptions) *tokenFetch {
	key := strings.Join(append([]string{options.TenantID, options.Claims}, options.Scopes...), " ")
	s.mu.Lock()
	defer s.mu.Unlock()
	// Claims come from a challenge, which means that the cached token is no longer accepted.
	if cached := s.tokens[key]; cached != nil && options.Claims == "" && time.Until(cached.ExpiresOn) > minValidity {
		if cached.needsRenewal() && s.inflight[key] == nil {
			cached.renewedAt = time.Now()
			s.start(key, options)
		}
		fetch := &tokenFetch{done: make(chan struct{}), token: cached.AccessToken}
		close(fetch.done)
		return fetch
	}
	if fetch := s.inflight[key]; fetch != nil {
		return fetch
	}
	// A revoked credential cannot answer the challenge, which every request gets.
	if options.Claims != "" && s.rejected != nil && time.Since(s.rejectedAt) < renewInterval {
		return s.rejected
	}
	return s.start(key, options)
}

// needsRenewal reports whether the token is due for renewal by azcore's own rule.
func (t *cachedToken) needsRenewal() bool {
	now := time.Now()
	due := now.After(t.ExpiresOn.Add(-5*time.Minute)) || !t.RefreshOn.IsZero() && now.After(t.RefreshOn)
	return due && now.Sub(t.renewedAt) > renewInterval
}

// start starts a fetch. The caller holds the lock.
func (s *tokenSource) start(key string, options policy.TokenRequestOptions) *tokenFetch {
	fetch := &tokenFetch{done: make(chan struct{})}
	if fetch.err = s.ctx.Err(); fetch.err != nil {
		close(fetch.done)
		return fetch
	}
	s.inflight[key] = fetch
	s.running.Go(func() {
		ctx, cancel := context.WithTimeout(s.ctx, tokenTimeout)
		defer cancel()
		token, err := s.credential.GetToken(ctx, options)
		s.finish(key, options, fetch, token, err)
	})
	return fetch
}

// finish publishes the result of a fetch and caches its token.
func (s *tokenSource) finish(key string, options policy.TokenRequestOptions, fetch *tokenFetch, token azcore.AccessToken, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fetch.token = token
	switch {
	case err != nil:
		fetch.err = classifyToken(err)
		if options.Claims != "" && s.ctx.Err() == nil {
			s.rejected, s.rejectedAt = fetch, time.Now()
		}
	case options.Claims != "":
		clear(s.tokens) // the ones without claims are no longer accepted
	default:
		cached := &cachedToken{AccessToken: token}
		if old := s.tokens[key]; old != nil {
			cached.renewedAt = old.renewedAt // the credential may have returned the old token again
		}
		s.tokens[key] = cached
	}
	delete(s.inflight, key)
	close(fetch.done)
}

// close cancels a running fetch and waits for it.
func (s *tokenSource) close() {
	s.mu.Lock()
	s.cancel()
	s.mu.Unlock()
	s.running.Wait()
}
