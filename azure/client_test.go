package azure

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/go-kit/log"
	"go.uber.org/goleak"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs a simulated Azure and a client of it.
func start(t *testing.T, tenant simulator.Tenant, cfg Config) (*simulator.Server, *Client) {
	t.Helper()
	sim, err := simulator.Start(tenant)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	cfg.Cloud, cfg.PrivateCloud, cfg.RootCAs = sim.Cloud(), true, sim.RootCAs()
	if cfg.Credential == nil {
		cfg.Credential = sim.Credential
	}
	client, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return sim, client
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func ids(tenant simulator.Tenant) []string {
	var ids []string
	for _, s := range tenant.Subscriptions {
		ids = append(ids, s.ID)
	}
	return ids
}

// Each awkward answer has one reason, whichever way it goes wrong.
func TestReasons(t *testing.T) {
	elsewhere := httptest.NewTLSServer(http.NotFoundHandler())
	defer elsewhere.Close()
	for name, test := range map[string]struct {
		fault simulator.Fault
		want  Reason
		text  string // in the error
	}{
		"wrong tenant":              {simulator.WrongTenant(), ReasonAuthentication, "HTTP 401 InvalidAuthenticationTokenTenant"},
		"expired token":             {simulator.ExpiredToken(), ReasonAuthentication, "HTTP 401 ExpiredAuthenticationToken"},
		"challenge not understood":  {simulator.Challenge("eyJh-_ not base64"), ReasonAuthentication, ": HTTP 401"},
		"forbidden":                 {simulator.Forbidden(), ReasonForbidden, "HTTP 403 AuthorizationFailed"},
		"controls forbidden":        {simulator.OnControls(simulator.Forbidden()), ReasonForbidden, "list secure score controls of subscription"},
		"gone":                      {simulator.SubscriptionNotFound(), ReasonNotFound, "HTTP 404 SubscriptionNotFound"},
		"other 404":                 {simulator.Body(404, "text/html", "<html>"), ReasonNotFound, "HTTP 404"},
		"not registered":            {simulator.NotRegistered(), ReasonNotRegistered, "HTTP 409 MissingSubscriptionRegistration"},
		"no such namespace":         {simulator.InvalidNamespace(404), ReasonNotRegistered, "HTTP 404 InvalidResourceNamespace"},
		"throttled for minutes":     {simulator.Throttle(-1, 372*time.Second), ReasonThrottled, "HTTP 429 ResourceRequestsThrottled"},
		"throttled for ever":        {simulator.Throttle(-1, time.Second), ReasonThrottled, "HTTP 429"},
		"throttled, no Retry-After": {simulator.Throttle(-1, 0), ReasonThrottled, "HTTP 429"},
		"server error":              {simulator.ServerError(500), ReasonServerError, "HTTP 500 InternalServerError"},
		"unavailable":               {simulator.ServerError(503), ReasonServerError, "HTTP 503"},
		"hang":                      {simulator.Hang(), ReasonTimeout, "deadline exceeded"},
		"slow":                      {simulator.Slow(time.Minute), ReasonTimeout, "deadline exceeded"},
		"garbage":                   {simulator.Garbage(), ReasonInvalidResponse, "invalid character"},
		"cut short":                 {simulator.Truncated(), ReasonNetwork, ""},
		"half a document":           {simulator.Body(200, "application/json", `{"value":[{"name":`), ReasonInvalidResponse, "unexpected end"},
		"no object":                 {simulator.Body(200, "application/json", `[]`), ReasonInvalidResponse, "cannot unmarshal"},
		"huge":                      {simulator.Huge(1<<30, true), ReasonInvalidResponse, "larger than 8388608 bytes"},
		"huge, length not told":     {simulator.Huge(1<<30, false), ReasonInvalidResponse, "larger than 8388608 bytes"},
		"gzip bomb":                 {simulator.GzipBomb(1 << 30), ReasonInvalidResponse, "larger than 8388608 bytes"},
		"text for a number":         {simulator.Number("max", `"58"`), ReasonInvalidResponse, "cannot unmarshal string"},
		"NaN":                       {simulator.Number("max", "NaN"), ReasonInvalidResponse, "invalid character"},
		"infinite":                  {simulator.Number("max", "1e400"), ReasonInvalidResponse, "cannot unmarshal number"},
		"negative":                  {simulator.Number("current", "-1"), ReasonInvalidResponse, "makes no sense"},
		"absurd":                    {simulator.Number("healthyResourceCount", "1e10"), ReasonInvalidResponse, "makes no sense"},
		"nextLink to itself":        {simulator.NextLinkToItself(), ReasonInvalidResponse, "already read"},
		"endless pages":             {simulator.EndlessPages(), ReasonInvalidResponse, "more than 100 pages"},
		"nextLink elsewhere":        {simulator.NextLink(elsewhere.URL + "/x"), ReasonInvalidResponse, "another host"},
		"nextLink not https":        {simulator.NextLink("http://127.0.0.1/x"), ReasonInvalidResponse, "not https"},
		"redirect":                  {simulator.Redirect(elsewhere.URL), ReasonInvalidResponse, "HTTP 307"},
		"unexpected success":        {simulator.Body(204, "", ""), ReasonInvalidResponse, "HTTP 204"},
		"control without ID":        {simulator.OnControls(simulator.Body(200, "application/json", `{"value":[{}]}`)), ReasonInvalidResponse, "no ID"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenant := simulator.Generate(1, 4)
			sim, client := start(t, tenant, Config{})
			sim.SetFault(ids(tenant)[0], test.fault)
			deadline := 30 * time.Second // for a busy machine
			if test.want == ReasonTimeout {
				deadline = 3 * time.Second
			}
			began := time.Now()
			o := client.SecureScores(within(t, deadline), ids(tenant))[0]
			if got := ReasonOf(o.Err); got != test.want {
				t.Errorf("reason %q, want %q (%v)", got, test.want, o.Err)
			}
			if o.Err == nil || !strings.Contains(o.Err.Error(), test.text) || strings.Contains(o.Err.Error(), "\n") {
				t.Errorf("error %q, want one line with %q", o.Err, test.text)
			}
			if took := time.Since(began); took > deadline+7*time.Second {
				t.Errorf("took %s with a deadline of %s", took, deadline)
			}
		})
	}
}

// What looks like a failure and is none.
func TestNoFailure(t *testing.T) {
	for name, test := range map[string]struct {
		fault  simulator.Fault
		scores int
		check  func(Result) bool
	}{
		"empty lists":           {simulator.EmptyList(), 0, func(o Result) bool { return len(o.Controls) == 0 }},
		"no score, by 404":      {simulator.ScoreNotFound(), 0, func(o Result) bool { return len(o.Controls) == 0 }},
		"null score":            {simulator.NullScore(), 0, func(o Result) bool { return len(o.Controls) == 4 && o.Controls[0].Points == nil }},
		"empty score":           {simulator.EmptyScore(), 0, func(o Result) bool { return len(o.Controls) == 4 }},
		"fraction":              {simulator.OnScores(simulator.Number("max", "58.5")), 1, func(o Result) bool { return o.Scores[0].Max == 58.5 }},
		"fraction of zero":      {simulator.OnScores(simulator.Number("max", "58.0")), 1, func(o Result) bool { return o.Scores[0].Max == 58 }},
		"maximum of zero":       {simulator.OnScores(simulator.Number("max", "0")), 1, func(o Result) bool { return o.Scores[0].Ratio == 0 }},
		"throttled once":        {simulator.Throttle(1, time.Second), 1, nil},
		"unavailable once":      {simulator.Times(1, simulator.ServerError(503)), 1, nil},
		"cut short once":        {simulator.Times(1, simulator.Truncated()), 1, nil},
		"the same twice":        {simulator.Duplicate(), 2, func(o Result) bool { return len(o.Controls) == 5 }},
		"name with a newline":   {simulator.ControlName("a\nb"), 1, func(o Result) bool { return o.Controls[0].Name == "a b" }},
		"name with a quote":     {simulator.ControlName(`a"b\c`), 1, func(o Result) bool { return o.Controls[0].Name == `a"b\c` }},
		"name of 10 KB":         {simulator.ControlName(strings.Repeat("ä", 5000)), 1, func(o Result) bool { return o.Controls[0].Name == strings.Repeat("ä", 255)+"…" }},
		"name of other bytes":   {simulator.ControlName("a\xff\xfeb"), 1, func(o Result) bool { return o.Controls[0].Name == "a\ufffd\ufffdb" }},
		"published without %":   {simulator.Replace(`,"percentage":[0-9.]+`, ""), 1, func(o Result) bool { s := o.Scores[0]; return s.Ratio > 0 && s.Ratio-s.Current/s.Max < 0.0001 }},
		"real percentage":       {simulator.Number("percentage", "67.3"), 1, func(o Result) bool { s := o.Scores[0]; return s.Ratio > 0 && s.Ratio-s.Current/s.Max < 0.0001 }},
		"value is null":         {simulator.Body(200, "application/json", `{"value":null}`), 0, nil},
		"nothing but an object": {simulator.Body(200, "application/json", `{}`), 0, nil},
		"byte order mark":       {simulator.Body(200, "application/json", "\ufeff{}"), 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenant := simulator.Generate(1, 4)
			sim, client := start(t, tenant, Config{})
			sim.SetFault(ids(tenant)[0], test.fault)
			o := client.SecureScores(within(t, 10*time.Second), ids(tenant))[0]
			if o.Err != nil || len(o.Scores) != test.scores {
				t.Fatalf("%d scores and error %v, want %d scores", len(o.Scores), o.Err, test.scores)
			}
			if test.check != nil && !test.check(o) {
				t.Errorf("wrong outcome: %+v", o)
			}
		})
	}
}

// What arrives is what Azure has, however it is paged, and no more calls are in
// flight than allowed.
func TestValues(t *testing.T) {
	tenant := simulator.Generate(50, 15)
	tenant.PageSize = 3
	tenant.Latency = 5 * time.Millisecond
	sim, client := start(t, tenant, Config{Concurrency: 7})
	ctx := within(t, time.Minute)
	subscriptions, err := client.Subscriptions(ctx)
	if err != nil || len(subscriptions) != 50 {
		t.Fatalf("%d subscriptions, error %v", len(subscriptions), err)
	}
	outcomes := client.SecureScores(ctx, ids(tenant))
	for i, want := range tenant.Subscriptions {
		if got := subscriptions[i]; got.ID != want.ID || got.Name != want.Name || got.State != "Enabled" || got.TenantID != simulator.TenantID {
			t.Errorf("subscription %d is %+v, want %+v", i, got, want)
		}
		o := outcomes[i]
		if o.Err != nil || len(o.Scores) != 1 || len(o.Controls) != 15 {
			t.Fatalf("subscription %d: %d scores, %d controls, error %v", i, len(o.Scores), len(o.Controls), o.Err)
		}
		score := want.Score()
		wantScore := Score{Initiative: "ascScore", Environment: "Azure", Points: Points{score.Current, score.Max}, Ratio: score.Ratio, Weight: float64(want.Weight())}
		if o.Scores[0] != wantScore {
			t.Errorf("subscription %d: score %+v, want %+v", i, o.Scores[0], wantScore)
		}
		for n, c := range want.Controls {
			got := o.Controls[n]
			points := *got.Points
			got.Points = nil
			wantControl := Control{
				ID: c.ID, Name: c.DisplayName, Initiative: "ascScore", Environment: "Azure", Weight: float64(c.Weight()),
				Healthy: float64(c.Healthy), Unhealthy: float64(c.Unhealthy), NotApplicable: float64(c.NotApplicable),
			}
			if got != wantControl || points != (Points{c.Score().Current, c.Score().Max}) {
				t.Errorf("subscription %d: control %+v %+v, want %+v %+v", i, got, points, wantControl, c.Score())
			}
		}
	}
	if got := sim.MaxInFlight(); got > 7 || got < 5 {
		t.Errorf("%d calls were in flight, want up to 7 and near it", got)
	}
	// 17 pages of subscriptions, and for each of them one page of scores and 5 of controls.
	requests := sim.Requests()
	if requests[simulator.RouteSubscriptions] != 17 || requests[simulator.RouteSecureScores] != 50 || requests[simulator.RouteControls] != 250 {
		t.Errorf("requests: %v", requests)
	}
	if requests[simulator.RouteToken] != 1 {
		t.Errorf("%d tokens were asked for, want 1", requests[simulator.RouteToken])
	}
}

// A sovereign list: explicit subscriptions need no permission to list.
func TestConfiguredSubscriptions(t *testing.T) {
	tenant := simulator.Generate(2, 1)
	hidden := "99999999-0000-4000-8000-000000000000"
	cfg := Config{SubscriptionIDs: []string{tenant.Subscriptions[1].ID, hidden}}
	sim, client := start(t, tenant, cfg)
	ctx := within(t, 30*time.Second)
	got, err := client.Subscriptions(ctx)
	if err != nil || len(got) != 2 || got[0].Name != tenant.Subscriptions[1].Name || got[1] != (Subscription{ID: hidden}) {
		t.Errorf("got %+v, %v", got, err)
	}
	sim.SetListFault(simulator.Forbidden())
	got, err = client.Subscriptions(ctx)
	if err != nil || len(got) != 2 || got[0] != (Subscription{ID: cfg.SubscriptionIDs[0]}) {
		t.Errorf("without permission to list: got %+v, %v", got, err)
	}
	sim.SetListFault(simulator.ServerError(500))
	if _, err = client.Subscriptions(ctx); ReasonOf(err) != ReasonServerError {
		t.Errorf("with a broken list: %v", err)
	}
}

func TestListOfSubscriptionsIsData(t *testing.T) {
	_, client := start(t, simulator.Tenant{}, Config{})
	sim, client2 := start(t, simulator.Tenant{}, Config{})
	sim.SetListFault(simulator.Body(200, "application/json", `{"value":[{"subscriptionId":"../../x"},{},7,null,
		{"subscriptionId":"AAAAAAAA-0000-4000-8000-000000000002","state":5},
		{"subscriptionId":"AAAAAAAA-0000-4000-8000-000000000001","displayName":"x\ny","state":"Disabled","tenantId":"T"},
		{"subscriptionId":"aaaaaaaa-0000-4000-8000-000000000001","displayName":"again"}]}`))
	ctx := within(t, 10*time.Second)
	if got, err := client.Subscriptions(ctx); ReasonOf(err) != ReasonForbidden || len(got) != 0 {
		t.Errorf("empty tenant: %v, %v", got, err)
	}
	got, err := client2.Subscriptions(ctx)
	want := Subscription{ID: "aaaaaaaa-0000-4000-8000-000000000001", Name: "x y", TenantID: "t", State: "Disabled"}
	if err != nil || len(got) != 1 || got[0] != want || got[0].Active() {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

// The token goes to the ARM host alone, wherever an answer points.
func TestTokenStaysAtHome(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	elsewhere := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, r.Header.Get("Authorization"))
	}))
	defer elsewhere.Close()
	host := strings.TrimPrefix(elsewhere.URL, "https://")
	for name, fault := range map[string]simulator.Fault{
		"nextLink":           simulator.NextLink(elsewhere.URL),
		"nextLink with user": simulator.NextLink("https://127.0.0.1@" + host),
		"nextLink, relative": simulator.NextLink("//" + host + "/subscriptions"),
		"redirect":           simulator.Redirect(elsewhere.URL),
	} {
		tenant := simulator.Generate(1, 1)
		sim, client := start(t, tenant, Config{})
		// The client would reach the other host, if it tried.
		client.http.Transport.(boundedTransport).TLSClientConfig.RootCAs.AddCert(elsewhere.Certificate())
		sim.SetListFault(fault)
		sim.SetFault(ids(tenant)[0], fault)
		ctx := within(t, 10*time.Second)
		if _, err := client.Subscriptions(ctx); ReasonOf(err) != ReasonInvalidResponse {
			t.Errorf("%s: list: %v", name, err)
		}
		if o := client.SecureScores(ctx, ids(tenant))[0]; ReasonOf(o.Err) != ReasonInvalidResponse {
			t.Errorf("%s: scores: %v", name, o.Err)
		}
	}
	if len(seen) != 0 {
		t.Errorf("the other host got %d requests, with %q", len(seen), seen)
	}
}

// An expired secret is tried once, told in one line, and named nowhere.
func TestExpiredSecret(t *testing.T) {
	sim, client := start(t, simulator.Generate(1, 1), Config{})
	sim.SetTokenFault(simulator.ExpiredSecret())
	err := client.Authenticate(within(t, 10*time.Second))
	if ReasonOf(err) != ReasonAuthentication || err.Error() != "get token: the token endpoint answered HTTP 401 AADSTS7000222" {
		t.Errorf("got %v", err)
	}
	if n := sim.Requests()[simulator.RouteToken]; n != 1 {
		t.Errorf("%d requests for a token, want 1", n)
	}
	sim.SetTokenFault(nil)
	if err := client.Authenticate(within(t, 10*time.Second)); err != nil {
		t.Errorf("after the secret was renewed: %v", err)
	}
}

func TestTokenFailures(t *testing.T) {
	for name, test := range map[string]struct {
		fault simulator.Fault
		text  string
	}{
		"wrong secret": {simulator.LoginError(401, "invalid_client", 7000215, "Invalid client secret provided."), "HTTP 401 AADSTS7000215"},
		"server error": {simulator.ServerError(500), "HTTP 500"},
		"garbage":      {simulator.Garbage(), ""},
		"huge":         {simulator.Huge(1<<30, false), ""},
		"hang":         {simulator.Hang(), "deadline exceeded"},
		"redirect":     {simulator.Redirect("https://127.0.0.1:1/"), "HTTP 307"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim, client := start(t, simulator.Tenant{}, Config{})
			sim.SetTokenFault(test.fault)
			err := client.Authenticate(within(t, 3*time.Second))
			if ReasonOf(err) != ReasonAuthentication || !strings.Contains(err.Error(), test.text) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %q (%s), want %q", err, ReasonOf(err), test.text)
			}
			if strings.Contains(err.Error(), "<html") || strings.Contains(err.Error(), simulator.ClientSecret) {
				t.Errorf("the error tells too much: %v", err)
			}
		})
	}
}

// Those who wait for a token leave at their own deadline, and the one attempt
// that they share serves whoever still waits.
func TestWaitingForAToken(t *testing.T) {
	sim, client := start(t, simulator.Tenant{}, Config{})
	sim.SetTokenFault(simulator.Slow(3 * time.Second))
	patient := make(chan error, 1)
	go func() { patient <- client.Authenticate(within(t, 20*time.Second)) }()
	began := time.Now()
	var group sync.WaitGroup
	for range 10 {
		group.Go(func() {
			if err := client.Authenticate(within(t, 50*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("impatient: %v", err)
			}
		})
	}
	group.Wait()
	if time.Since(began) > 2*time.Second {
		t.Errorf("the impatient waited %s", time.Since(began))
	}
	if err := <-patient; err != nil {
		t.Errorf("patient: %v", err)
	}
	if n := sim.Requests()[simulator.RouteToken]; n != 1 {
		t.Errorf("%d requests for a token, want 1", n)
	}
}

// A client that is closed ends the attempt that nobody waits for any more.
func TestCloseEndsTokenAttempt(t *testing.T) {
	sim, client := start(t, simulator.Tenant{}, Config{})
	sim.SetTokenFault(simulator.Hang())
	_ = client.Authenticate(within(t, 50*time.Millisecond))
	began := time.Now()
	client.Close()
	if time.Since(began) > 5*time.Second {
		t.Errorf("Close took %s", time.Since(began))
	}
	if err := client.Authenticate(within(t, time.Second)); ReasonOf(err) != ReasonCanceled {
		t.Errorf("after Close: %v", err)
	}
}

// The credentials that operators use, taken from the environment as azidentity does.
func TestDefaultCredential(t *testing.T) {
	for _, name := range []string{"AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_USERNAME", "AZURE_AUTHORITY_HOST"} {
		t.Setenv(name, "")
	}
	tokenFile := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(tokenFile, []byte(simulator.FederatedToken), 0o600); err != nil {
		t.Fatal(err)
	}
	for kind, environment := range map[string]map[string]string{
		"EnvironmentCredential":      {"AZURE_CLIENT_SECRET": simulator.ClientSecret},
		"WorkloadIdentityCredential": {"AZURE_FEDERATED_TOKEN_FILE": tokenFile},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Setenv("AZURE_TOKEN_CREDENTIALS", kind)
			t.Setenv("AZURE_TENANT_ID", simulator.TenantID)
			t.Setenv("AZURE_CLIENT_ID", simulator.ClientID)
			for key, value := range environment {
				t.Setenv(key, value)
			}
			credential := func(o azcore.ClientOptions) (azcore.TokenCredential, error) {
				return azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{ClientOptions: o, DisableInstanceDiscovery: true})
			}
			_, client := start(t, simulator.Generate(3, 1), Config{Credential: credential})
			ctx := within(t, 20*time.Second)
			if err := client.Authenticate(ctx); err != nil {
				t.Fatal(err)
			}
			if got, err := client.Subscriptions(ctx); err != nil || len(got) != 3 {
				t.Errorf("%d subscriptions, %v", len(got), err)
			}
		})
	}
	t.Run("unreachable", func(t *testing.T) {
		t.Setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
		t.Setenv("AZURE_TENANT_ID", simulator.TenantID)
		t.Setenv("AZURE_CLIENT_ID", simulator.ClientID)
		t.Setenv("AZURE_CLIENT_SECRET", simulator.ClientSecret)
		cloud, err := ParseCloud(CloudCustom, "https://127.0.0.1:1", "https://127.0.0.1:1", "")
		if err != nil {
			t.Fatal(err)
		}
		client, err := New(Config{Cloud: cloud, PrivateCloud: true})
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		err = client.Authenticate(within(t, 10*time.Second))
		if ReasonOf(err) != ReasonAuthentication || !strings.Contains(err.Error(), "127.0.0.1:1: connect") {
			t.Errorf("got %v, want the cause named", err)
		}
	})
	t.Run("none", func(t *testing.T) {
		t.Setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
		t.Setenv("AZURE_TENANT_ID", "")
		client, err := New(Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		err = client.Authenticate(within(t, 5*time.Second))
		if ReasonOf(err) != ReasonAuthentication || !strings.Contains(err.Error(), "AZURE_TENANT_ID") {
			t.Errorf("got %v, want the missing variable named", err)
		}
	})
}

// Every attempt is observed, with what Azure says of its quotas.
func TestObserve(t *testing.T) {
	var mu sync.Mutex
	calls := map[string]int{}
	quota := map[string]float64{}
	tenant := simulator.Generate(1, 1)
	sim, client := start(t, tenant, Config{Observe: func(c Request) {
		mu.Lock()
		defer mu.Unlock()
		calls[c.Operation+" "+c.Code]++
		maps.Copy(quota, c.QuotaRemaining)
		if c.Duration <= 0 {
			t.Errorf("%s took %s", c.Operation, c.Duration)
		}
	}})
	sim.SetFault(ids(tenant)[0], simulator.OnScores(simulator.Times(2, simulator.ServerError(502))))
	sim.SetListFault(simulator.Truncated())
	ctx := within(t, 20*time.Second)
	_, _ = client.Subscriptions(ctx)
	client.SecureScores(ctx, ids(tenant))
	mu.Lock()
	defer mu.Unlock()
	for call, want := range map[string]int{
		"list_subscriptions error": 3, "list_secure_scores 502": 2, "list_secure_scores 200": 1, "list_secure_score_controls 200": 1,
	} {
		if calls[call] != want {
			t.Errorf("%s: %d calls, want %d (%v)", call, calls[call], want, calls)
		}
	}
	if calls["get_token 200"] == 0 {
		t.Errorf("no call for the token: %v", calls)
	}
	if quota["subscription-reads"] == 0 {
		t.Errorf("quotas: %v", quota)
	}
}

func TestQuotaHeaders(t *testing.T) {
	h := http.Header{}
	h.Set("x-ms-ratelimit-remaining-subscription-reads", "249")
	h.Set("x-ms-ratelimit-remaining-resource", "Microsoft.Security/Get3Min;133,Microsoft.Security/Get30Min;690")
	h.Set("x-ms-ratelimit-remaining-tenant-reads", "-1")
	h.Set("x-ms-ratelimit-remaining-"+strings.Repeat("x", 65), "1")
	got := quotaRemaining(h)
	if len(got) != 1 || got["subscription-reads"] != 249 {
		t.Errorf("got %v", got)
	}
}

// At the SDK's most talkative, the log holds no secret, token or body.
func TestLogHoldsNoSecret(t *testing.T) {
	var buffer bytes.Buffer
	LogSDKEvents(log.NewLogfmtLogger(log.NewSyncWriter(&buffer)))
	t.Cleanup(func() { LogSDKEvents(log.NewNopLogger()) })
	tenant := simulator.Generate(1, 1)
	var token string
	sim, client := start(t, tenant, Config{Logger: log.NewLogfmtLogger(log.NewSyncWriter(&buffer))})
	ctx := within(t, 20*time.Second)
	access, err := client.token.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{client.scope}, EnableCAE: true})
	if err != nil {
		t.Fatal(err)
	}
	token = access.Token
	sim.SetFault(ids(tenant)[0], simulator.Times(1, simulator.Error(503, "ServiceUnavailable", "the body of an error")))
	client.SecureScores(ctx, ids(tenant))
	client.Close()
	text := buffer.String()
	if !strings.Contains(text, "event=Retry") {
		t.Errorf("the SDK's events are not in the log: %s", text)
	}
	for _, secret := range []string{token, simulator.ClientSecret, "the body of an error", "Bearer"} {
		if strings.Contains(text, secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
}

func TestParseCloud(t *testing.T) {
	for _, test := range []struct{ name, authority, endpoint, audience, wantEndpoint, wantAudience, wantErr string }{
		{"public", "", "", "", "https://management.azure.com", "https://management.core.windows.net/", ""},
		{"usgovernment", "", "", "", "https://management.usgovcloudapi.net", "https://management.core.usgovcloudapi.net", ""},
		{"china", "", "", "", "https://management.chinacloudapi.cn", "https://management.core.chinacloudapi.cn", ""},
		{"custom", "https://login.local/", "https://arm.local/", "", "https://arm.local", "https://arm.local", ""},
		{"custom", "https://login.local", "https://arm.local:8443", "https://audience.local/", "https://arm.local:8443", "https://audience.local", ""},
		{"custom", "", "https://arm.local", "", "", "", "authority host: address is missing"},
		{"custom", "https://login.local", "http://arm.local", "", "", "", "ARM endpoint"},
		{"custom", "https://login.local", "https://user@arm.local", "", "", "", "ARM endpoint"},
		{"public", "https://login.local", "", "", "", "", "are for the custom cloud"},
		{"moon", "", "", "", "", "", "unknown cloud"},
	} {
		got, err := ParseCloud(test.name, test.authority, test.endpoint, test.audience)
		if test.wantErr != "" {
			if err == nil || !strings.Contains(err.Error(), test.wantErr) {
				t.Errorf("%+v: error %v", test, err)
			}
			continue
		}
		service := got.Services["resourceManager"]
		if err != nil || service.Endpoint != test.wantEndpoint || strings.TrimRight(service.Audience, "/") != strings.TrimRight(test.wantAudience, "/") {
			t.Errorf("%+v: got %+v, %v", test, service, err)
		}
		if _, err := New(Config{Cloud: got}); err != nil {
			t.Errorf("%+v: no client: %v", test, err)
		}
	}
}

// A tenant full of huge answers fails each of its subscriptions, and is bounded all
// the same: those that turn out to be large wait for each other.
func TestAllHuge(t *testing.T) {
	tenant := simulator.Generate(40, 1)
	sim, client := start(t, tenant, Config{})
	for _, id := range ids(tenant)[1:] {
		sim.SetFault(id, simulator.Huge(1<<30, false))
	}
	for i, o := range client.SecureScores(within(t, 4*time.Minute), ids(tenant)) {
		want := ReasonInvalidResponse
		if i == 0 {
			want = ""
		}
		if ReasonOf(o.Err) != want {
			t.Errorf("subscription %d: %v", i, o.Err)
		}
	}
}

// Pages of one list add up.
func TestHugePages(t *testing.T) {
	tenant := simulator.Generate(1, 1)
	sim, client := start(t, tenant, Config{})
	name := strings.Repeat("x", 6<<20)
	var pages atomic.Int64
	sim.SetFault(ids(tenant)[0], simulator.OnControls(func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		fmt.Fprintf(w, `{"value":[{"name":"c%d","properties":{"displayName":"%s"}}],"nextLink":"https://%s%s?api-version=2020-01-01&page=%[1]d"}`, pages.Add(1), name, r.Host, r.URL.Path)
	}))
	o := client.SecureScores(within(t, time.Minute), ids(tenant))[0]
	if ReasonOf(o.Err) != ReasonInvalidResponse || pages.Load() != 3 {
		t.Errorf("%v after %d pages", o.Err, pages.Load())
	}
}

// A large answer that stands still holds up no list of subscriptions, however large.
func TestStandstill(t *testing.T) {
	tenant := simulator.Generate(1500, 1) // some 500 KiB
	sim, client := start(t, tenant, Config{})
	still := make(chan struct{})
	sim.SetFault(ids(tenant)[0], simulator.OnControls(func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		_, _ = io.WriteString(w, strings.Repeat(" ", largeBody+1<<16))
		_ = http.NewResponseController(w).Flush()
		close(still)
		<-r.Context().Done()
	}))
	ctx, stop := context.WithCancel(within(t, time.Minute))
	var reading sync.WaitGroup
	reading.Go(func() { client.SecureScores(ctx, ids(tenant)[:1]) })
	<-still
	time.Sleep(200 * time.Millisecond) // until it is read so far
	if list, err := client.Subscriptions(within(t, 10*time.Second)); err != nil || len(list) != 1500 {
		t.Errorf("%d subscriptions, %v", len(list), err)
	}
	stop()
	reading.Wait()
}

// An identity that is revoked is challenged by every call, and cannot get another
// token: it is tried once and not once for each.
func TestRevoked(t *testing.T) {
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
		for _, o := range client.SecureScores(within(t, time.Minute), ids(tenant)) {
			if ReasonOf(o.Err) != ReasonAuthentication {
				t.Fatal(o.Err)
			}
		}
	}
	if n := sim.Requests()[simulator.RouteToken] - before; n != 1 {
		t.Errorf("the token endpoint was asked %d times", n)
	}
}

// Many small items are refused before they take memory, wherever they stand.
func TestManyItems(t *testing.T) {
	for name, body := range map[string]string{
		"objects": `{"value":[` + strings.Repeat("{},", 2_000_000) + `{}]}`,
		"nulls":   `{"value":[` + strings.Repeat("null,", 1_000_000) + `null]}`,
		"data":    `{"totalRecords":1,"data":[{"subscriptionId":"x","items":[` + strings.Repeat("{},", 2_000_000) + `{}]}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			tenant := simulator.Generate(1, 1)
			sim, client := start(t, tenant, Config{})
			sim.SetFault(ids(tenant)[0], simulator.Body(200, "application/json", body))
			sim.SetGraphFault(simulator.Body(200, "application/json", body))
			for source, read := range map[string]func(context.Context, []string) []Result{"arm": client.SecureScores, "resourcegraph": NewResourceGraph(client).SecureScores} {
				o := read(within(t, 20*time.Second), ids(tenant))[0]
				if name == "data" && source == "arm" {
					continue // no list at all, to ARM
				}
				if ReasonOf(o.Err) != ReasonInvalidResponse {
					t.Errorf("%s: %v", source, o.Err)
				}
			}
		})
	}
	for text, want := range map[string]int{
		`{"value":[]}`: 1, `{"value":[{"a":1,"b":[2,3]},{}]}`: 4, `["a,[b\"",",,"]`: 2, `]]}}`: 0, `"`: 0, `"\`: 0, ``: 0,
	} {
		if got := elements([]byte(text)); got != want {
			t.Errorf("%s: %d elements, want %d", text, got, want)
		}
	}
}

// A token is asked for again when it is nearly over, and for a challenge.
func TestTokenIsKept(t *testing.T) {
	counting := &countingCredential{}
	s := newTokenSource(counting)
	defer s.close()
	for _, test := range []struct {
		claims string
		left   time.Duration
		want   int64
	}{{"", time.Hour, 1}, {"", time.Hour, 1}, {"x", time.Hour, 2}, {"", 30 * time.Second, 3}, {"", time.Hour, 4}, {"", time.Hour, 4}} {
		counting.left = test.left
		if _, err := s.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{"s"}, Claims: test.claims}); err != nil || counting.n.Load() != test.want {
			t.Errorf("%+v: asked %d times, %v", test, counting.n.Load(), err)
		}
	}
}

// Nobody waits for the renewal of a token that is still good, and one that fails is
// not tried again at once.
func TestTokenIsRenewedBehind(t *testing.T) {
	counting := &countingCredential{left: 4 * time.Minute}
	s := newTokenSource(counting)
	defer s.close()
	get := func() {
		t.Helper()
		if _, err := s.GetToken(within(t, time.Second), policy.TokenRequestOptions{Scopes: []string{"s"}}); err != nil {
			t.Fatal(err)
		}
	}
	get()
	counting.hang = true
	get()
	get()
	for began := time.Now(); counting.n.Load() < 2 && time.Since(began) < 5*time.Second; {
		time.Sleep(time.Millisecond)
	}
	get()
	if n := counting.n.Load(); n != 2 {
		t.Errorf("asked %d times, want 2", n)
	}
}

// A renewal that brings no better token is not tried again at once either.
func TestTokenThatStaysOld(t *testing.T) {
	counting := &countingCredential{left: 4 * time.Minute}
	s := newTokenSource(counting)
	defer s.close()
	for range 100 {
		if _, err := s.GetToken(within(t, time.Second), policy.TokenRequestOptions{Scopes: []string{"s"}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	if n := counting.n.Load(); n != 2 {
		t.Errorf("asked %d times, want 2", n)
	}
}

// countingCredential gives tokens that are good for some time.
type countingCredential struct {
	n    atomic.Int64
	left time.Duration
	hang bool
}

func (c *countingCredential) GetToken(ctx context.Context, _ policy.TokenRequestOptions) (azcore.AccessToken, error) {
	c.n.Add(1)
	if c.hang {
		<-ctx.Done()
		return azcore.AccessToken{}, ctx.Err()
	}
	return azcore.AccessToken{Token: "t", ExpiresOn: time.Now().Add(c.left)}, nil
}

// That no connection comes about is the network's trouble, however it is told.
func TestDialTimeout(t *testing.T) {
	for _, cause := range []error{os.ErrDeadlineExceeded, context.DeadlineExceeded} {
		e := classify(&url.Error{Op: "Get", URL: "https://x", Err: &net.OpError{Op: "dial", Net: "tcp", Err: cause}})
		if e.Reason != ReasonNetwork || !strings.HasPrefix(e.Error(), "dial tcp") {
			t.Errorf("%s: %s", e.Reason, e)
		}
	}
}

func TestLabel(t *testing.T) {
	long := "x" + strings.Repeat(" ", 1<<20)
	if short := label(long); short != "x" || unsafe.StringData(short) == unsafe.StringData(long) {
		t.Errorf("%q keeps what it was cut from in memory", short)
	}
	for text, want := range map[string]string{
		" a\tb\n": "a b", "a\u2028b\u2029c": "a b c", "a\u202eb\u2066c": "a b c", "Ünïcode 文字": "Ünïcode 文字", "\u202e": "",
	} {
		if got := label(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}
