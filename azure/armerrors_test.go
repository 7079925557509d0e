package azure

import (
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// armErrorCase is a response to the list of secure scores, and what it means.
type armErrorCase struct {
	status int
	body   string
	want   Reason
	text   string // at the end of the error
	cause  string
}

// runARMErrors gives each response to a subscription of its own.
func runARMErrors(t *testing.T, header http.Header, cases []armErrorCase) {
	t.Helper()
	tenant := simulator.Generate(len(cases), 1)
	sim, client := start(t, tenant, Config{Concurrency: 100})
	for i, id := range ids(tenant) {
		sim.SetFault(id, simulator.OnScores(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			maps.Copy(w.Header(), header)
			w.WriteHeader(cases[i].status)
			_, _ = w.Write([]byte(cases[i].body))
		}))
	}
	for i, result := range client.SecureScores(within(t, time.Minute), ids(tenant)) {
		test := cases[i]
		if ReasonOf(result.Err) != test.want || !strings.HasSuffix(fmt.Sprint(result.Err), test.text) || Cause(result.Err) != test.cause {
			t.Errorf("%d %s\ngot  %q %q %v\nwant %q %q …%s", test.status, test.body, ReasonOf(result.Err), Cause(result.Err), result.Err, test.want, test.cause, test.text)
		}
	}
}

func TestARMErrors_CodeDecidesBeforeStatus(t *testing.T) {
	t.Parallel()
	var cases []armErrorCase
	for code, test := range map[string]struct {
		want  Reason
		cause string
	}{
		"Subscription Not Registered":            {ReasonNotRegistered, "SubscriptionNotRegistered"},
		"SubscriptionNotRegistered":              {ReasonNotRegistered, "SubscriptionNotRegistered"},
		"SUBSCRIPTION not registered":            {ReasonNotRegistered, "SubscriptionNotRegistered"},
		"MissingRegistrationForResourceProvider": {ReasonNotRegistered, "MissingRegistrationForResourceProvider"},
		"MissingSubscriptionRegistration":        {ReasonNotRegistered, "MissingSubscriptionRegistration"},
		"DisallowedProvider":                     {ReasonNotRegistered, "DisallowedProvider"},
		"DisallowedOperation":                    {ReasonNotRegistered, "DisallowedOperation"},
		"InvalidResourceType":                    {ReasonNotRegistered, "InvalidResourceType"},
		"InvalidResourceNamespace":               {ReasonNotRegistered, "InvalidResourceNamespace"},
		"NoRegisteredProviderFound":              {ReasonNotRegistered, "NoRegisteredProviderFound"},
		"AuthorizationFailed":                    {ReasonForbidden, "AuthorizationFailed"},
		"InvalidAuthenticationTokenTenant":       {ReasonAuthentication, "InvalidAuthenticationTokenTenant"},
		"SubscriptionNotFound":                   {ReasonNotFound, "SubscriptionNotFound"},
		"InvalidSubscriptionId":                  {ReasonNotFound, "InvalidSubscriptionId"},
		"TooManyRequests":                        {ReasonThrottled, "TooManyRequests"},
	} {
		for _, status := range []int{400, 401, 403, 404, 409} {
			cases = append(cases, armErrorCase{
				status, fmt.Sprintf(`{"error":{"code":%q,"message":"…"}}`, code), test.want, fmt.Sprintf("HTTP %d %s", status, code), test.cause,
			})
		}
	}
	runARMErrors(t, nil, cases)
}

func TestARMErrors_UnknownCodes(t *testing.T) {
	t.Parallel()
	runARMErrors(t, nil, []armErrorCase{
		{400, `{"error":{"code":"NewCode"}}`, ReasonInvalidResponse, "HTTP 400 NewCode", "http_400"},
		{401, `{"error":{"code":"New  Code"}}`, ReasonAuthentication, "HTTP 401 New Code", "http_401"},
		{403, `{"error":{"code":"NewCode"}}`, ReasonForbidden, "HTTP 403 NewCode", "http_403"},
		{404, `{"error":{"code":"NewCode"}}`, ReasonNotFound, "HTTP 404 NewCode", "http_404"},
		{409, `{"error":{"code":"Conflict"}}`, ReasonInvalidResponse, "HTTP 409 Conflict", "http_409"},
		{403, `{"error":{"code":"<script>"}}`, ReasonForbidden, "HTTP 403", "http_403"},
		{403, `{"error":{"code":"` + strings.Repeat("x", 65) + `"}}`, ReasonForbidden, "HTTP 403", "http_403"},
		{500, `{"error":{"code":"Unexpected"}}`, ReasonServerError, "HTTP 500 Unexpected", "http_500"},
	})
}

func TestARMErrors_BodyShapes(t *testing.T) {
	t.Parallel()
	const want = "SubscriptionNotRegistered"
	var cases []armErrorCase
	for _, body := range []string{
		`{"code":"SubscriptionNotRegistered","message":"…"}`,
		`{"Code":"SubscriptionNotRegistered"}`,
		`{"error":{"code":"SubscriptionNotRegistered"}}`,
		`{"Error":{"Code":"SubscriptionNotRegistered"}}`,
		`{"ERROR":{"CODE":"SubscriptionNotRegistered"}}`,
		`{"error":{"error":{"code":"SubscriptionNotRegistered"}}}`,
		`{"error":{"code":"BadRequest","details":[{"code":"SubscriptionNotRegistered"}]}}`,
		`{"error":{"code":"Forbidden","details":[{"code":"Other"},{"code":"SubscriptionNotRegistered"}]}}`,
		`{"error":{"code":"Conflict","innererror":{"code":"SubscriptionNotRegistered"}}}`,
		`{"error":{"code":"Conflict","innerError":{"innerError":{"code":"SubscriptionNotRegistered"}}}}`,
		`{"error":{"code":"SubscriptionNotRegistered","details":[{"code":"AuthorizationFailed"}]}}`,
		`{"error":{"code":"SubscriptionNotRegistered","details":{"code":1},"target":5}}`,
		"\ufeff" + `{"error":{"code":"SubscriptionNotRegistered"}}`,
	} {
		cases = append(cases, armErrorCase{404, body, ReasonNotRegistered, "HTTP 404 " + want, want})
	}
	runARMErrors(t, nil, cases)
	runARMErrors(t, http.Header{"X-Ms-Error-Code": {want}}, []armErrorCase{{404, "", ReasonNotRegistered, "HTTP 404 " + want, want}})
}

func TestARMErrors_Foreign(t *testing.T) {
	t.Parallel()
	const text = "without an ARM error body: the response is not from Azure"
	var cases []armErrorCase
	for _, status := range []int{400, 401, 403, 404, 407, 409, 418, 451} {
		for _, body := range []string{
			"<html><h1>Access denied</h1></html>", "", "Forbidden", "null", "[]", `{"message":"forbidden"}`, `{"error":"forbidden"}`, `{"code":403}`, `{"error":{"code":" "}}`,
			`{"error":{"code":"AuthorizationFailed","details":[` + strings.Repeat("{},", 10_000) + `{}]}}`,
			`{"error":{"code":"AuthorizationFailed","message":"` + strings.Repeat("x", maxErrorBody) + `"}}`,
		} {
			cases = append(cases, armErrorCase{status, body, ReasonInvalidResponse, text, "foreign"})
		}
	}
	runARMErrors(t, nil, cases)
	runARMErrors(t, http.Header{"Www-Authenticate": {`Basic realm="proxy"`, "Negotiate"}}, []armErrorCase{{401, "", ReasonInvalidResponse, text, "foreign"}})
}

// These mean the same whoever sends them.
func TestARMErrors_StatusAlone(t *testing.T) {
	t.Parallel()
	runARMErrors(t, nil, []armErrorCase{
		{408, "", ReasonTimeout, "HTTP 408", "http_408"},
		{429, "<html>", ReasonThrottled, "HTTP 429", "http_429"},
		{500, "", ReasonServerError, "HTTP 500", "http_500"},
		{502, "<html>", ReasonServerError, "HTTP 502", "http_502"},
		{504, "<html>", ReasonServerError, "HTTP 504", "http_504"},
		{302, "", ReasonInvalidResponse, "HTTP 302", "http_302"},
	})
	runARMErrors(t, http.Header{"Www-Authenticate": {`Bearer authorization_uri="https://login"`}}, []armErrorCase{{401, "", ReasonAuthentication, "HTTP 401", "http_401"}})
}

func TestARMErrors_DisabledSubscription(t *testing.T) {
	t.Parallel()
	runARMErrors(t, nil, []armErrorCase{{
		403, `{"error":{"code":"ReadOnlyDisabledSubscription","message":"…"}}`, ReasonForbidden,
		"HTTP 403 ReadOnlyDisabledSubscription: the subscription is disabled", "ReadOnlyDisabledSubscription",
	}})
}

// FuzzErrorBody: whatever a response says, its error has a reason, and one safe line of text.
func FuzzErrorBody(f *testing.F) {
	f.Add(404, []byte(`{"error":{"code":"Subscription Not Registered","details":[{"code":"x"}],"innererror":{"code":"y"}}}`))
	f.Add(403, []byte(`{"Error":{"Code":"AuthorizationFailed","Message":"…"}}`))
	f.Add(407, []byte(`<html>`))
	f.Add(400, []byte(`{"code":1,"error":[],"details":null}`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		e := classifyResponse(response{status: status, body: body})
		if hint := Hint(e, "", Identity{}); e.Reason == "" || hint == "" {
			t.Errorf("reason %q, hint %q", e.Reason, hint)
		}
		if text := e.Error(); len(text) > 200 || strings.ContainsAny(text, "\n\r<>\x00\u2028\u202e") {
			t.Errorf("text %q", text)
		}
		if cause := Cause(e); cause == "" || strings.ContainsAny(cause, " \n<") {
			t.Errorf("cause %q", cause)
		}
	})
}
