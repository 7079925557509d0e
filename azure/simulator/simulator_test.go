package simulator_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"go.uber.org/goleak"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A client is the real client stack, pointed at a simulator.
type client struct {
	t    *testing.T
	http *http.Client
	arm  *arm.Client
	url  string
}

func start(t *testing.T, tenant simulator.Tenant) (*simulator.Server, *client) {
	t.Helper()
	a, err := simulator.Start(tenant)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	httpClient := newHTTPClient(t, a)
	credential, err := a.Credential(azcore.ClientOptions{Transport: httpClient, Retry: policy.RetryOptions{MaxRetries: -1}})
	if err != nil {
		t.Fatal(err)
	}
	return a, newClient(t, a, httpClient, credential)
}

func newHTTPClient(t *testing.T, a *simulator.Server) *http.Client {
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: a.RootCAs(), MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2: true,
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func newClient(t *testing.T, a *simulator.Server, httpClient *http.Client, credential azcore.TokenCredential) *client {
	t.Helper()
	armClient, err := arm.NewClient("simulator_test", "v0.0.0", credential, &arm.ClientOptions{
		ClientOptions:         azcore.ClientOptions{Cloud: a.Cloud(), Transport: httpClient, Retry: policy.RetryOptions{MaxRetries: -1}},
		DisableRPRegistration: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	return &client{t: t, http: httpClient, arm: armClient, url: a.URL()}
}

// get sends a request through the SDK's pipeline, with a token.
func (c *client) get(url string) (*http.Response, error) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	c.t.Cleanup(cancel)
	return c.getContext(ctx, url)
}

func (c *client) getContext(ctx context.Context, url string) (*http.Response, error) {
	c.t.Helper()
	if strings.HasPrefix(url, "/") {
		url = c.url + url
	}
	request, err := runtime.NewRequest(ctx, http.MethodGet, url)
	if err != nil {
		c.t.Fatal(err)
	}
	runtime.SkipBodyDownload(request)
	return c.arm.Pipeline().Do(request)
}

// body returns status and body of a GET with a token.
func (c *client) body(url string) (*http.Response, string) {
	c.t.Helper()
	response, err := c.get(url)
	if err != nil {
		c.t.Fatalf("GET %s: %v", url, err)
	}
	return response, c.read(response)
}

func (c *client) read(response *http.Response) string {
	c.t.Helper()
	defer func() { _ = response.Body.Close() }()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatalf("reading: %v", err)
	}
	return string(b)
}

type item struct {
	ID             string
	Name           string
	Type           string
	SubscriptionID string
	DisplayName    string
	State          string
	TenantID       string
	Properties     struct {
		DisplayName                string
		Score                      struct{ Max, Current, Percentage float64 }
		HealthyResourceCount       int
		UnhealthyResourceCount     int
		NotApplicableResourceCount int
		Weight                     int
	}
}

// list follows the pages of a list and returns the items and the number of pages.
func (c *client) list(url string) (items []item, pages int) {
	c.t.Helper()
	for url != "" {
		response, body := c.body(url)
		var page struct {
			Value    []item
			NextLink string
		}
		if err := json.Unmarshal([]byte(body), &page); err != nil || response.StatusCode != http.StatusOK {
			c.t.Fatalf("GET %s: %d %v: %s", url, response.StatusCode, err, body)
		}
		items = append(items, page.Value...)
		pages++
		url = page.NextLink
	}
	return items, pages
}

const subscriptionsPath = "/subscriptions?api-version=2022-12-01"

func scoresPath(id string) string {
	return "/subscriptions/" + id + "/providers/Microsoft.Security/secureScores?api-version=2020-01-01"
}

func controlsPath(id string) string {
	return "/subscriptions/" + id + "/providers/Microsoft.Security/secureScoreControls?api-version=2020-01-01"
}

func controlsOfScorePath(id, score string) string {
	return "/subscriptions/" + id + "/providers/Microsoft.Security/secureScores/" + score + "/secureScoreControls?api-version=2020-01-01"
}

func TestListsThroughTheSDK(t *testing.T) {
	tenant := simulator.Generate(7, 16)
	tenant.PageSize = 3
	a, c := start(t, tenant)

	subscriptions, pages := c.list(subscriptionsPath)
	if len(subscriptions) != 7 || pages != 3 {
		t.Fatalf("got %d subscriptions on %d pages, want 7 on 3", len(subscriptions), pages)
	}
	for i, s := range tenant.Subscriptions {
		got := subscriptions[i]
		if got.SubscriptionID != s.ID || got.ID != "/subscriptions/"+s.ID || got.DisplayName != s.Name || got.State != "Enabled" || got.TenantID != simulator.TenantID {
			t.Errorf("subscription %d is %+v", i, got)
		}

		scores, _ := c.list(scoresPath(s.ID))
		if len(scores) != 1 {
			t.Fatalf("got %d scores", len(scores))
		}
		if want := "/subscriptions/" + s.ID + "/providers/Microsoft.Security/secureScores/ascScore"; scores[0].ID != want || scores[0].Name != "ascScore" {
			t.Errorf("score is called %q, %q", scores[0].ID, scores[0].Name)
		}
		checkScore(t, s.Name, scores[0], s.Score(), s.Weight())

		for _, path := range []string{controlsPath(s.ID), controlsOfScorePath(s.ID, "ascScore")} {
			controls, pages := c.list(path)
			if len(controls) != 16 || pages != 6 {
				t.Fatalf("got %d controls on %d pages, want 16 on 6", len(controls), pages)
			}
			for j, control := range s.Controls {
				got := controls[j]
				if want := scores[0].ID + "/secureScoreControls/" + control.ID; got.ID != want || got.Name != control.ID {
					t.Errorf("control is called %q, %q; want %q", got.ID, got.Name, want)
				}
				checkScore(t, control.DisplayName, got, control.Score(), control.Weight())
				p := got.Properties
				if p.DisplayName != control.DisplayName || p.HealthyResourceCount != control.Healthy || p.UnhealthyResourceCount != control.Unhealthy || p.NotApplicableResourceCount != control.NotApplicable {
					t.Errorf("control %+v, want %+v", p, control)
				}
			}
		}
	}

	want := map[string]int{"openid_configuration": 1, "token": 1, "list_subscriptions": 3, "list_secure_scores": 7, "list_secure_score_controls": 7 * 2 * 6}
	if got := a.Requests(); !reflect.DeepEqual(got, want) {
		t.Errorf("requests %v, want %v", got, want)
	}
	if got := a.MaxInFlight(); got != 1 {
		t.Errorf("%d requests in flight, want 1", got)
	}
	a.ResetRequests()
	if got := a.Requests(); len(got) != 0 || a.MaxInFlight() != 0 {
		t.Errorf("after the reset: %v, %d in flight", got, a.MaxInFlight())
	}
}

func checkScore(t *testing.T, name string, got item, want simulator.Score, weight int) {
	t.Helper()
	s := got.Properties.Score
	if s.Max != want.Max || s.Current != want.Current || s.Percentage != want.Ratio || got.Properties.Weight != weight {
		t.Errorf("%s has %+v and weight %d, want %+v and %d", name, s, got.Properties.Weight, want, weight)
	}
}

func TestFormula(t *testing.T) {
	for _, test := range []struct {
		name    string
		control simulator.Control
		want    simulator.Score
	}{
		{"the documentation's example", simulator.Control{Max: 4, Healthy: 6, Unhealthy: 72}, simulator.Score{Max: 4, Current: 0.31, Ratio: 0.0775}},
		{"the specification's example", simulator.Control{Max: 4, Healthy: 5, Unhealthy: 1, NotApplicable: 3}, simulator.Score{Max: 4, Current: 3.33, Ratio: 0.8325}},
		{"all healthy", simulator.Control{Max: 10, Healthy: 3}, simulator.Score{Max: 10, Current: 10, Ratio: 1}},
		{"no resource that counts", simulator.Control{Max: 2, NotApplicable: 1}, simulator.Score{}},
		{"no points to earn", simulator.Control{Healthy: 7}, simulator.Score{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.control.Score(); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestCredentials(t *testing.T) {
	a, c := start(t, simulator.Generate(1, 1))
	options := azcore.ClientOptions{Cloud: a.Cloud(), Transport: c.http}
	tokenFile := filepath.Join(t.TempDir(), "token")

	workload := func(token string) azcore.TokenCredential {
		if err := os.WriteFile(tokenFile, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
		credential, err := azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{
			ClientOptions: options, TenantID: simulator.TenantID, ClientID: simulator.ClientID, TokenFilePath: tokenFile, DisableInstanceDiscovery: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		return credential
	}
	secret := func(tenant, client, secret string) azcore.TokenCredential {
		credential, err := azidentity.NewClientSecretCredential(tenant, client, secret, &azidentity.ClientSecretCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: true})
		if err != nil {
			t.Fatal(err)
		}
		return credential
	}
	for _, test := range []struct {
		name       string
		credential azcore.TokenCredential
		scope      string
		want       string // part of the error; empty for a token
	}{
		{"workload identity", workload(simulator.FederatedToken), a.URL() + "/.default", ""},
		{"client secret", secret(simulator.TenantID, simulator.ClientID, simulator.ClientSecret), a.URL() + "/.default", ""},
		{"wrong secret", secret(simulator.TenantID, simulator.ClientID, "wrong"), a.URL() + "/.default", "AADSTS7000215"},
		{"wrong client", secret(simulator.TenantID, simulator.TenantID, simulator.ClientSecret), a.URL() + "/.default", "AADSTS700016"},
		{"wrong tenant", secret(simulator.ClientID, simulator.ClientID, simulator.ClientSecret), a.URL() + "/.default", "AADSTS90002"},
		{"wrong scope", secret(simulator.TenantID, simulator.ClientID, simulator.ClientSecret), "https://graph.microsoft.com/.default", "AADSTS70011"},
	} {
		t.Run(test.name, func(t *testing.T) {
			token, err := test.credential.GetToken(context.Background(), policy.TokenRequestOptions{Scopes: []string{test.scope}})
			if test.want != "" {
				var failed *azidentity.AuthenticationFailedError
				if !errors.As(err, &failed) || !strings.Contains(err.Error(), test.want) {
					t.Errorf("got error %v, want one with %s", err, test.want)
				}
				return
			}
			if err != nil || !strings.HasPrefix(token.Token, simulator.TokenPrefix) {
				t.Errorf("got token %q, error %v", token.Token, err)
			}
		})
	}

	wrong := workload("wrong")
	if _, err := wrong.GetToken(context.Background(), policy.TokenRequestOptions{Scopes: []string{a.URL() + "/.default"}}); err == nil || !strings.Contains(err.Error(), "AADSTS700213") {
		t.Errorf("wrong federated token: %v", err)
	}
}

func TestARMRefuses(t *testing.T) {
	tenant := simulator.Generate(1, 1)
	id := tenant.Subscriptions[0].ID
	a, c := start(t, tenant)
	c.list(subscriptionsPath) // makes a token
	token := accessToken(t, a, c)

	for _, test := range []struct {
		name, method, path, authorization string
		status                            int
		want                              string
	}{
		{"no token", "GET", subscriptionsPath, "", 401, `"code":"AuthenticationFailed"`},
		{"no bearer", "GET", subscriptionsPath, "Basic eDp5", 401, `"code":"AuthenticationFailed"`},
		{"unknown token", "GET", scoresPath(id), "Bearer nonsense", 401, `"code":"InvalidAuthenticationToken"`},
		{"other method", "POST", subscriptionsPath, "Bearer " + token, 405, "does not support http method 'POST'"},
		{"no API version", "GET", "/subscriptions", "Bearer " + token, 400, `"code":"MissingApiVersionParameter"`},
		{"wrong API version", "GET", "/subscriptions?api-version=2020-01-01", "Bearer " + token, 400, `"code":"InvalidApiVersionParameter"`},
		{"wrong API version of the provider", "GET", strings.Replace(scoresPath(id), "2020-01-01", "2022-12-01", 1), "Bearer " + token, 400, `"code":"NoRegisteredProviderFound"`},
		{"malformed subscription", "GET", scoresPath("nonsense"), "Bearer " + token, 400, `"code":"InvalidSubscriptionId"`},
		{"unknown subscription", "GET", scoresPath(simulator.DemoSampleID), "Bearer " + token, 404, `"code":"SubscriptionNotFound"`},
		{"unknown score", "GET", controlsOfScorePath(id, "other"), "Bearer " + token, 404, `{"Error":{"Code":"ResourceNotFound"`},
		{"unknown path", "GET", "/providers?api-version=2022-12-01", "Bearer " + token, 404, `"code":"InvalidResourceType"`},
		{"bad skip token", "GET", subscriptionsPath + "&$skiptoken=%21", "Bearer " + token, 400, `"code":"InvalidSkipToken"`},
		{"any case", "GET", strings.ToUpper(strings.TrimSuffix(scoresPath(id), "?api-version=2020-01-01")) + "?api-version=2020-01-01", "Bearer " + token, 200, `"name":"ascScore"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			request, err := http.NewRequest(test.method, a.URL()+test.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if test.authorization != "" {
				request.Header.Set("Authorization", test.authorization)
			}
			response, err := c.http.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			body := c.read(response)
			if response.StatusCode != test.status || !strings.Contains(body, test.want) {
				t.Errorf("got %d %s, want %d with %s", response.StatusCode, body, test.status, test.want)
			}
			if response.ProtoMajor != 2 {
				t.Errorf("spoken over %s, want HTTP/2", response.Proto)
			}
			if challenge := response.Header.Get("WWW-Authenticate"); (challenge != "") != (test.status == 401) {
				t.Errorf("%d with challenge %q", test.status, challenge)
			}
		})
	}
}

func accessToken(t *testing.T, a *simulator.Server, c *client) string {
	t.Helper()
	credential, err := a.Credential(azcore.ClientOptions{Transport: c.http})
	if err != nil {
		t.Fatal(err)
	}
	token, err := credential.GetToken(context.Background(), policy.TokenRequestOptions{Scopes: []string{a.URL() + "/.default"}})
	if err != nil {
		t.Fatal(err)
	}
	return token.Token
}

func TestInstanceDiscovery(t *testing.T) {
	a, c := start(t, simulator.Tenant{})
	response, err := c.http.Get(a.URL() + "/common/discovery/instance?api-version=1.1")
	if err != nil {
		t.Fatal(err)
	}
	if body := c.read(response); !strings.Contains(body, `"tenant_discovery_endpoint":"`+a.URL()) {
		t.Error(body)
	}
	if got := a.Requests()["instance_discovery"]; got != 1 {
		t.Errorf("counted %d requests", got)
	}
}

func TestExpireTokens(t *testing.T) {
	a, c := start(t, simulator.Generate(1, 1))
	c.list(subscriptionsPath)
	a.ExpireTokens()
	response, body := c.body(subscriptionsPath)
	if response.StatusCode != 401 || !strings.Contains(body, "ExpiredAuthenticationToken") {
		t.Errorf("got %d %s", response.StatusCode, body)
	}
}

func TestQuotaHeaders(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var mu sync.Mutex
	tenant := simulator.Generate(2, 1)
	tenant.Now = func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}
	_, c := start(t, tenant)
	remaining := func(path, header string) string {
		response, _ := c.body(path)
		return response.Header.Get("x-ms-ratelimit-remaining-" + header)
	}
	first, second := tenant.Subscriptions[0].ID, tenant.Subscriptions[1].ID
	for _, test := range []struct{ path, header, want string }{
		{subscriptionsPath, "tenant-reads", "249"},
		{subscriptionsPath, "tenant-global-reads", "3748"},
		{scoresPath(first), "subscription-reads", "249"},
		{controlsPath(first), "subscription-reads", "248"},
		{scoresPath(second), "subscription-global-reads", "3749"},
	} {
		if got := remaining(test.path, test.header); got != test.want {
			t.Errorf("%s after %s: %s, want %s", test.header, test.path, got, test.want)
		}
	}
	mu.Lock()
	now = now.Add(time.Second)
	mu.Unlock()
	if got := remaining(scoresPath(first), "subscription-reads"); got != "249" {
		t.Errorf("after a second's refill: %s, want 249", got)
	}
}

func TestSubscriptionsComeAndGo(t *testing.T) {
	a, c := start(t, simulator.Generate(2, 1))
	id := "aaaaaaaa-0000-4000-8000-000000000001"
	added := simulator.Subscription{ID: strings.ToUpper(id), Name: "added", Controls: []simulator.Control{{ID: "x", Max: 4, Healthy: 1, Unhealthy: 1}}}
	a.SetSubscription(added)
	if got, _ := c.list(subscriptionsPath); len(got) != 3 || got[2].SubscriptionID != id {
		t.Errorf("after it was added: %+v", got)
	}
	if got, _ := c.list(scoresPath(id)); len(got) != 1 || got[0].Properties.Score.Current != 2 {
		t.Errorf("its score: %+v", got)
	}

	a.SetSubscription(simulator.Subscription{ID: id, Name: "changed", State: "Disabled", NoScore: true, Controls: added.Controls})
	if got, _ := c.list(subscriptionsPath); len(got) != 3 || got[2].DisplayName != "changed" || got[2].State != "Disabled" {
		t.Errorf("after it changed: %+v", got)
	}
	for _, path := range []string{scoresPath(id), controlsPath(id)} {
		if got, _ := c.list(path); len(got) != 0 {
			t.Errorf("%s without a score: %+v", path, got)
		}
	}
	if response, body := c.body(controlsOfScorePath(id, "ascScore")); response.StatusCode != 404 {
		t.Errorf("controls of the score that is not: %d %s", response.StatusCode, body)
	}

	a.RemoveSubscription(id)
	if got, _ := c.list(subscriptionsPath); len(got) != 2 {
		t.Errorf("after it was removed: %+v", got)
	}
	if response, body := c.body(scoresPath(id)); response.StatusCode != 404 || !strings.Contains(body, "SubscriptionNotFound") {
		t.Errorf("its score: %d %s", response.StatusCode, body)
	}
}

func TestMaxInFlight(t *testing.T) {
	tenant := simulator.Generate(5, 1)
	a, c := start(t, tenant)
	c.list(subscriptionsPath) // makes a token, so that the requests below need not wait for one
	var arrived, done sync.WaitGroup
	arrived.Add(5)
	together := func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		arrived.Done()
		arrived.Wait()
		next.ServeHTTP(w, r)
	}
	for _, s := range tenant.Subscriptions {
		a.SetFault(s.ID, together)
		done.Go(func() {
			if response, err := c.get(scoresPath(s.ID)); err != nil {
				t.Error(err)
			} else {
				_ = response.Body.Close()
			}
		})
	}
	done.Wait()
	if got := a.MaxInFlight(); got != 5 {
		t.Errorf("got %d, want 5", got)
	}
}

func TestLatency(t *testing.T) {
	tenant := simulator.Generate(1, 1)
	tenant.Latency = 50 * time.Millisecond
	_, c := start(t, tenant)
	begin := time.Now()
	c.list(subscriptionsPath)
	if took := time.Since(begin); took < tenant.Latency {
		t.Errorf("took %s", took)
	}
}

func TestCloseReleasesHangingRequests(t *testing.T) {
	tenant := simulator.Generate(1, 1)
	id := tenant.Subscriptions[0].ID
	a, c := start(t, tenant)
	arrived := make(chan struct{})
	hang := simulator.Hang()
	a.SetFault(id, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		close(arrived)
		hang(w, r, next)
	})
	failed := make(chan error, 1)
	go func() {
		_, err := c.get(scoresPath(id))
		failed <- err
	}()
	<-arrived
	a.Close()
	if err := <-failed; err == nil {
		t.Error("the hanging request was answered")
	}
}

func TestDemo(t *testing.T) {
	tenant := simulator.Demo()
	tenant.Now = func() time.Time { return time.Date(2026, 6, 30, 0, 0, 0, 0, time.UTC) }
	_, c := start(t, tenant)
	subscriptions, _ := c.list(subscriptionsPath)
	var worst, best float64 = 1, 0
	for _, s := range subscriptions {
		response, body := c.body(scoresPath(s.SubscriptionID))
		switch s.SubscriptionID {
		case simulator.DemoForbiddenID:
			if response.StatusCode != 403 || !strings.Contains(body, "AuthorizationFailed") {
				t.Errorf("%s: %d %s", s.DisplayName, response.StatusCode, body)
			}
			continue
		case simulator.DemoUnscoredID, simulator.DemoDisabledID:
			if response.StatusCode != 200 || body != `{"value":[]}` {
				t.Errorf("%s: %d %s", s.DisplayName, response.StatusCode, body)
			}
			continue
		case simulator.DemoSampleID:
			if want := `"score":{"max":55,"current":37.0,"percentage":0.6727}`; !strings.Contains(body, want) {
				t.Errorf("the sample's score is %s, want %s", body, want)
			}
			_, controls := c.body(controlsPath(s.SubscriptionID))
			if want := `"displayName":"Protect applications against DDoS attacks","score":{"max":2,"current":0.0,"percentage":0.0},"healthyResourceCount":0,"unhealthyResourceCount":0,"notApplicableResourceCount":1`; !strings.Contains(controls, want) {
				t.Errorf("the sample's controls are %s, want %s among them", controls, want)
			}
		}
		scores, _ := c.list(scoresPath(s.SubscriptionID))
		ratio := scores[0].Properties.Score.Percentage
		worst, best = min(worst, ratio), max(best, ratio)
		if controls, _ := c.list(controlsPath(s.SubscriptionID)); len(controls) != 15 {
			t.Errorf("%s has %d controls, want 15", s.DisplayName, len(controls))
		}
	}
	if worst > 0.5 || best < 0.9 {
		t.Errorf("scores from %g to %g are no spread", worst, best)
	}
}

func TestDriftStaysWithinTheFormula(t *testing.T) {
	begin := time.Date(2026, 6, 30, 0, 0, 0, 0, time.UTC)
	for _, s := range simulator.Demo().Subscriptions {
		seen := map[float64]bool{}
		for minute := range 120 {
			at := begin.Add(time.Duration(minute) * time.Minute)
			drifted := s.At(at)
			if again := s.At(at.In(time.FixedZone("elsewhere", 3600))); !reflect.DeepEqual(drifted, again) {
				t.Fatalf("%s differs from itself at %s", s.Name, at)
			}
			for i, c := range drifted.Controls {
				original := s.Controls[i]
				if c.Weight() != original.Weight() || c.Healthy < 0 || c.Unhealthy < 0 || c.NotApplicable != original.NotApplicable {
					t.Fatalf("%s: %+v became %+v", s.Name, original, c)
				}
				if moved := c.Healthy - original.Healthy; moved > original.Drift || -moved > original.Drift {
					t.Fatalf("%s: %d resources moved, at most %d may", c.DisplayName, moved, original.Drift)
				}
			}
			seen[drifted.Score().Current] = true
		}
		moves := len(s.Controls) > 0 && s.ID != simulator.DemoSampleID
		if moves && len(seen) < 5 {
			t.Errorf("%s had only %d scores in two hours", s.Name, len(seen))
		}
		if !moves && len(seen) != 1 {
			t.Errorf("%s should stand still but had %d scores", s.Name, len(seen))
		}
	}
}

func TestGenerateIsTheSameEveryTime(t *testing.T) {
	a, b := simulator.Generate(20, 16), simulator.Generate(20, 16)
	if !reflect.DeepEqual(a, b) {
		t.Error("two tenants differ")
	}
	scores, ids := map[simulator.Score]bool{}, map[string]bool{}
	for _, s := range a.Subscriptions {
		scores[s.Score()] = true
		for _, c := range s.Controls {
			ids[s.ID+c.ID] = true
		}
	}
	if len(scores) != 20 || len(ids) != 20*16 {
		t.Errorf("%d different scores and %d different controls, want 20 and 320", len(scores), len(ids))
	}
}

func TestCertificateForAnotherProcess(t *testing.T) {
	a, _ := start(t, simulator.Tenant{})
	if pem := a.CertificatePEM(); !a.RootCAs().Equal(poolOf(t, pem)) {
		t.Errorf("%s is another certificate", pem)
	}
}
