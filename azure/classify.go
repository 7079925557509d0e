package azure

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// classify assigns a reason to an error that is not an HTTP response.
func classify(err error) *Error {
	if known, ok := errors.AsType[*Error](err); ok {
		return known
	}
	e := &Error{Reason: ReasonNetwork, Err: summarize(err)}
	tooLarge, isTooLarge := errors.AsType[*http.MaxBytesError](err)
	switch {
	case isDial(err): // first, because it can look like a deadline
		e.cause = networkCause(e.Err)
	case errors.Is(err, context.Canceled):
		e.Reason = ReasonCanceled
	case errors.Is(err, context.DeadlineExceeded):
		e.Reason = ReasonTimeout
	case isTooLarge:
		return invalidBecause(causeTooLarge, "the response is larger than %d bytes", tooLarge.Limit)
	default:
		e.cause = networkCause(e.Err)
	}
	return e
}

// isDial reports whether no connection was established, for example because a firewall drops
// packets: a net.OpError that timed out is also a context.DeadlineExceeded.
func isDial(err error) bool {
	dial, ok := errors.AsType[*net.OpError](err)
	return ok && dial.Op == "dial" && !errors.Is(err, context.Canceled)
}

// networkCauses are recognised by the text of the error, because MSAL passes on nothing else.
var networkCauses = []struct {
	cause string
	text  *regexp.Regexp
}{
	{"proxy", regexp.MustCompile(`proxyconnect|Proxy Authentication Required`)},
	{"dns", regexp.MustCompile(`no such host|server misbehaving|lookup `)},
	{"tls", regexp.MustCompile(`x509: |tls: |certificate|gave HTTP response to HTTPS client`)},
	{"connection_refused", regexp.MustCompile(`connection refused`)},
	{"unreachable", regexp.MustCompile(`no route to host|network is unreachable`)},
	{"connect_timeout", regexp.MustCompile(`dial tcp.*(timeout|deadline)`)},
	{"connection_lost", regexp.MustCompile(`connection reset|broken pipe|EOF|stream error|http2: |connection lost`)},
}

func networkCause(err error) string {
	for _, c := range networkCauses {
		if c.text.MatchString(err.Error()) {
			return c.cause
		}
	}
	return ""
}

var aadstsCode = regexp.MustCompile(`AADSTS\d{4,8}`)

// summarize reduces an error to one line without the bodies that azidentity quotes and the
// addresses that net/http quotes.
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
		return errors.New(strings.TrimSpace(text))
	case isURLError:
		return errors.New(oneLine(urlError.Err.Error()))
	}
	text := failedRequest.ReplaceAllString(err.Error(), " ")
	return errors.New(oneLine(quotedResponse.ReplaceAllString(text, "")))
}

// failedRequest matches the start of a net/http error among the lines that a chain of credentials
// indents. The cause follows it, for example a name that does not resolve.
var failedRequest = regexp.MustCompile(`\n\t\t ?(?:Get|Post) "[^"\n]*":`)

// quotedResponse matches what azidentity quotes of a response, which may hold a token: the rest of
// the text after MSAL's complaint about JSON, the rest of a line after the words of managed
// identities, and the lines that a chain of credentials indents by two tabs.
var quotedResponse = regexp.MustCompile(`(?s:\s+(?:raw message was|json message bytes were):.*)|(?:\. The endpoint responded with|: unexpected response) [^\n]*|\n\t\t[^\n]*`)
