package azure

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// credential issues tokens that are valid for some time.
type credential struct {
	requests atomic.Int64
	validity time.Duration
	hang     bool
}

func (c *credential) GetToken(ctx context.Context, _ policy.TokenRequestOptions) (azcore.AccessToken, error) {
	c.requests.Add(1)
	if c.hang {
		<-ctx.Done()
		return azcore.AccessToken{}, ctx.Err()
	}
	return azcore.AccessToken{Token: "t", ExpiresOn: time.Now().Add(c.validity)}, nil
}

func TestToken_CachedUntilExpiryOrChallenge(t *testing.T) {
	t.Parallel()
	c := &credential{}
	s := newTokenSource(c)
	defer s.close()
	for _, test := range []struct {
		claims   string
		validity time.Duration
		want     int64 // requests so far
	}{{"", time.Hour, 1}, {"", time.Hour, 1}, {"x", time.Hour, 2}, {"", 30 * time.Second, 3}, {"", time.Hour, 4}, {"", time.Hour, 4}} {
		c.validity = test.validity
		if _, err := s.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{"s"}, Claims: test.claims}); err != nil || c.requests.Load() != test.want {
			t.Errorf("%+v: %d requests, %v", test, c.requests.Load(), err)
		}
	}
}

// No caller waits for the renewal of a valid token, and a failed renewal waits before the next one.
func TestToken_RenewedInBackground(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &credential{validity: 4 * time.Minute}
		s := newTokenSource(c)
		defer s.close()
		c.getEverySecond(t, s, 1)
		c.hang = true
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
		c := &credential{validity: 4 * time.Minute}
		s := newTokenSource(c)
		defer s.close()
		c.getEverySecond(t, s, 30)
		if n := c.requests.Load(); n != 2 {
			t.Errorf("%d requests within %s, want 2", n, renewInterval)
		}
	})
}

func (c *credential) getEverySecond(t *testing.T, s *tokenSource, times int) {
	t.Helper()
	for range times {
		if _, err := s.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{"s"}}); err != nil {
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

// Every request of a revoked identity is challenged, and no token answers the challenge: one attempt
// serves them all.
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
