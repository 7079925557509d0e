package azure

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

func TestErrors_Reasons(t *testing.T) {
	t.Parallel()
	elsewhere := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(elsewhere.Close)
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
		"not registered":            {simulator.NotRegistered(), ReasonNotRegistered, "HTTP 409 MissingSubscriptionRegistration"},
		"no such namespace":         {simulator.InvalidNamespace(404), ReasonNotRegistered, "HTTP 404 InvalidResourceNamespace"},
		"throttled for minutes":     {simulator.Throttle(-1, 372*time.Second), ReasonThrottled, "HTTP 429 ResourceRequestsThrottled"},
		"throttled for ever":        {simulator.Throttle(-1, time.Second), ReasonThrottled, "HTTP 429"},
		"throttled, no Retry-After": {simulator.Throttle(-1, 0), ReasonThrottled, "HTTP 429"},
		"server error":              {simulator.ServerError(500), ReasonServerError, "HTTP 500 InternalServerError"},
		"unavailable":               {simulator.ServerError(503), ReasonServerError, "HTTP 503"},
		"hang":                      {simulator.Hang(), ReasonTimeout, "deadline exceeded"},
		"slow":                      {simulator.Slow(time.Minute), ReasonTimeout, "deadline exceeded"},
		"garbage":                   {simulator.Garbage(), ReasonInvalidResponse, "HTML or XML instead of JSON"},
		"cut short":                 {simulator.Truncated(), ReasonNetwork, ""},
		"half a document":           {simulator.Body(200, "application/json", `{"value":[{"name":`), ReasonInvalidResponse, "at byte 18: unexpected EOF"},
		"no object":                 {simulator.Body(200, "application/json", `[]`), ReasonInvalidResponse, "unexpected array at /"},
		"huge":                      {simulator.Huge(1<<30, true), ReasonInvalidResponse, "larger than 8388608 bytes"},
		"huge, no length":           {simulator.Huge(1<<30, false), ReasonInvalidResponse, "larger than 8388608 bytes"},
		"gzip bomb":                 {simulator.GzipBomb(1 << 30), ReasonInvalidResponse, "larger than 8388608 bytes"},
		"text for a number":         {simulator.Number("max", `"58"`), ReasonInvalidResponse, "unexpected string at /value/0/properties/score/max"},
		"NaN":                       {simulator.Number("max", "NaN"), ReasonInvalidResponse, "invalid character"},
		"infinite":                  {simulator.Number("max", "1e400"), ReasonInvalidResponse, "unexpected number at /value/0/properties/score/max"},
		"negative":                  {simulator.Number("current", "-1"), ReasonInvalidResponse, "is out of range"},
		"absurd":                    {simulator.Number("healthyResourceCount", "1e10"), ReasonInvalidResponse, "is out of range"},
		"nextLink to itself":        {simulator.NextLinkToItself(), ReasonInvalidResponse, "already read"},
		"endless pages":             {simulator.EndlessPages(), ReasonInvalidResponse, "more than 100 empty pages in a row"},
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
			result := client.SecureScores(within(t, deadline), ids(tenant))[0]
			if got := ReasonOf(result.Err); got != test.want {
				t.Errorf("reason %q, want %q (%v)", got, test.want, result.Err)
			}
			if result.Err == nil || !strings.Contains(result.Err.Error(), test.text) || strings.Contains(result.Err.Error(), "\n") {
				t.Errorf("error %q, want one line with %q", result.Err, test.text)
			}
			if took := time.Since(began); took > deadline+7*time.Second {
				t.Errorf("took %s with a deadline of %s", took, deadline)
			}
		})
	}
}

// A failed connection has the reason network, even if its error is also a deadline.
func TestErrors_DialTimeout(t *testing.T) {
	t.Parallel()
	for _, cause := range []error{os.ErrDeadlineExceeded, context.DeadlineExceeded} {
		e := classify(&url.Error{Op: "Get", URL: "https://x", Err: &net.OpError{Op: "dial", Net: "tcp", Err: cause}})
		if e.Reason != ReasonNetwork || !strings.HasPrefix(e.Error(), "dial tcp") {
			t.Errorf("%s: %s", e.Reason, e)
		}
	}
}

// The cause tells apart failures of one reason. The addresses lead nowhere.
func TestErrors_Cause(t *testing.T) {
	t.Parallel()
	sim, err := simulator.Start(simulator.Generate(1, 1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	broken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { broken.Close() })
	go func() {
		for {
			connection, err := broken.Accept()
			if err != nil {
				return
			}
			connection.Close()
		}
	}()
	for name, test := range map[string]struct {
		endpoint string
		want     string
	}{
		"no such name":       {"https://azure.invalid", "dns"},
		"nothing listens":    {"https://127.0.0.1:1", "connection_refused"},
		"unknown authority":  {sim.URL(), "tls"},
		"closed at once":     {"https://" + broken.Addr().String(), "connection_lost"},
		"plain HTTP answers": {strings.Replace(plainServer(t), "http:", "https:", 1), "tls"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cloud, err := ParseCloud(CloudCustom, test.endpoint, test.endpoint, "")
			if err != nil {
				t.Fatal(err)
			}
			client, err := New(Config{Cloud: cloud, PrivateCloud: true, Credential: func(azcore.ClientOptions) (azcore.TokenCredential, error) {
				return &credential{validity: time.Hour}, nil
			}})
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			_, err = client.Subscriptions(within(t, 3*time.Second))
			if ReasonOf(err) != ReasonNetwork || Cause(err) != test.want {
				t.Errorf("ARM: reason %s, cause %s, want %s: %v", ReasonOf(err), Cause(err), test.want, err)
			}
			// MSAL passes on the text of the error alone.
			client, err = New(Config{Cloud: cloud, PrivateCloud: true, Credential: func(o azcore.ClientOptions) (azcore.TokenCredential, error) {
				return azidentity.NewClientSecretCredential(simulator.TenantID, simulator.ClientID, simulator.ClientSecret, &azidentity.ClientSecretCredentialOptions{ClientOptions: o, DisableInstanceDiscovery: true})
			}})
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			err = client.Authenticate(within(t, 20*time.Second))
			if ReasonOf(err) != ReasonAuthentication || Cause(err) != test.want {
				t.Errorf("token: reason %s, cause %s, want %s: %v", ReasonOf(err), Cause(err), test.want, err)
			}
		})
	}
}

func plainServer(t *testing.T) string {
	server := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	return server.URL
}

func TestErrors_CauseOfResponse(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		token, scores simulator.Fault
		want          string
	}{
		"secret expired":    {simulator.ExpiredSecret(), nil, "AADSTS7000222"},
		"secret wrong":      {simulator.LoginError(401, "invalid_client", 7000215, "…"), nil, "AADSTS7000215"},
		"Entra ID fails":    {simulator.ServerError(503), nil, "token_endpoint_busy"},
		"token hangs":       {simulator.Hang(), nil, "no_answer"},
		"ARM fails":         {nil, simulator.Body(503, "text/html", "<html>"), "http_503"},
		"ARM fails by code": {nil, simulator.ServerError(503), "ServiceUnavailable"},
		"ARM hangs":         {nil, simulator.Hang(), "timeout"},
		"forbidden":         {nil, simulator.Forbidden(), "AuthorizationFailed"},
		"proxy":             {nil, simulator.Body(407, "text/html", "<html>"), "foreign"},
		"portal":            {nil, simulator.Garbage(), "foreign"},
		"not JSON":          {nil, simulator.Body(200, "text/plain", "x"), "not_json"},
		"not a list":        {nil, simulator.Body(200, "application/json", "{}"), "not_a_list"},
		"too large":         {nil, simulator.Huge(1<<30, true), "too_large"},
		"negative number":   {nil, simulator.Number("max", "-1"), "invalid_response"},
		"cut short":         {nil, simulator.Truncated(), "connection_lost"},
		"no failure":        {nil, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenant := simulator.Generate(1, 1)
			sim, client := start(t, tenant, Config{})
			sim.SetTokenFault(test.token)
			sim.SetFault(ids(tenant)[0], test.scores)
			ctx := within(t, 3*time.Second)
			err := client.Authenticate(ctx)
			if test.token == nil {
				err = client.SecureScores(ctx, ids(tenant))[0].Err
			}
			if Cause(err) != test.want {
				t.Errorf("cause %q, want %q: %v", Cause(err), test.want, err)
			}
		})
	}
}

// Failures that need more than a loopback interface.
func TestErrors_NetworkCause(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"proxyconnect tcp: dial tcp 10.0.0.1:3128: connect: connection refused": "proxy",
		"Proxy Authentication Required":                                         "proxy",
		"dial tcp: lookup login.microsoftonline.com: i/o timeout":               "dns",
		"dial tcp 10.0.0.1:443: i/o timeout":                                    "connect_timeout",
		"dial tcp 10.0.0.1:443: connect: no route to host":                      "unreachable",
		"read tcp 10.0.0.1:443: read: connection reset by peer":                 "connection_lost",
		"something new": "",
	} {
		if got := networkCause(errors.New(text)); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
