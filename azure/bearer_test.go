package azure

import (
	"context"
	"encoding/base64"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

var sessionsRevoked = base64.StdEncoding.EncodeToString([]byte(`{"access_token":{"nbf":{"essential":true,"value":"1604106651"}}}`))

// armRequests is the number of requests that need a token.
func armRequests(sim *simulator.Server) int {
	n := 0
	for route, requests := range sim.Requests() {
		if route != simulator.RouteToken && route != simulator.RouteOpenIDConfiguration {
			n += requests
		}
	}
	return n
}

// read authenticates and reads all scores from ARM, as a collection does.
func read(t *testing.T, client *Client, tenant simulator.Tenant, d time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := client.Authenticate(ctx); err != nil {
		return err
	}
	for _, result := range client.SecureScores(ctx, ids(tenant)) {
		if result.Err != nil {
			return result.Err
		}
	}
	return nil
}

// One new token serves all requests whose token ARM refuses, with a challenge or without.
func TestBearer_RefusedTokenIsReplacedOnce(t *testing.T) {
	t.Parallel()
	for name, refuse := range map[string]func(*simulator.Server){
		"revoked":    (*simulator.Server).RevokeTokens,
		"expired":    (*simulator.Server).ExpireTokens,
		"challenged": func(s *simulator.Server) { s.ChallengeTokens(sessionsRevoked) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenant := simulator.Generate(50, 1)
			sim, client := start(t, tenant, Config{})
			if err := read(t, client, tenant, time.Minute); err != nil {
				t.Fatal(err)
			}
			refuse(sim)
			sim.ResetRequests()
			for range 2 {
				if err := read(t, client, tenant, time.Minute); err != nil {
					t.Fatal(err)
				}
			}
			if n := sim.Requests()[simulator.RouteToken]; n != 1 {
				t.Errorf("%d token requests, want 1", n)
			}
			// Only those that were running are repeated.
			if n := armRequests(sim); n > 200+DefaultConcurrency {
				t.Errorf("%d requests to ARM", n)
			}
		})
	}
}

// What ARM refuses again and again costs one token in 30 s.
func TestBearer_RefusesEveryToken(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault simulator.Fault
		text  string
		first int // token requests of the first collections
		later int // of one that starts 31 s later
	}{
		"without a challenge": {simulator.ExpiredToken(), "HTTP 401 ExpiredAuthenticationToken", 1, 1},
		"with a challenge":    {simulator.Challenge(sessionsRevoked), "HTTP 401", 1, 1},
		"not understood":      {simulator.Challenge("eyJh-_ not base64"), "HTTP 401", 1, 1},
		"of another tenant":   {simulator.WrongTenant(), "HTTP 401 InvalidAuthenticationTokenTenant", 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenant := simulator.Generate(20, 1)
			clock := &clock{}
			sim, client := start(t, tenant, Config{now: clock.now})
			if err := read(t, client, tenant, time.Minute); err != nil {
				t.Fatal(err)
			}
			for _, id := range ids(tenant)[:10] {
				sim.SetFault(id, test.fault)
			}
			collect := func(want int) {
				t.Helper()
				sim.ResetRequests()
				for i, result := range client.SecureScores(within(t, time.Minute), ids(tenant)) {
					if i < 10 && (ReasonOf(result.Err) != ReasonAuthentication || !strings.Contains(result.Err.Error(), test.text)) || i >= 10 && result.Err != nil {
						t.Errorf("subscription %d: %v", i, result.Err)
					}
				}
				if n := sim.Requests()[simulator.RouteToken]; n != want {
					t.Errorf("%d token requests, want %d", n, want)
				}
			}
			collect(test.first)
			collect(0)
			clock.advance(31 * time.Second)
			collect(test.later)
			collect(0)
		})
	}
}

// After a challenge, no request is sent until there is a token that answers it. A failing token
// endpoint is asked again at once; one that refuses, after 30 s.
func TestBearer_NoRequestWithoutToken(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(50, 1)
	clock := &clock{}
	sim, client := start(t, tenant, Config{now: clock.now})
	if err := read(t, client, tenant, time.Minute); err != nil {
		t.Fatal(err)
	}
	sim.ChallengeTokens(sessionsRevoked)
	collect := func(cause string, fault simulator.Fault) (tokens, requests int) {
		t.Helper()
		sim.SetTokenFault(fault)
		sim.ResetRequests()
		err := read(t, client, tenant, 20*time.Second)
		if cause == "" && err != nil || cause != "" && (ReasonOf(err) != ReasonAuthentication || !strings.Contains(err.Error(), cause)) {
			t.Errorf("got %v, want %q", err, cause)
		}
		return sim.Requests()[simulator.RouteToken], armRequests(sim)
	}
	if _, requests := collect("HTTP 503", simulator.LoginUnavailable(503)); requests > DefaultConcurrency {
		t.Errorf("%d requests without a token", requests)
	}
	for range 3 {
		if tokens, requests := collect("HTTP 503", simulator.LoginUnavailable(503)); tokens == 0 || requests != 0 {
			t.Errorf("unavailable: %d token requests, %d others, want some and none", tokens, requests)
		}
	}
	if tokens, requests := collect("AADSTS7000222", simulator.ExpiredSecret()); tokens != 1 || requests != 0 {
		t.Errorf("refused: %d token requests, %d others, want 1 and none", tokens, requests)
	}
	for range 3 {
		if tokens, requests := collect("AADSTS7000222", nil); tokens+requests != 0 {
			t.Errorf("refused a moment ago: %d token requests, %d others, want none", tokens, requests)
		}
	}
	clock.advance(31 * time.Second)
	if tokens, requests := collect("", nil); tokens != 1 || requests != 100 {
		t.Errorf("well: %d token requests, %d others, want 1 and 100", tokens, requests)
	}
}

// While the token endpoint hangs, each caller leaves at its own deadline.
func TestBearer_DeadlineWhileTokenEndpointHangs(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(50, 1)
	sim, client := start(t, tenant, Config{})
	if err := read(t, client, tenant, time.Minute); err != nil {
		t.Fatal(err)
	}
	sim.ChallengeTokens(sessionsRevoked)
	sim.SetTokenFault(simulator.Hang())
	began := time.Now()
	var group sync.WaitGroup
	for range 5 {
		group.Go(func() {
			if err := read(t, client, tenant, time.Second); err == nil {
				t.Error("no error")
			}
		})
		group.Go(func() {
			for _, result := range NewResourceGraph(client).SecureScores(within(t, time.Second), ids(tenant)) {
				if result.Err == nil {
					t.Error("no error")
				}
			}
		})
	}
	group.Wait()
	if took := time.Since(began); took > tokenTimeout/2 {
		t.Errorf("took %s with a deadline of 1 s", took)
	}
}

// The deadline of a request that waits for a token is not the cause of its failure.
func TestBearer_ReasonWhileTokenEndpointHangs(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(1, 1)
	sim, client := start(t, tenant, Config{})
	if err := read(t, client, tenant, time.Minute); err != nil {
		t.Fatal(err)
	}
	sim.ChallengeTokens(sessionsRevoked)
	sim.SetTokenFault(simulator.Hang())
	err := client.SecureScores(within(t, time.Second), ids(tenant))[0].Err
	if ReasonOf(err) != ReasonAuthentication || Cause(err) != causeNoAnswer {
		t.Errorf("reason %q, cause %q: %v", ReasonOf(err), Cause(err), err)
	}
}

func TestBearer_OnlyToARM(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	_, client := start(t, simulator.Tenant{}, Config{Observe: func(Request) { asked.Add(1) }})
	for _, address := range []string{
		strings.Replace(client.endpoint.String(), "https://", "http://", 1), "https://127.0.0.1:1", "https://localhost:" + client.endpoint.Port(),
		client.endpoint.String() + ".example.com", "https://" + client.endpoint.Host + "@example.com",
	} {
		req, err := runtime.NewRequest(within(t, 10*time.Second), http.MethodGet, address+"/subscriptions")
		if err != nil {
			continue // no address
		}
		if _, err := client.do(req, operationListSubscriptions); ReasonOf(err) != ReasonInvalidResponse || asked.Load() != 0 {
			t.Errorf("%s: %v, %d requests", address, err, asked.Load())
		}
	}
}

func TestChallengeClaims(t *testing.T) {
	t.Parallel()
	claims := `{"access_token":{"nbf":{"essential":true,"value":"1604106651"}}}`
	encoded := base64.StdEncoding.EncodeToString([]byte(claims))
	for name, test := range map[string]struct {
		header []string
		want   string
	}{
		"Azure's":            {[]string{`Bearer realm="", authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize", error="insufficient_claims", claims="` + encoded + `"`}, claims},
		"second challenge":   {[]string{`PoP realm="x", Bearer error="insufficient_claims", claims="` + encoded + `"`}, claims},
		"second header":      {[]string{`Basic realm="x"`, `Bearer claims="` + encoded + `", error="insufficient_claims"`}, claims},
		"another scheme":     {[]string{`PoP error="insufficient_claims", claims="` + encoded + `"`}, ""},
		"another error":      {[]string{`Bearer error="invalid_token", claims="` + encoded + `"`}, ""},
		"no claims":          {[]string{`Bearer error="insufficient_claims"`}, ""},
		"not base64":         {[]string{`Bearer error="insufficient_claims", claims="{}"`}, ""},
		"not JSON":           {[]string{`Bearer error="insufficient_claims", claims="` + base64.StdEncoding.EncodeToString([]byte("claims")) + `"`}, ""},
		"too long":           {[]string{`Bearer error="insufficient_claims", claims="` + strings.Repeat("e30g", 2000) + `"`}, ""},
		"none":               {nil, ""},
		"nothing but quotes": {[]string{`Bearer """"`}, ""},
	} {
		if got := challengeClaims(http.Header{"Www-Authenticate": test.header}); got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}
