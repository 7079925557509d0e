package azure

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
)

const (
	// tokenTimeout bounds one token request, regardless of the callers' deadlines. It is longer than
	// most scrapes: a token that arrives too late for one scrape still serves the next.
	tokenTimeout = 30 * time.Second
	// minValidity is how long a token must still be valid to be used while it is renewed: as long as
	// a scrape may take.
	minValidity = time.Minute
	// renewInterval is the minimum time between attempts to renew a valid token, as in azcore, and
	// between attempts to replace one that ARM refuses.
	renewInterval = 30 * time.Second
)

// tokenSource caches the token for ARM and coalesces requests for it.
//
// azidentity queues callers behind a lock that ignores their contexts and retries for each of them.
// Here all callers share one background request, each gives up at its own deadline, and no caller
// waits for the renewal of a valid token. The token is cached because some credentials do not: az
// runs once for each request.
type tokenSource struct {
	credential *credentialSource
	scopes     []string
	timeout    time.Duration // of a request
	now        func() time.Time
	logger     log.Logger
	ctx        context.Context // ends with close
	cancel     context.CancelFunc
	running    sync.WaitGroup

	mu         sync.Mutex
	token      azcore.AccessToken // empty if there is none, or none that ARM accepts
	renewedAt  time.Time          // of the last attempt to renew the token
	renewalErr error              // why the last attempt to get a token failed, or nil
	inflight   *tokenFetch

	// After ARM refused a token, until there is another:
	refusedToken string
	refusedAt    time.Time
	claims       string // that the next token must have, from ARM's challenge
	rejection    *Error // why the token endpoint did not replace the token
	rejectedAt   time.Time

	answeredClaims string // the claims of the last challenge that a token answered
	recreate       bool   // create the credential again before the next request
}

// tokenFetch is one request for a token.
type tokenFetch struct {
	startedAt    time.Time
	claims       string
	refusedToken string // by ARM
	recreate     bool   // create the credential again
	rejection    *Error // the result unless a file of the credential changed
	trace        tokenTrace

	done  chan struct{} // closed once the rest is set
	token azcore.AccessToken
	err   error
	stale bool // in the meantime ARM refused the token or required other claims
}

func newTokenSource(credential *credentialSource, audience string, cfg Config) *tokenSource {
	ctx, cancel := context.WithCancel(context.Background())
	return &tokenSource{
		credential: credential, scopes: []string{audience + "/.default"},
		timeout: cfg.tokenTimeout, now: cfg.now, logger: cfg.Logger, ctx: ctx, cancel: cancel,
	}
}

// get returns a token that ARM has not refused. A failure of the credential, or no response
// before the deadline of ctx, is [ReasonAuthentication].
func (s *tokenSource) get(ctx context.Context) (azcore.AccessToken, error) {
	for {
		token, fetch := s.tokenOrFetch()
		if fetch == nil {
			return token, nil
		}
		select {
		case <-fetch.done:
		case <-ctx.Done():
			select {
			case <-fetch.done: // prefer the token when both are ready
			default:
				return azcore.AccessToken{}, fetch.unanswered(ctx.Err(), s.now())
			}
		}
		if !fetch.stale {
			return fetch.token, fetch.err
		}
	}
}

// tokenOrFetch returns the valid token, or else the request in flight, which it starts if needed.
func (s *tokenSource) tokenOrFetch() (azcore.AccessToken, *tokenFetch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	valid := s.valid(now)
	if valid && s.inflight == nil && s.needsRenewal(now) {
		s.renewedAt = now
		s.start()
	}
	if valid {
		return s.token, nil
	}
	if s.inflight == nil {
		return azcore.AccessToken{}, s.start()
	}
	return azcore.AccessToken{}, s.inflight
}

// valid reports whether there is a token that stays valid for as long as a scrape takes.
func (s *tokenSource) valid(now time.Time) bool {
	return s.token.Token != "" && s.token.ExpiresOn.Sub(now) > minValidity
}

// needsRenewal reports whether the token is due for renewal by azcore's own rule.
func (s *tokenSource) needsRenewal(now time.Time) bool {
	due := now.After(s.token.ExpiresOn.Add(-5*time.Minute)) || !s.token.RefreshOn.IsZero() && now.After(s.token.RefreshOn)
	return due && now.Sub(s.renewedAt) > renewInterval
}

// refuse discards a token that ARM refused and reports whether another may be accepted. Claims are
// those of ARM's challenge, or "". A token that ARM refuses without one can come from a credential
// that caches it, so the credential is created again. Unless ARM requires new claims, a token is
// replaced once per renewInterval: ARM may refuse every token.
func (s *tokenSource) refuse(token, claims string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token.Token != token {
		return true // replaced, or being replaced, since the request was sent
	}
	now := s.now()
	if (claims == "" || claims == s.answeredClaims) && now.Sub(s.refusedAt) < renewInterval {
		return false
	}
	s.token = azcore.AccessToken{}
	s.refusedToken, s.refusedAt, s.claims, s.rejection = token, now, claims, nil
	s.recreate = s.recreate || claims == ""
	return true
}

// start starts a fetch. The caller holds the lock.
func (s *tokenSource) start() *tokenFetch {
	fetch := &tokenFetch{
		startedAt: s.now(), claims: s.claims, refusedToken: s.refusedToken, recreate: s.recreate,
		done: make(chan struct{}),
	}
	if err := s.ctx.Err(); err != nil {
		fetch.err = err
		close(fetch.done)
		return fetch
	}
	if s.rejection != nil && fetch.startedAt.Sub(s.rejectedAt) < renewInterval {
		fetch.rejection = s.rejection
	}
	s.inflight = fetch
	s.running.Go(func() {
		token, err := s.request(fetch)
		s.finish(fetch, token, err)
	})
	return fetch
}

// request gets a token from the credential.
func (s *tokenSource) request(fetch *tokenFetch) (token azcore.AccessToken, failure *Error) {
	defer func() {
		if p := recover(); p != nil {
			level.Error(s.logger).Log("msg", "credential panicked", "operation", operationGetToken, "err", printable(fmt.Sprint(p)), "stack", string(debug.Stack()))
			failure = &Error{Reason: ReasonAuthentication, Err: fmt.Errorf("credential panicked: %s", printable(fmt.Sprint(p)))}
		}
	}()
	changed, err := s.credential.refresh(fetch.recreate && fetch.rejection == nil)
	if err != nil {
		return token, localError(err)
	}
	if fetch.rejection != nil && !changed {
		return token, fetch.rejection
	}
	fetch.rejection = nil
	ctx, cancel := context.WithTimeout(context.WithValue(s.ctx, tokenTraceKey{}, &fetch.trace), s.timeout)
	defer cancel()
	options := policy.TokenRequestOptions{Scopes: s.scopes, EnableCAE: true, Claims: fetch.claims}
	token, err = s.credential.current.GetToken(ctx, options)
	if err == nil && token.Token == fetch.refusedToken && fetch.claims == "" {
		// Managed identities share one cache in the process, which claims bypass. Other credentials
		// get the same token again, or cannot handle claims; then ARM's response is the better error.
		options.Claims = fmt.Sprintf(`{"access_token":{"nbf":{"essential":true,"value":"%d"}}}`, time.Now().Unix())
		if another, err := s.credential.current.GetToken(ctx, options); err == nil {
			token = another
		}
	}
	switch {
	case err == nil:
		return token, nil
	case s.ctx.Err() != nil:
		return token, &Error{Reason: ReasonCanceled, Err: context.Canceled}
	case ctx.Err() != nil:
		return token, unansweredError(fetch.trace.last(), s.timeout)
	}
	return token, tokenError(err, fetch.trace.last())
}

// finish publishes the result of a fetch and caches its token. Only a refusal by the token endpoint
// is remembered, and only if there was a token before: after any other failure the next caller
// tries again.
func (s *tokenSource) finish(fetch *tokenFetch, token azcore.AccessToken, failure *Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer close(fetch.done)
	s.inflight = nil
	fetch.stale = fetch.claims != s.claims || failure == nil && token.Token == s.refusedToken && fetch.refusedToken != s.refusedToken
	switch {
	case fetch.stale:
	case failure == nil:
		s.logRenewal(nil)
		fetch.token, s.token = token, token
		if fetch.claims != "" {
			s.answeredClaims, s.claims = fetch.claims, ""
		}
		s.refusedToken, s.rejection, s.recreate = "", nil, false
	default:
		s.logRenewal(failure)
		fetch.err = failure
		if fetch.rejection != nil || !failure.isRejection() {
			return
		}
		now := s.now()
		s.recreate = s.recreate || now.Sub(s.credential.createdAt) > renewInterval
		if s.refusedToken != "" {
			s.rejection, s.rejectedAt = failure, now
		}
	}
}

// logRenewal logs that the valid token cannot be renewed, once for each cause, and the end of that.
// Without a valid token, the callers report the failure.
func (s *tokenSource) logRenewal(err error) {
	before := s.renewalErr
	s.renewalErr = err
	switch {
	case !s.valid(s.now()) || ReasonOf(err) == ReasonCanceled || Cause(err) == Cause(before):
	case err != nil:
		level.Warn(s.logger).Log("msg", "cannot renew the token; using the current one until it expires", "operation", operationGetToken,
			"expires", s.token.ExpiresOn.UTC().Format(time.RFC3339), "reason", ReasonOf(err), "err", err, "fix", Hint(err, "", Identity{}))
	default:
		level.Info(s.logger).Log("msg", "the token can be renewed again", "operation", operationGetToken)
	}
}

// unanswered is the error of a caller whose context ended before the fetch was done.
func (f *tokenFetch) unanswered(err error, now time.Time) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return unansweredError(f.trace.last(), now.Sub(f.startedAt))
}

// close cancels a running fetch and waits for it.
func (s *tokenSource) close() {
	s.mu.Lock()
	s.cancel()
	s.mu.Unlock()
	s.running.Wait()
}
