package azure

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

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
		"half a document":           {simulator.Body(200, "application/json", `{"value":[{"name":`), ReasonInvalidResponse, "unexpected end"},
		"no object":                 {simulator.Body(200, "application/json", `[]`), ReasonInvalidResponse, "cannot unmarshal"},
		"huge":                      {simulator.Huge(1<<30, true), ReasonInvalidResponse, "larger than 8388608 bytes"},
		"huge, no length":           {simulator.Huge(1<<30, false), ReasonInvalidResponse, "larger than 8388608 bytes"},
		"gzip bomb":                 {simulator.GzipBomb(1 << 30), ReasonInvalidResponse, "larger than 8388608 bytes"},
		"text for a number":         {simulator.Number("max", `"58"`), ReasonInvalidResponse, "cannot unmarshal string"},
		"NaN":                       {simulator.Number("max", "NaN"), ReasonInvalidResponse, "invalid character"},
		"infinite":                  {simulator.Number("max", "1e400"), ReasonInvalidResponse, "cannot unmarshal number"},
		"negative":                  {simulator.Number("current", "-1"), ReasonInvalidResponse, "makes no sense"},
		"absurd":                    {simulator.Number("healthyResourceCount", "1e10"), ReasonInvalidResponse, "makes no sense"},
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
