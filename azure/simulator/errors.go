package simulator

import (
	"fmt"
	"net/http"
	"time"
)

const graphTimeLayout = "2006-01-02T15:04:05.0000000Z" // also in the token endpoint's errors

// armError writes the error body of ARM and of most resource providers.
func armError(w http.ResponseWriter, status int, code, format string, args ...any) {
	w.Header().Set("x-ms-failure-cause", "gateway")
	writeJSON(w, status, map[string]any{
		"error": map[string]string{"code": code, "message": fmt.Sprintf(format, args...)},
	})
}

// unauthorized answers 401 with the challenge that ARM adds.
func unauthorized(w http.ResponseWriter, code, message string) {
	w.Header().Set("WWW-Authenticate", fmt.Sprintf(
		`Bearer authorization_uri="https://login.windows.net/%s", `+
			`error="invalid_token", error_description=%q`, TenantID, message))
	armError(w, http.StatusUnauthorized, code, "%s", message)
}

// challenge answers 401 with a challenge of continuous access evaluation.
func challenge(w http.ResponseWriter, claims string) {
	w.Header().Set("WWW-Authenticate", `Bearer realm="", `+
		`authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize", `+
		`error="insufficient_claims", claims="`+claims+`"`)
	w.WriteHeader(http.StatusUnauthorized)
}

func expiredToken(w http.ResponseWriter, expiry, now time.Time) {
	const usTimeLayout = "1/2/2006 3:04:05 PM"
	unauthorized(w, "ExpiredAuthenticationToken", fmt.Sprintf(
		"The access token expiry UTC time '%s' is earlier than current UTC time '%s'.",
		expiry.UTC().Format(usTimeLayout), now.UTC().Format(usTimeLayout)))
}

func forbidden(w http.ResponseWriter, action, scope string) {
	armError(w, http.StatusForbidden, "AuthorizationFailed",
		"The client '%s' with object id '%s' does not have authorization to perform action '%s' over "+
			"scope '%s' or the scope is invalid. If access was recently granted, please refresh your "+
			"credentials.", ClientID, ObjectID, action, scope)
}

func subscriptionNotFound(w http.ResponseWriter, id string) {
	armError(w, http.StatusNotFound, "SubscriptionNotFound",
		"The subscription '%s' could not be found.", id)
}

// scoreNotFound is Microsoft.Security's own error body. Its keys are capitalized, so azcore does
// not find the error code.
func scoreNotFound(w http.ResponseWriter, score, subscription string) {
	writeJSON(w, http.StatusNotFound, map[string]any{"Error": map[string]string{
		"Code":    "ResourceNotFound",
		"Message": fmt.Sprintf("Secure score '%s' does not exist in scope '%s'", score, subscription),
	}})
}

// loginError writes the error body of the token endpoint. Its description has several lines, which
// must not reach a log line or a label.
func loginError(w http.ResponseWriter, status int, kind string, code int, description string) {
	trace, correlation := newGUID(), newGUID()
	now := time.Now().UTC().Format("2006-01-02 15:04:05Z")
	writeJSON(w, status, map[string]any{
		"error": kind,
		"error_description": fmt.Sprintf(
			"AADSTS%d: %s\r\nTrace ID: %s\r\nCorrelation ID: %s\r\nTimestamp: %s",
			code, description, trace, correlation, now),
		"error_codes":    []int{code},
		"timestamp":      now,
		"trace_id":       trace,
		"correlation_id": correlation,
		"error_uri":      fmt.Sprintf("https://login.microsoftonline.com/error?code=%d", code),
	})
}

func invalidClient(w http.ResponseWriter, code int, description string) {
	loginError(w, http.StatusUnauthorized, "invalid_client", code, description)
}

// graphDetail is the actual cause of a Resource Graph error. The outer code, which azcore reads, is
// often just BadRequest.
type graphDetail struct {
	Code     string `json:"code"`
	Message  string `json:"message"`
	Line     int    `json:"line,omitempty"`
	Position int    `json:"characterPositionInLine,omitempty"`
	Token    string `json:"token,omitempty"`
}

// graphError writes the error body of Resource Graph.
func graphError(w http.ResponseWriter, status int, code string, details ...graphDetail) {
	writeJSON(w, status, map[string]any{"error": map[string]any{
		"code": code,
		"message": fmt.Sprintf(
			"Please provide below info when asking for support: timestamp = %s, correlationId = %s.",
			time.Now().UTC().Format(graphTimeLayout), newGUID()),
		"details": details,
	}})
}

func badRequest(w http.ResponseWriter, code, format string, args ...any) {
	graphError(w, http.StatusBadRequest, "BadRequest",
		graphDetail{Code: code, Message: fmt.Sprintf(format, args...)})
}

func invalidQuery(w http.ResponseWriter, cause graphDetail) {
	graphError(w, http.StatusBadRequest, "BadRequest", graphDetail{
		Code: "InvalidQuery",
		Message: "Query is invalid. Please refer to the documentation for the Azure Resource Graph " +
			"service and fix the error before retrying.",
	}, cause)
}

func accessDenied(w http.ResponseWriter) {
	graphError(w, http.StatusForbidden, "AccessDenied", graphDetail{
		Code:    "AccessDenied",
		Message: "Access is denied to the requested resource. The user might not have enough permission.",
	})
}

func rateLimited(w http.ResponseWriter) {
	graphError(w, http.StatusTooManyRequests, "RateLimiting", graphDetail{
		Code: "RateLimiting",
		Message: "Client application has been throttled and should not attempt to repeat the request " +
			"until an amount of time has elapsed. Please see " +
			"https://aka.ms/resourcegraph-throttling for help.",
	})
}

func payloadTooLarge(w http.ResponseWriter, size int) {
	badRequest(w, "ResponsePayloadTooLarge", "Response payload size is %d, and has exceeded the "+
		"limit of %d. Please consider querying less data at a time and make paginated call if needed.",
		size, graphMaxPayload)
}

func noValidSubscriptions(w http.ResponseWriter, given string) {
	badRequest(w, "NoValidSubscriptionsInQueryRequest",
		"There must be at least one subscription that is eligible to contain resources. Given: '%s'.",
		given)
}

// packingRefused is the answer of a Resource Graph that does not know the function.
func packingRefused(w http.ResponseWriter, function string) {
	invalidQuery(w, graphDetail{
		Code: "InvalidQueryLanguage", Message: "InvalidQueryLanguage",
		Line: -1, Position: -1, Token: function,
	})
}
