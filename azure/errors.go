package azure

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
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
	ReasonInvalidResponse Reason = "invalid_response" // the response is malformed, too large or not from Azure
	ReasonCanceled        Reason = "canceled"         // the exporter is stopping
)

// Reasons are all reasons, in a fixed order: of two failures of one subscription, the one that
// comes first here is reported.
var Reasons = []Reason{
	ReasonAuthentication, ReasonForbidden, ReasonNotFound, ReasonNotRegistered, ReasonThrottled,
	ReasonTimeout, ReasonServerError, ReasonNetwork, ReasonInvalidResponse, ReasonCanceled,
}

// Error is a failure with its reason. Its text is one line and quotes no body from Azure.
type Error struct {
	Reason Reason
	Err    error
	status int    // of the response, 0 without one
	cause  string // see [Cause]; "" if the status or the reason is all that is known
	group  string // the management group concerned, or ""

	proxied bool // a proxy was between a managed identity and its endpoint
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// ReasonOf returns the reason of an error from this package, and "" for nil.
func ReasonOf(err error) Reason {
	if err == nil {
		return ""
	}
	return classify(err).Reason
}

// Cause returns the kind of failure within a reason, so that a change of it can be logged: one of
// ARM's known error codes (SubscriptionNotRegistered), a code of Entra ID (AADSTS7000215), an HTTP
// status (http_503), a failure of the network (dns, connection_refused, connect_timeout,
// unreachable, connection_lost, tls, proxy), of a response (not_json, not_a_list, too_large,
// truncated, foreign), of a credential (no_answer, token_endpoint_busy, cli_missing and others), or
// else the reason itself. It is "" for nil. It is not meant as a label value.
func Cause(err error) string {
	if err == nil {
		return ""
	}
	e := classify(err)
	if e.cause == "" && e.status != 0 {
		return fmt.Sprintf("http_%d", e.status)
	}
	return cmp.Or(e.cause, string(e.Reason))
}

// Causes of a failure that is neither ARM's, Entra ID's nor the network's.
const (
	causeNotJSON   = "not_json"
	causeNotAList  = "not_a_list"
	causeTooLarge  = "too_large"
	causeTruncated = "truncated"
	causeForeign   = "foreign" // the response is not from Azure
)

func invalidResponse(format string, args ...any) *Error {
	return &Error{Reason: ReasonInvalidResponse, Err: fmt.Errorf(format, args...)}
}

func invalidBecause(cause, format string, args ...any) *Error {
	e := invalidResponse(format, args...)
	e.cause = cause
	return e
}

// hasCause reports whether err has one of the causes.
func hasCause(err error, causes ...string) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && slices.Contains(causes, e.cause)
}

// worst returns the error whose reason comes first in [Reasons], or nil.
func worst(a, b error) error {
	if a == nil || b != nil && slices.Index(Reasons, ReasonOf(b)) < slices.Index(Reasons, ReasonOf(a)) {
		return b
	}
	return a
}
