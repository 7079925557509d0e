package azure

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// Codes that affect more than the reason.
const (
	codeNoScore         = "ResourceNotFound" // with 404 on Microsoft.Security: "Secure score 'ascScore' does not exist in scope …"
	codeDisabled        = "ReadOnlyDisabledSubscription"
	codeNoneReadable    = "NoValidSubscriptionsInQueryRequest"
	codePayloadTooLarge = "ResponsePayloadTooLarge"
	codeTooComplex      = "UnexpectedQueryExecutionError" // a query that reads too many rows
)

// unavailableCodes are those of subscriptions and clouds without Defender for Cloud.
var unavailableCodes = []string{
	"DisallowedProvider", "DisallowedOperation", "InvalidResourceType", "InvalidResourceNamespace", "NoRegisteredProviderFound",
}

// reasonCodes are ARM's error codes whose meaning does not depend on the status. Others, such as
// BadRequest, Forbidden and Conflict, say less than the status.
var reasonCodes = map[Reason][]string{
	ReasonNotRegistered: append([]string{
		"MissingSubscriptionRegistration", "MissingRegistrationForResourceProvider", "SubscriptionNotRegistered",
		"ResourceProviderNotRegistered", "SubscriptionNotRegisteredForFeature",
	}, unavailableCodes...),
	ReasonAuthentication: {
		"InvalidAuthenticationToken", "InvalidAuthenticationTokenTenant", "InvalidAuthenticationTokenAudience", "ExpiredAuthenticationToken",
		"InvalidAuthenticationInfo", "AuthenticationFailed", "AuthenticationFailedMissingToken", "AuthenticationFailedInvalidHeader",
	},
	ReasonForbidden: {
		"AuthorizationFailed", "LinkedAuthorizationFailed", "LinkedAccessCheckFailed", "DenyAssignmentAuthorizationFailed",
		"AccessDenied", "RequestDisallowedByPolicy", codeDisabled,
	},
	ReasonNotFound: {"SubscriptionNotFound", "InvalidSubscriptionId", codeNoScore},
	ReasonThrottled: {
		"TooManyRequests", "RateLimiting", "ResourceRequestsThrottled", "ResourceCollectionRequestsThrottled",
		"SubscriptionRequestsThrottled", "TenantRequestsThrottled", "OperationsThrottled",
	},
	ReasonTimeout:         {"RequestTimeout"},
	ReasonServerError:     {"InternalServerError", "ServerError", "ServiceUnavailable", "ServerTimeout", "ServerBusy", "BadGateway", "GatewayTimeout"},
	ReasonInvalidResponse: {codeNoneReadable, codePayloadTooLarge, codeTooComplex},
}

// knownCode is a code as ARM documents it, and its reason.
type knownCode struct {
	name   string
	reason Reason
}

// knownCodes are [reasonCodes] by normalized code.
var knownCodes = func() map[string]knownCode {
	codes := map[string]knownCode{}
	for reason, names := range reasonCodes {
		for _, name := range names {
			codes[normalizeCode(name)] = knownCode{name, reason}
		}
	}
	return codes
}()

// normalizeCode ignores case and blanks: Azure also writes "Subscription Not Registered".
func normalizeCode(code string) string {
	return strings.ToLower(strings.Join(strings.Fields(code), ""))
}

// classifyResponse gives a reason to an HTTP response other than 200. A known code in the body
// takes precedence over the status.
func classifyResponse(resp response) *Error {
	e := &Error{Reason: ReasonInvalidResponse, Err: fmt.Errorf("HTTP %d", resp.status), status: resp.status}
	codes := errorCodes(resp)
	if len(codes) == 0 && isForeign(resp) {
		return &Error{
			Reason: ReasonInvalidResponse, status: resp.status, cause: causeForeign,
			Err: fmt.Errorf("HTTP %d without an ARM error body: the response is not from Azure", resp.status),
		}
	}
	switch resp.status {
	case http.StatusUnauthorized:
		e.Reason = ReasonAuthentication
	case http.StatusForbidden:
		e.Reason = ReasonForbidden
	case http.StatusNotFound:
		e.Reason = ReasonNotFound
	case http.StatusRequestTimeout:
		e.Reason = ReasonTimeout
	case http.StatusTooManyRequests:
		e.Reason = ReasonThrottled
	default:
		if resp.status >= 500 {
			e.Reason = ReasonServerError
		}
	}
	if i := slices.IndexFunc(codes, func(code string) bool { return knownCodes[normalizeCode(code)].name != "" }); i >= 0 {
		known := knownCodes[normalizeCode(codes[i])]
		e.Reason, e.cause = known.reason, known.name
		codes = codes[i:]
	}
	if shown := displayCode(codes); shown != "" {
		e.Err = fmt.Errorf("HTTP %d %s", resp.status, shown)
	}
	if e.cause == codeDisabled {
		e.Err = fmt.Errorf("%w: the subscription is disabled", e.Err)
	}
	return e
}

// isForeign reports whether a response without ARM's error body comes from something else, such as
// a proxy: ARM explains every 4xx. Two statuses mean the same from anyone, and a challenge for a
// bearer token has no body.
func isForeign(resp response) bool {
	switch resp.status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests:
		return false
	case http.StatusUnauthorized:
		challenge := strings.Join(resp.header.Values("WWW-Authenticate"), ", ")
		return !strings.Contains(strings.ToLower(challenge), "bearer ")
	}
	return resp.status >= 400 && resp.status < 500
}

// maxErrorBody bounds what is parsed of an error, in bytes and in details.
const (
	maxErrorBody    = 256 << 10
	maxErrorDetails = 1000
)

// errorBody is an error as Azure's services write it: flat, nested in error, details or innererror,
// or all of these. encoding/json ignores the case of keys, as it must: Microsoft.Security
// capitalises them and ARM does not.
type errorBody struct {
	Code       string      `json:"code"`
	Error      *errorBody  `json:"error"`
	Details    []errorBody `json:"details"`
	InnerError *errorBody  `json:"innererror"`
}

func (b errorBody) codes() (codes []string) {
	if strings.TrimSpace(b.Code) != "" {
		codes = append(codes, b.Code)
	}
	for _, inner := range []*errorBody{b.Error, b.InnerError} {
		if inner != nil {
			codes = append(codes, inner.codes()...)
		}
	}
	for _, detail := range b.Details {
		codes = append(codes, detail.codes()...)
	}
	return codes
}

// errorCodes returns the error codes of a response, outer ones first.
func errorCodes(resp response) []string {
	var document errorBody
	if len(resp.body) <= maxErrorBody && countElements(resp.body) <= maxErrorDetails {
		_ = json.Unmarshal(trimMark(resp.body), &document) // what has another type is left out
	}
	codes := document.codes()
	if code := resp.header.Get("x-ms-error-code"); code != "" {
		codes = append(codes, code)
	}
	return codes
}

var safeErrorCode = regexp.MustCompile(`^[A-Za-z0-9_.-]+( [A-Za-z0-9_.-]+)*$`)

// displayCode returns the first code that is safe to show. It skips BadRequest if a more specific
// code follows, as in Resource Graph.
func displayCode(codes []string) string {
	if len(codes) > 1 && codes[0] == "BadRequest" {
		codes = codes[1:]
	}
	for _, code := range codes {
		if code = strings.Join(strings.Fields(code), " "); len(code) <= 64 && safeErrorCode.MatchString(code) {
			return code
		}
	}
	return ""
}
