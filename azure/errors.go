package azure

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// Reason classifies why Azure gave no usable response. The set is closed: reasons become label
// values.
type Reason string

// The reasons.
const (
	ReasonAuthentication  Reason = "authentication"   // no token, or ARM rejected it (401)
	ReasonForbidden       Reason = "forbidden"        // the identity lacks permission (403)
	ReasonNotFound        Reason = "not_found"        // the subscription does not exist or is not visible (404)
	ReasonNotRegistered   Reason = "not_registered"   // Microsoft.Security is not registered or not available
	ReasonThrottled       Reason = "throttled"        // too many requests (429)
	ReasonTimeout         Reason = "timeout"          // the deadline expired
	ReasonServerError     Reason = "server_error"     // Azure failed (5xx)
	ReasonNetwork         Reason = "network"          // no connection, or it broke
	ReasonInvalidResponse Reason = "invalid_response" // the response makes no sense or is too large
	ReasonCanceled        Reason = "canceled"         // the exporter is stopping
)

// Reasons are all reasons, in a fixed order.
var Reasons = []Reason{
	ReasonAuthentication, ReasonForbidden, ReasonNotFound, ReasonNotRegistered, ReasonThrottled,
	ReasonTimeout, ReasonServerError, ReasonNetwork, ReasonInvalidResponse, ReasonCanceled,
}

// Error is a failure with its reason. Its text is one line and quotes no body from Azure.
type Error struct {
	Reason Reason
	Err    error
	status int    // of the response, 0 without one
	code   string // of the response, or one of the constants below
	group  string // the management group concerned, or ""
}

// Codes of failures for which Azure has none.
const (
	codeResultTruncated = "result truncated"
	codeBodyTooLarge    = "body too large"
	codeGatewayTimeout  = "GatewayTimeout"
)

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// ReasonOf returns the reason of an error from this package, and "" for nil.
func ReasonOf(err error) Reason {
	if err == nil {
		return ""
	}
	return classify(err).Reason
}

func invalidResponse(format string, args ...any) *Error {
	return &Error{Reason: ReasonInvalidResponse, Err: fmt.Errorf(format, args...)}
}

// classify gives a reason to an error that came instead of an HTTP response.
func classify(err error) *Error {
	if known, ok := errors.AsType[*Error](err); ok {
		return known
	}
	e := &Error{Reason: ReasonNetwork, Err: summarize(err)}
	tooLarge, isTooLarge := errors.AsType[*http.MaxBytesError](err)
	switch {
	case isDial(err): // first, because it can look like a deadline
	case errors.Is(err, context.Canceled):
		e.Reason = ReasonCanceled
	case errors.Is(err, context.DeadlineExceeded):
		e.Reason = ReasonTimeout
	case isTooLarge:
		e = invalidResponse("the response is larger than %d bytes", tooLarge.Limit)
		e.code = codeBodyTooLarge
	}
	return e
}

// isDial reports whether no connection was established, for example because a firewall drops packets:
// a net.OpError that timed out is also a context.DeadlineExceeded.
func isDial(err error) bool {
	dial, ok := errors.AsType[*net.OpError](err)
	return ok && dial.Op == "dial" && !errors.Is(err, context.Canceled)
}

// classifyStatus gives a reason to an HTTP response other than 200.
func classifyStatus(status int, body []byte) *Error {
	code := errorCode(body)
	e := &Error{Reason: ReasonInvalidResponse, Err: fmt.Errorf("HTTP %d", status), status: status, code: code}
	if code != "" {
		e.Err = fmt.Errorf("HTTP %d %s", status, code)
	}
	switch {
	case code == "MissingSubscriptionRegistration", code == "InvalidResourceNamespace":
		e.Reason = ReasonNotRegistered
	case status == http.StatusUnauthorized:
		e.Reason = ReasonAuthentication
	case status == http.StatusForbidden:
		e.Reason = ReasonForbidden
	case status == http.StatusNotFound:
		e.Reason = ReasonNotFound
	case status == http.StatusRequestTimeout:
		e.Reason = ReasonTimeout
	case status == http.StatusTooManyRequests:
		e.Reason = ReasonThrottled
	case status >= 500:
		e.Reason = ReasonServerError
		if status == http.StatusGatewayTimeout {
			e.code = codeGatewayTimeout
		}
	}
	return e
}

var safeErrorCode = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// errorCode finds the error code in a body. encoding/json ignores the case of keys, as it must:
// Microsoft.Security capitalises them and ARM does not.
func errorCode(body []byte) string {
	var document struct {
		Code  string `json:"code"`
		Error struct {
			Code    string `json:"code"`
			Details []struct {
				Code string `json:"code"`
			} `json:"details"`
		} `json:"error"`
	}
	_ = json.Unmarshal(body, &document) // another shape has no code; the status decides alone
	codes := []string{document.Error.Code, document.Code}
	if document.Error.Code == "BadRequest" && len(document.Error.Details) > 0 {
		codes = []string{document.Error.Details[0].Code, "BadRequest"} // Resource Graph's cause is in the details
	}
	for _, code := range codes {
		if safeErrorCode.MatchString(code) {
			return code
		}
	}
	return ""
}

var aadstsCode = regexp.MustCompile(`AADSTS\d+`)

// summarize reduces an error to one line without the bodies that azidentity quotes and the addresses
// that net/http quotes.
func summarize(err error) error {
	authFailed, isAuthFailed := errors.AsType[*azidentity.AuthenticationFailedError](err)
	urlError, isURLError := errors.AsType[*url.Error](err)
	switch {
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.Is(err, context.DeadlineExceeded) && !isDial(err):
		return context.DeadlineExceeded
	case isAuthFailed && authFailed.RawResponse != nil:
		text := fmt.Sprintf("the token endpoint answered HTTP %d %s", authFailed.RawResponse.StatusCode, aadstsCode.FindString(err.Error()))
		return errors.New(oneLine(text))
	case isURLError:
		return errors.New(oneLine(urlError.Err.Error()))
	}
	text := failedRequest.ReplaceAllString(err.Error(), " ")
	return errors.New(oneLine(quotedResponse.ReplaceAllString(text, "")))
}

// failedRequest matches the start of a net/http error among the lines that a chain of credentials
// indents. The cause follows it, and the operator needs that: a name that does not resolve, say.
var failedRequest = regexp.MustCompile(`\n\t\t ?(?:Get|Post) "[^"\n]*":`)

// quotedResponse matches what azidentity quotes of a response, which may hold a token: the rest of
// the text after MSAL's complaint about JSON, the rest of a line after the words of managed
// identities, and the lines that a chain of credentials indents by two tabs.
var quotedResponse = regexp.MustCompile(`(?s:\s+(?:raw message was|json message bytes were):.*)|(?:\. The endpoint responded with|: unexpected response) [^\n]*|\n\t\t[^\n]*`)
