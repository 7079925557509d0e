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
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// Reason says in one word why Azure gave no usable answer. The set is closed:
// reasons become label values.
type Reason string

// The reasons.
const (
	ReasonAuthentication  Reason = "authentication"   // no token, or ARM refused it (401)
	ReasonForbidden       Reason = "forbidden"        // the identity may not read this (403)
	ReasonNotFound        Reason = "not_found"        // no such subscription, or not visible (404)
	ReasonNotRegistered   Reason = "not_registered"   // Microsoft.Security is not registered, or not in this cloud
	ReasonThrottled       Reason = "throttled"        // too many requests (429)
	ReasonTimeout         Reason = "timeout"          // the deadline came first
	ReasonServerError     Reason = "server_error"     // Azure failed (5xx)
	ReasonNetwork         Reason = "network"          // no connection, or it broke
	ReasonInvalidResponse Reason = "invalid_response" // an answer that makes no sense, or is too big
	ReasonCanceled        Reason = "canceled"         // the exporter is stopping
)

// Reasons are all reasons, in a fixed order.
var Reasons = []Reason{
	ReasonAuthentication, ReasonForbidden, ReasonNotFound, ReasonNotRegistered, ReasonThrottled,
	ReasonTimeout, ReasonServerError, ReasonNetwork, ReasonInvalidResponse, ReasonCanceled,
}

// Error is a failure with its reason. Its text is one line and quotes no body
// that Azure sent.
type Error struct {
	Reason Reason
	Err    error
	// status and code are what Azure answered, where it did; for some failures of
	// other kinds code is one of ours.
	status int
	code   string
	// group is the management group that it is about, if it is about one.
	group string
}

// Codes for failures that have none of Azure's.
const (
	codeResultTruncated = "result truncated"
	codeBodyTooLarge    = "body too large"
	codeGatewayTimeout  = "GatewayTimeout"
)

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// ReasonOf returns the reason of an error of this package; "" for nil.
func ReasonOf(err error) Reason {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Reason
	}
	return classify(err).Reason
}

// classify gives a reason to an error that came instead of an HTTP answer.
func classify(err error) *Error {
	var (
		known    *Error
		tooLarge *http.MaxBytesError
	)
	e := &Error{Reason: ReasonNetwork, Err: summarize(err)}
	switch {
	case errors.As(err, &known):
		return known
	case isDial(err): // before the deadline, which it may pretend to be
	case errors.Is(err, context.Canceled):
		e.Reason = ReasonCanceled
	case errors.Is(err, context.DeadlineExceeded):
		e.Reason = ReasonTimeout
	case errors.As(err, &tooLarge):
		e.Reason, e.code = ReasonInvalidResponse, codeBodyTooLarge
		e.Err = fmt.Errorf("the answer is larger than %d bytes", tooLarge.Limit)
	}
	return e
}

// isDial says that no connection came about, for example because a firewall drops
// packets: a net.OpError whose time is up is a context.DeadlineExceeded, too.
func isDial(err error) bool {
	dial, ok := errors.AsType[*net.OpError](err)
	return ok && dial.Op == "dial" && !errors.Is(err, context.Canceled)
}

// classifyStatus gives a reason to an HTTP answer that is not 200.
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

var plainCode = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// errorCode finds the error code in a body. encoding/json matches keys whatever
// their case, which is needed: Microsoft.Security capitalises them, ARM does not.
func errorCode(body []byte) string {
	var answer struct {
		Code  string `json:"code"`
		Error struct {
			Code    string `json:"code"`
			Details []struct {
				Code string `json:"code"`
			} `json:"details"`
		} `json:"error"`
	}
	// A body of another shape has no code; the status alone decides.
	_ = json.Unmarshal(body, &answer)
	codes := []string{answer.Error.Code, answer.Code}
	if answer.Error.Code == "BadRequest" && len(answer.Error.Details) > 0 {
		// Resource Graph says what is bad in the details.
		codes = []string{answer.Error.Details[0].Code, "BadRequest"}
	}
	for _, code := range codes {
		if plainCode.MatchString(code) {
			return code
		}
	}
	return ""
}

var entraCode = regexp.MustCompile(`AADSTS\d+`)

// summarize reduces an error to one line without the bodies that azidentity
// quotes and the addresses that net/http quotes.
func summarize(err error) error {
	var authFailed *azidentity.AuthenticationFailedError
	var inURL *url.Error
	switch {
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.Is(err, context.DeadlineExceeded) && !isDial(err):
		return context.DeadlineExceeded
	case errors.As(err, &authFailed) && authFailed.RawResponse != nil:
		text := fmt.Sprintf("the token endpoint answered HTTP %d", authFailed.RawResponse.StatusCode)
		if code := entraCode.FindString(err.Error()); code != "" {
			text += " " + code
		}
		return errors.New(text)
	case errors.As(err, &inURL):
		return errors.New(oneLine(inURL.Err.Error()))
	}
	text := failedRequest.ReplaceAllString(err.Error(), " ")
	return errors.New(oneLine(quotedAnswer.ReplaceAllString(text, "")))
}

// failedRequest matches how net/http begins to tell of a request without an answer,
// among the lines that a chain of credentials indents: the cause follows, which may be
// no more than a name that does not resolve, and is what an operator has to know.
var failedRequest = regexp.MustCompile(`\n\t\t ?(?:Get|Post) "[^"\n]*":`)

// quotedAnswer matches what azidentity quotes of an answer, which may hold a token:
// the rest of the text after MSAL's complaint about JSON, the rest of a line after
// the words of managed identities, and the lines that a chain of credentials
// indents by two tabs.
var quotedAnswer = regexp.MustCompile(`(?s:\s+(?:raw message was|json message bytes were):.*)|(?:\. The endpoint responded with|: unexpected response) [^\n]*|\n\t\t[^\n]*`)

// maxLine is enough for azidentity to name every credential that it tried.
const maxLine = 1000

func oneLine(text string) string {
	return truncate(strings.Join(strings.Fields(text), " "), maxLine)
}

// truncate shortens text to n characters, the last of them an ellipsis.
func truncate(text string, n int) string {
	if runes := []rune(text); len(runes) > n {
		return string(runes[:n-1]) + "…"
	}
	return text
}
