package azure

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// tokenTimeout bounds one attempt to get a token, whoever waits for it. It is
// longer than most scrapes: an attempt that outlives one scrape may still serve
// the next.
const tokenTimeout = 30 * time.Second

// tokenSource makes a credential safe to wait for. azidentity lets those who
// wait for a token queue behind a lock that ignores their contexts, and tries
// anew for each of them. Here one attempt at a time runs in the background for
// all who wait, and each of them leaves at its own deadline. A token is kept for as
// long as it is good, because not all credentials do that: az is run for each one.
// It also keeps those away from azcore's lock who would have to wait there.
type tokenSource struct {
	credential azcore.TokenCredential
	ctx        context.Context // ends with close
	cancel     context.CancelFunc
	running    sync.WaitGroup

	mu       sync.Mutex
	attempts map[string]*tokenAttempt // by what is asked for
	tokens   map[string]azcore.AccessToken
}

type tokenAttempt struct {
	done  chan struct{} // closed when token and err are there
	token azcore.AccessToken
	err   error
}

func newTokenSource(credential azcore.TokenCredential) *tokenSource {
	ctx, cancel := context.WithCancel(context.Background())
	return &tokenSource{credential: credential, ctx: ctx, cancel: cancel, attempts: map[string]*tokenAttempt{}, tokens: map[string]azcore.AccessToken{}}
}

// GetToken implements [azcore.TokenCredential]. What the credential says is an
// [*Error]; ctx's own error is not.
func (s *tokenSource) GetToken(ctx context.Context, options policy.TokenRequestOptions) (azcore.AccessToken, error) {
	attempt := s.attempt(options)
	select {
	case <-attempt.done:
		return attempt.token, attempt.err
	case <-ctx.Done():
		return azcore.AccessToken{}, ctx.Err()
	}
}

// attempt joins the attempt that is under way for these options, or starts one.
func (s *tokenSource) attempt(options policy.TokenRequestOptions) *tokenAttempt {
	key := strings.Join(append([]string{options.TenantID, options.Claims}, options.Scopes...), " ")
	s.mu.Lock()
	defer s.mu.Unlock()
	if attempt := s.attempts[key]; attempt != nil {
		return attempt
	}
	attempt := &tokenAttempt{done: make(chan struct{})}
	if attempt.err = s.ctx.Err(); attempt.err != nil {
		close(attempt.done)
		return attempt
	}
	// A challenge makes a token useless before its time, and comes with claims.
	if token, ok := s.tokens[key]; ok && options.Claims == "" && good(token) {
		attempt.token = token
		close(attempt.done)
		return attempt
	}
	s.attempts[key] = attempt
	s.running.Go(func() {
		ctx, cancel := context.WithTimeout(s.ctx, tokenTimeout)
		defer cancel()
		var err error
		if attempt.token, err = s.credential.GetToken(ctx, options); err != nil {
			e := &Error{Reason: ReasonAuthentication, Err: summarize(err)}
			if errors.Is(err, context.Canceled) {
				e.Reason = ReasonCanceled
			}
			attempt.err = e
		}
		s.mu.Lock()
		switch {
		case attempt.err != nil:
		case options.Claims != "":
			clear(s.tokens) // the one without claims was refused
		default:
			s.tokens[key] = attempt.token
		}
		delete(s.attempts, key)
		s.mu.Unlock()
		close(attempt.done)
	})
	return attempt
}

// good says whether a token need not be renewed yet, by azcore's own rule.
func good(token azcore.AccessToken) bool {
	now := time.Now()
	return now.Before(token.ExpiresOn.Add(-5*time.Minute)) && (token.RefreshOn.IsZero() || now.Before(token.RefreshOn))
}

// close ends a running attempt and waits for it.
func (s *tokenSource) close() {
	s.mu.Lock()
	s.cancel()
	s.mu.Unlock()
	s.running.Wait()
}
