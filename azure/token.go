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

const (
	// tokenTimeout bounds one attempt to get a token, whoever waits for it. It is
	// longer than most scrapes: an attempt that outlives one scrape may still serve
	// the next.
	tokenTimeout = 30 * time.Second
	// tokenReserve is for how long a token must still be good to be handed out while
	// it is renewed: as long as a scrape may take.
	tokenReserve = time.Minute
	// renewInterval lies between attempts to renew a token that is still good, as in
	// azcore, and between attempts in vain to replace one that was refused.
	renewInterval = 30 * time.Second
)

// tokenSource makes a credential safe to wait for. azidentity lets those who
// wait for a token queue behind a lock that ignores their contexts, and tries
// anew for each of them. Here one attempt at a time runs in the background for
// all who wait, and each of them leaves at its own deadline. A token is kept for as
// long as it is good, because not all credentials do that: az is run for each one.
// It also keeps those away from azcore's lock who would have to wait there. Nobody
// waits for a token to be renewed while the old one is good.
type tokenSource struct {
	credential azcore.TokenCredential
	ctx        context.Context // ends with close
	cancel     context.CancelFunc
	running    sync.WaitGroup

	mu       sync.Mutex
	attempts map[string]*tokenAttempt // by what is asked for
	tokens   map[string]*keptToken
	refused  *tokenAttempt // the newest one to meet a challenge, if it was in vain
	failedAt time.Time     // when that was
}

// keptToken is a token, and when its renewal was begun last.
type keptToken struct {
	azcore.AccessToken
	renewedAt time.Time
}

type tokenAttempt struct {
	done  chan struct{} // closed when token and err are there
	token azcore.AccessToken
	err   error
}

func newTokenSource(credential azcore.TokenCredential) *tokenSource {
	ctx, cancel := context.WithCancel(context.Background())
	return &tokenSource{credential: credential, ctx: ctx, cancel: cancel, attempts: map[string]*tokenAttempt{}, tokens: map[string]*keptToken{}}
}

// GetToken implements [azcore.TokenCredential]. What the credential says is an
// [*Error]; ctx's own error is not.
func (s *tokenSource) GetToken(ctx context.Context, options policy.TokenRequestOptions) (azcore.AccessToken, error) {
	attempt := s.attempt(options)
	select {
	case <-attempt.done: // even for one whose time is over
	default:
		select {
		case <-attempt.done:
		case <-ctx.Done():
			return azcore.AccessToken{}, ctx.Err()
		}
	}
	return attempt.token, attempt.err
}

// attempt returns one that is over when there is a token that is still good. Else it
// joins the attempt that is under way for these options, or begins one.
func (s *tokenSource) attempt(options policy.TokenRequestOptions) *tokenAttempt {
	key := strings.Join(append([]string{options.TenantID, options.Claims}, options.Scopes...), " ")
	s.mu.Lock()
	defer s.mu.Unlock()
	// A challenge makes a token useless before its time, and comes with claims.
	if kept := s.tokens[key]; kept != nil && options.Claims == "" && time.Until(kept.ExpiresOn) > tokenReserve {
		if kept.renewable() && s.attempts[key] == nil {
			kept.renewedAt = time.Now()
			s.begin(key, options)
		}
		attempt := &tokenAttempt{done: make(chan struct{}), token: kept.AccessToken}
		close(attempt.done)
		return attempt
	}
	if attempt := s.attempts[key]; attempt != nil {
		return attempt
	}
	// A credential that is revoked cannot meet the challenge, which every call gets.
	if options.Claims != "" && s.refused != nil && time.Since(s.failedAt) < renewInterval {
		return s.refused
	}
	return s.begin(key, options)
}

// begin begins an attempt. The lock is held.
func (s *tokenSource) begin(key string, options policy.TokenRequestOptions) *tokenAttempt {
	attempt := &tokenAttempt{done: make(chan struct{})}
	if attempt.err = s.ctx.Err(); attempt.err != nil {
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
		case attempt.err != nil && options.Claims != "" && s.ctx.Err() == nil:
			s.refused, s.failedAt = attempt, time.Now()
		case attempt.err != nil:
		case options.Claims != "":
			clear(s.tokens) // the one without claims was refused
		default:
			kept := &keptToken{AccessToken: attempt.token}
			if old := s.tokens[key]; old != nil {
				kept.renewedAt = old.renewedAt // it may be the old one, or no better
			}
			s.tokens[key] = kept
		}
		delete(s.attempts, key)
		s.mu.Unlock()
		close(attempt.done)
	})
	return attempt
}

// renewable says whether it is time to renew the token, by azcore's own rule.
func (t *keptToken) renewable() bool {
	now := time.Now()
	due := now.After(t.ExpiresOn.Add(-5*time.Minute)) || !t.RefreshOn.IsZero() && now.After(t.RefreshOn)
	return due && now.Sub(t.renewedAt) > renewInterval
}

// close ends a running attempt and waits for it.
func (s *tokenSource) close() {
	s.mu.Lock()
	s.cancel()
	s.mu.Unlock()
	s.running.Wait()
}
