package azure

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/go-kit/log"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// credential issues tokens that are valid for some time.
type credential struct {
	requests, created atomic.Int64
	validity          time.Duration
	delay             time.Duration
	fixed             bool // the same token until it is created again or asked with claims
	panics            bool
	err               error
	claims            string // of the last request
	logger            log.Logger
}

func (c *credential) GetToken(ctx context.Context, options policy.TokenRequestOptions) (azcore.AccessToken, error) {
	n := c.requests.Add(1)
	if c.panics {
		panic("boom")
	}
	select {
	case <-time.After(c.delay):
	case <-ctx.Done():
		return azcore.AccessToken{}, ctx.Err()
	}
	if c.err != nil {
		return azcore.AccessToken{}, c.err
	}
	c.claims = options.Claims
	if c.fixed {
		n = -c.created.Load()
	}
	return azcore.AccessToken{Token: fmt.Sprint("token", n, options.Claims), ExpiresOn: time.Now().Add(c.validity)}, nil
}

func (c *credential) source(t *testing.T) *tokenSource {
	t.Helper()
	client, err := New(Config{Logger: c.logger, Credential: func(azcore.ClientOptions) (azcore.TokenCredential, error) {
		c.created.Add(1)
		return c, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	return client.token
}

func TestToken_CachedUntilExpiry(t *testing.T) {
	t.Parallel()
	c := &credential{}
	s := c.source(t)
	defer s.close()
	for _, test := range []struct {
		validity time.Duration
		want     int64 // requests so far
	}{{30 * time.Second, 1}, {time.Hour, 2}, {time.Hour, 2}} {
		c.validity = test.validity
		if _, err := s.get(t.Context()); err != nil || c.requests.Load() != test.want {
			t.Errorf("%+v: %d requests, %v", test, c.requests.Load(), err)
		}
	}
}

// A token that ARM refuses is replaced once in 30 s, unless ARM asks for other claims. Without
// claims the credential is created again, because it may cache the token.
func TestToken_ReplacedWhenRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &credential{validity: time.Hour}
		s := c.source(t)
		defer s.close()
		for _, test := range []struct {
			after     time.Duration
			claims    string
			replaced  bool
			requests  int64
			created   int64
			requested string // claims
		}{
			{0, "", true, 2, 2, ""},
			{29 * time.Second, "", false, 2, 2, ""},
			{2 * time.Second, "", true, 3, 3, ""},
			{0, `{"a":1}`, true, 4, 3, `{"a":1}`},
			{0, `{"a":1}`, false, 4, 3, `{"a":1}`},
			{0, `{"a":2}`, true, 5, 3, `{"a":2}`},
			{31 * time.Second, `{"a":2}`, true, 6, 3, `{"a":2}`},
			{31 * time.Second, "", true, 7, 4, ""},
		} {
			token, err := s.get(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(test.after)
			replaced := s.refuse(token.Token, test.claims)
			if _, err := s.get(t.Context()); err != nil {
				t.Fatal(err)
			}
			if replaced != test.replaced || c.requests.Load() != test.requests || c.created.Load() != test.created || c.claims != test.requested {
				t.Errorf("%+v: replaced %t, %d requests, created %d times, claims %q", test, replaced, c.requests.Load(), c.created.Load(), c.claims)
			}
		}
	})
}

// A renewal in flight does not bring back what ARM has refused meanwhile.
func TestToken_RefusedDuringRenewal(t *testing.T) {
	t.Parallel()
	for _, claims := range []string{"", `{"a":1}`} {
		synctest.Test(t, func(t *testing.T) {
			c := &credential{validity: 4 * time.Minute, fixed: true}
			s := c.source(t)
			defer s.close()
			first, _ := s.get(t.Context())
			c.delay = time.Second
			_, _ = s.get(t.Context()) // starts the renewal
			synctest.Wait()
			s.refuse(first.Token, claims)
			second, err := s.get(t.Context())
			if err != nil || second.Token == first.Token {
				t.Errorf("claims %q: got %q after %q, %v", claims, second.Token, first.Token, err)
			}
		})
	}
}

// A panic of the credential is an error, and the next caller tries again.
func TestToken_PanicOfTheCredential(t *testing.T) {
	t.Parallel()
	c := &credential{validity: time.Hour, panics: true}
	s := c.source(t)
	defer s.close()
	if _, err := s.get(t.Context()); ReasonOf(err) != ReasonAuthentication || err.Error() != "credential panicked: boom" {
		t.Errorf("got %v", err)
	}
	c.panics = false
	if _, err := s.get(t.Context()); err != nil {
		t.Error(err)
	}
}

// No caller waits for the renewal of a valid token, and a failed renewal waits before the next one.
func TestToken_RenewedInBackground(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &credential{validity: 4 * time.Minute}
		s := c.source(t)
		defer s.close()
		c.getEverySecond(t, s, 1)
		c.delay = time.Hour
		c.getEverySecond(t, s, 29)
		if n := c.requests.Load(); n != 2 {
			t.Errorf("%d requests within %s, want 2", n, renewInterval)
		}
		c.getEverySecond(t, s, 30)
		if n := c.requests.Load(); n != 3 {
			t.Errorf("%d requests within a minute, want 3", n)
		}
	})
}

// A renewal that returns the old token again waits before the next one, too.
func TestToken_CredentialThatCachesItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &credential{validity: 4 * time.Minute, fixed: true}
		s := c.source(t)
		defer s.close()
		c.getEverySecond(t, s, 30)
		if n := c.requests.Load(); n != 2 {
			t.Errorf("%d requests within %s, want 2", n, renewInterval)
		}
	})
}

// A valid token that cannot be renewed is logged once, not at every attempt, and so is the end of
// that. Without a valid token, the callers report the failure.
func TestToken_FailedRenewalIsLoggedOnce(t *testing.T) {
	t.Parallel()
	const failed, renewed = "level=warn msg=\"cannot renew the token", "level=info msg=\"the token can be renewed again"
	for name, test := range map[string]struct {
		outage  time.Duration // from the time at which the token is due for renewal
		renewed int
	}{
		"the renewal works in time": {2 * time.Minute, 1},
		"the token expires":         {5 * time.Minute, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var logged bytes.Buffer
				c := &credential{validity: 5 * time.Minute, logger: log.NewLogfmtLogger(&logged)}
				s := c.source(t)
				defer s.close()
				c.getEverySecond(t, s, 1)
				c.err = errors.New("the secret has expired")
				for began := time.Now(); time.Since(began) < test.outage; time.Sleep(time.Second) {
					_, _ = s.get(t.Context())
				}
				synctest.Wait()
				if n := c.requests.Load(); n < 5 {
					t.Errorf("%d requests, want several renewals", n)
				}
				if text := logged.String(); strings.Count(text, failed) != 1 || strings.Contains(text, renewed) || !strings.Contains(text, "operation=get_token") || !strings.Contains(text, "reason=authentication") {
					t.Errorf("logged %s", text)
				}
				c.err = nil
				c.getEverySecond(t, s, 31)
				synctest.Wait()
				if text := logged.String(); strings.Count(text, failed) != 1 || strings.Count(text, renewed) != test.renewed {
					t.Errorf("logged afterwards %s", text)
				}
			})
		})
	}
}

func (c *credential) getEverySecond(t *testing.T, s *tokenSource, times int) {
	t.Helper()
	for range times {
		if _, err := s.get(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
	}
}

// Waiting callers leave at their own deadlines, and the one request serves those that stay.
func TestToken_SharedRequest(t *testing.T) {
	t.Parallel()
	sim, client := start(t, simulator.Tenant{}, Config{})
	sim.SetTokenFault(simulator.Slow(3 * time.Second))
	patient := make(chan error, 1)
	go func() { patient <- client.Authenticate(within(t, 20*time.Second)) }()
	start := time.Now()
	var group sync.WaitGroup
	for range 10 {
		group.Go(func() {
			if err := client.Authenticate(within(t, 50*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("impatient: %v", err)
			}
		})
	}
	group.Wait()
	if time.Since(start) > 2*time.Second {
		t.Errorf("the impatient waited %s", time.Since(start))
	}
	if err := <-patient; err != nil {
		t.Errorf("patient: %v", err)
	}
	if n := sim.Requests()[simulator.RouteToken]; n != 1 {
		t.Errorf("%d token requests, want 1", n)
	}
}

// Every request of a revoked identity is challenged, and no token answers the challenge: one
// attempt serves them all.
func TestToken_RevokedIdentity(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(50, 1)
	sim, client := start(t, tenant, Config{})
	if err := client.Authenticate(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids(tenant) {
		sim.SetFault(id, simulator.Challenge("eyJhY2Nlc3NfdG9rZW4iOnsibmJmIjp7ImVzc2VudGlhbCI6dHJ1ZSwidmFsdWUiOiIxNjA0MTA2NjUxIn19fQ=="))
	}
	sim.SetTokenFault(simulator.ExpiredSecret())
	before := sim.Requests()[simulator.RouteToken]
	for range 3 {
		for _, result := range client.SecureScores(within(t, time.Minute), ids(tenant)) {
			if ReasonOf(result.Err) != ReasonAuthentication {
				t.Fatal(result.Err)
			}
		}
	}
	if n := sim.Requests()[simulator.RouteToken] - before; n != 1 {
		t.Errorf("%d token requests, want 1", n)
	}
}
