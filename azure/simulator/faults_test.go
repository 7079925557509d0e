package simulator_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// TestFaults_Answers checks what arrives through the SDK's pipeline.
func TestFaults_Answers(t *testing.T) {
	const long = "name\nwith \"quotes\" and \xff\xfe"
	for _, test := range []struct {
		name   string
		fault  simulator.Fault
		status int
		want   string // part of the body
		header string // part of the headers, as Name: value
	}{
		{"garbage", simulator.Garbage(), 200, "<!DOCTYPE html>", "Content-Type: text/html"},
		{"redirect", simulator.Redirect("https://other.example/"), 307, "", "Location: https://other.example/"},
		{"error", simulator.Error(418, "Teapot", "Short 100% stout."), 418, `{"error":{"code":"Teapot","message":"Short 100% stout."}}`, ""},
		{"500", simulator.ServerError(500), 500, `"code":"InternalServerError"`, ""},
		{"502", simulator.ServerError(502), 502, `"code":"BadGateway"`, ""},
		{"503", simulator.ServerError(503), 503, `"code":"ServiceUnavailable"`, ""},
		{"504", simulator.ServerError(504), 504, `"code":"GatewayTimeout"`, ""},
		{"forbidden", simulator.Forbidden(), 403, `"code":"AuthorizationFailed","message":"The client '` + simulator.ClientID + `'`, ""},
		{"wrong tenant", simulator.WrongTenant(), 401, `"code":"InvalidAuthenticationTokenTenant"`, `Www-Authenticate: Bearer authorization_uri=`},
		{"expired token", simulator.ExpiredToken(), 401, `"code":"ExpiredAuthenticationToken"`, `Www-Authenticate: Bearer authorization_uri=`},
		{"subscription not found", simulator.SubscriptionNotFound(), 404, `"code":"SubscriptionNotFound"`, ""},
		{"score not found", simulator.ScoreNotFound(), 404, `{"Error":{"Code":"ResourceNotFound","Message":"Secure score 'ascScore' does not exist in scope`, ""},
		{"not registered", simulator.NotRegistered(), 409, `"code":"MissingSubscriptionRegistration"`, ""},
		{"invalid namespace", simulator.InvalidNamespace(404), 404, `The resource namespace 'Microsoft.Security' is invalid.`, ""},
		{"throttled", simulator.Throttle(1, 372*time.Second), 429, `Please try again after '372' seconds.`, "Retry-After: 372"},
		{"null score", simulator.NullScore(), 200, `"score":null,`, ""},
		{"empty score", simulator.EmptyScore(), 200, `"score":{},`, ""},
		{"empty list", simulator.EmptyList(), 200, `{"value":[]}`, ""},
		{"58.5", simulator.Number("max", "58.5"), 200, `"max":58.5,`, ""},
		{"58.0", simulator.Number("max", "58.0"), 200, `"max":58.0,`, ""},
		{"string", simulator.Number("current", `"58"`), 200, `"current":"58",`, ""},
		{"NaN", simulator.Number("current", "NaN"), 200, `"current":NaN,`, ""},
		{"infinite", simulator.Number("percentage", "1e400"), 200, `"percentage":1e400}`, ""},
		{"negative", simulator.Number("healthyResourceCount", "-1"), 200, `"healthyResourceCount":-1,`, ""},
		{"hostile name", simulator.ControlName(long), 200, `"displayName":"name\nwith \"quotes\" and ` + "\xff\xfe" + `"`, ""},
		{"long name", simulator.ControlName(strings.Repeat("x", 10<<10)), 200, strings.Repeat("x", 10<<10), ""},
		{"duplicate", simulator.Duplicate(), 200, `"current":0.01,`, ""},
		{"next link", simulator.NextLink("https://other.example/next"), 200, `"nextLink":"https://other.example/next"`, ""},
		{"body", simulator.Body(200, "application/json", "["), 200, "[", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			tenant := simulator.Generate(2, 3)
			faulty, healthy := tenant.Subscriptions[0].ID, tenant.Subscriptions[1].ID
			tenant.Faults = map[string]simulator.Fault{strings.ToUpper(faulty): test.fault}
			a, c := start(t, tenant)
			response, body := c.body(controlsPath(faulty))
			if response.StatusCode != test.status || !strings.Contains(body, test.want) {
				t.Errorf("got %d %s, want %d with %s", response.StatusCode, body, test.status, test.want)
			}
			if name, value, ok := strings.Cut(test.header, ": "); ok && !strings.HasPrefix(response.Header.Get(name), value) {
				t.Errorf("got %s: %s, want %s", name, response.Header.Get(name), value)
			}
			c.list(controlsPath(healthy)) // fails the test unless the other subscription is healthy
			a.SetFault(faulty, nil)
			c.list(controlsPath(faulty))
		})
	}
}

func TestDuplicate_RepeatsTheFirstItem(t *testing.T) {
	tenant := simulator.Generate(1, 2)
	id := tenant.Subscriptions[0].ID
	a, c := start(t, tenant)
	a.SetFault(id, simulator.Duplicate())
	items, _ := c.list(controlsPath(id))
	if len(items) != 3 || items[2].ID != items[0].ID || items[2].Properties.Score.Current != 0.01 || items[0].Properties.Score.Current == 0.01 {
		t.Errorf("got %+v", items)
	}
}

func TestFaults_OfOneList(t *testing.T) {
	tenant := simulator.Generate(1, 2)
	id := tenant.Subscriptions[0].ID
	for _, test := range []struct {
		name             string
		fault            simulator.Fault
		scores, controls int
	}{
		{"scores", simulator.OnScores(simulator.ServerError(500)), 500, 200},
		{"controls", simulator.OnControls(simulator.ServerError(500)), 200, 500},
		{"both", simulator.ServerError(500), 500, 500},
	} {
		t.Run(test.name, func(t *testing.T) {
			a, c := start(t, tenant)
			a.SetFault(id, test.fault)
			scores, _ := c.body(scoresPath(id))
			controls, _ := c.body(controlsPath(id))
			if scores.StatusCode != test.scores || controls.StatusCode != test.controls {
				t.Errorf("got %d and %d", scores.StatusCode, controls.StatusCode)
			}
		})
	}
}

func TestThrottle_Ends(t *testing.T) {
	a, c := start(t, simulator.Generate(1, 1))
	statuses := func() (got []int) {
		for range 4 {
			response, _ := c.body(subscriptionsPath)
			got = append(got, response.StatusCode)
		}
		return got
	}
	a.SetListFault(simulator.Throttle(2, time.Second))
	if got := statuses(); got[0] != 429 || got[1] != 429 || got[2] != 200 || got[3] != 200 {
		t.Errorf("twice: %v", got)
	}
	a.SetListFault(simulator.Throttle(-1, 0))
	if got := statuses(); got[0] != 429 || got[3] != 429 {
		t.Errorf("forever: %v", got)
	}
}

func TestNextLinkToItself(t *testing.T) {
	a, c := start(t, simulator.Generate(1, 1))
	a.SetListFault(simulator.NextLinkToItself())
	_, first := c.body(subscriptionsPath)
	next := nextLinkOf(t, first)
	if next != a.URL()+subscriptionsPath {
		t.Errorf("nextLink is %s", next)
	}
	if _, second := c.body(next); second != first {
		t.Errorf("the next page is %s, want %s", second, first)
	}
}

func TestEndlessPages(t *testing.T) {
	a, c := start(t, simulator.Generate(1, 1))
	a.SetListFault(simulator.EndlessPages())
	seen, url := map[string]bool{}, subscriptionsPath
	for range 20 {
		_, body := c.body(url)
		url = nextLinkOf(t, body)
		if seen[url] {
			t.Fatalf("%s came twice", url)
		}
		seen[url] = true
	}
}

func nextLinkOf(t *testing.T, body string) string {
	t.Helper()
	_, link, _ := strings.Cut(body, `"nextLink":"`)
	link, _, ok := strings.Cut(link, `"`)
	if !ok {
		t.Fatalf("no nextLink in %s", body)
	}
	return strings.ReplaceAll(link, `\u0026`, "&")
}

func TestFaults_HangAndSlow(t *testing.T) {
	tenant := simulator.Generate(1, 1)
	id := tenant.Subscriptions[0].ID
	a, c := start(t, tenant)
	c.list(subscriptionsPath)
	for name, fault := range map[string]simulator.Fault{"hang": simulator.Hang(), "slow": simulator.Slow(time.Hour)} {
		ctx, cancel := context.WithCancel(context.Background())
		a.SetFault(id, canceling(cancel, fault))
		if _, err := c.getContext(ctx, scoresPath(id)); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want that it was cancelled", name, err)
		}
	}
	a.SetFault(id, simulator.Slow(50*time.Millisecond))
	begin := time.Now()
	c.list(scoresPath(id))
	if took := time.Since(begin); took < 50*time.Millisecond {
		t.Errorf("slow took only %s", took)
	}
}

func TestTruncated(t *testing.T) {
	tenant := simulator.Generate(1, 5)
	id := tenant.Subscriptions[0].ID
	a, c := start(t, tenant)
	a.SetFault(id, simulator.Truncated())
	response, err := c.get(controlsPath(id))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	got, err := io.ReadAll(response.Body)
	if err == nil || len(got) == 0 || int64(len(got)) >= response.ContentLength {
		t.Errorf("got %d of %d bytes and error %v", len(got), response.ContentLength, err)
	}
}

func TestHuge(t *testing.T) {
	const size = 5<<20 + 7
	for _, test := range []struct {
		name      string
		fault     simulator.Fault
		length    int64 // what Content-Length says
		min, most int64
	}{
		{"with length", simulator.Huge(size, true), size, size, size},
		{"without length", simulator.Huge(size, false), -1, size, size},
		{"compressed", simulator.GzipBomb(size), -1, size, size + 1<<20 + 12},
	} {
		t.Run(test.name, func(t *testing.T) {
			tenant := simulator.Generate(1, 1)
			id := tenant.Subscriptions[0].ID
			a, c := start(t, tenant)
			a.SetFault(id, test.fault)
			response, err := c.get(scoresPath(id))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = response.Body.Close() }()
			if response.ContentLength != test.length {
				t.Errorf("Content-Length is %d, want %d", response.ContentLength, test.length)
			}
			n, err := io.Copy(io.Discard, response.Body)
			if err != nil || n < test.min || n > test.most {
				t.Errorf("got %d bytes and error %v, want %d to %d", n, err, test.min, test.most)
			}
		})
	}
}

// A client that stops reading must not keep the simulator writing.
func TestHuge_EndsWithTheClient(t *testing.T) {
	tenant := simulator.Generate(1, 1)
	id := tenant.Subscriptions[0].ID
	a, c := start(t, tenant)
	ended := make(chan struct{})
	huge := simulator.Huge(1<<40, true)
	a.SetFault(id, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		huge(w, r, next)
		close(ended)
	})
	response, err := c.get(scoresPath(id))
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	<-ended
}

func TestFaults_OfTheTokenEndpoint(t *testing.T) {
	for _, test := range []struct {
		name   string
		fault  simulator.Fault
		status int
		want   string
	}{
		{"expired secret", simulator.ExpiredSecret(), 401, "AADSTS7000222: The provided client secret keys for app '" + simulator.ClientID + "' are expired."},
		{"invalid client", simulator.LoginError(400, "invalid_client", 700027, "Client assertion failed signature validation."), 400, "AADSTS700027"},
		{"too many requests", simulator.LoginUnavailable(429), 429, "AADSTS90055"},
		{"error issuing a token", simulator.LoginUnavailable(500), 500, "AADSTS50000"},
		{"unavailable", simulator.LoginUnavailable(503), 503, "AADSTS90033"},
		{"broken gateway", simulator.ServerError(500), 500, "InternalServerError"},
		{"web page", simulator.Body(503, "text/html", "<html>Service Unavailable</html>"), 503, "Service Unavailable"},
		{"garbage", simulator.Garbage(), 200, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			a, c := start(t, simulator.Generate(1, 1))
			a.SetTokenFault(test.fault)
			_, err := c.get(subscriptionsPath)
			if err == nil {
				t.Fatal("there was a token")
			}
			var failed *azidentity.AuthenticationFailedError
			if errors.As(err, &failed) && failed.RawResponse != nil && failed.RawResponse.StatusCode != test.status {
				t.Errorf("status %d, want %d", failed.RawResponse.StatusCode, test.status)
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %s in it", err, test.want)
			}
			a.SetTokenFault(nil)
			c.list(subscriptionsPath)
		})
	}

	t.Run("hang", func(t *testing.T) {
		a, c := start(t, simulator.Generate(1, 1))
		ctx, cancel := context.WithCancel(context.Background())
		a.SetTokenFault(canceling(cancel, simulator.Hang()))
		if _, err := c.getContext(ctx, subscriptionsPath); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want that it was cancelled", err)
		}
		if got := a.Requests()["token"]; got != 1 {
			t.Errorf("%d token requests, want 1", got)
		}
	})
}

// A hanging request must end with its client over either protocol, even a POST, or requests would
// pile up.
func TestHang_EndsWithTheClient(t *testing.T) {
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(protocol, func(t *testing.T) {
			a, _ := start(t, simulator.Tenant{})
			transport := &http.Transport{
				TLSClientConfig:   &tls.Config{RootCAs: a.RootCAs(), MinVersion: tls.VersionTLS12},
				ForceAttemptHTTP2: protocol == "HTTP/2.0",
			}
			t.Cleanup(transport.CloseIdleConnections)
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan string, 1)
			hang := canceling(cancel, simulator.Hang())
			a.SetTokenFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				defer func() { ended <- r.Proto }()
				hang(w, r, next)
			})
			request, err := http.NewRequestWithContext(ctx, http.MethodPost, a.URL()+"/"+simulator.TenantID+"/oauth2/v2.0/token", strings.NewReader("grant_type=client_credentials"))
			if err != nil {
				t.Fatal(err)
			}
			if response, err := transport.RoundTrip(request); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v and error %v", response, err)
			}
			if got := <-ended; got != protocol {
				t.Errorf("spoken over %s", got)
			}
		})
	}
}

// canceling makes the client give up as soon as its request has arrived.
func canceling(cancel context.CancelFunc, f simulator.Fault) simulator.Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		cancel()
		f(w, r, next)
	}
}
