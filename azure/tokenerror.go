package azure

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// Causes of a credential's failure that are neither a code of Entra ID nor the network's. [Hint]
// has advice for each.
const (
	causeNoAnswer               = "no_answer"
	causeTokenEndpointBusy      = "token_endpoint_busy"
	causeTokenEndpointForeign   = "token_endpoint_foreign" // the response is not from Entra ID
	causeIdentityNotAssigned    = "identity_not_assigned"
	causeNoManagedIdentity      = "no_managed_identity"
	causeNoCredential           = "no_credential" //nolint:gosec // a cause, of several credentials
	causeVariableMissing        = "variable_missing"
	causeWorkloadIdentity       = "workload_identity_missing"
	causeTenantInvalid          = "tenant_invalid"
	causeFileUnreadable         = "file_unreadable"
	causeCertificateUnsupported = "certificate_unsupported"
	causeCertificatePassword    = "certificate_password"
	causeCLIMissing             = "cli_missing"
	causeCLILogin               = "cli_login"
)

// tokenError assigns a cause to a failure of the credential: from its last HTTP request if there
// was one, otherwise from the text of the error.
func tokenError(err error, x exchange) *Error {
	text := err.Error()
	_, failed := errors.AsType[*azidentity.AuthenticationFailedError](err)
	// In a chain, only the last credential counts.
	if x.done && (failed || x.managedIdentity && (credentialsTried(text) < 2 || x.status == http.StatusBadRequest)) {
		if e := exchangeError(x, text); e != nil {
			return e
		}
	}
	e := localError(err)
	e.proxied = x.managedIdentity && x.proxied
	return e
}

// exchangeError describes the failure of a credential's HTTP request. It is nil if it succeeded.
func exchangeError(x exchange, text string) *Error {
	endpoint := "the token endpoint"
	if x.managedIdentity {
		endpoint = "the managed identity endpoint"
	}
	e := &Error{Reason: ReasonAuthentication, status: x.status, cause: x.code, proxied: x.managedIdentity && x.proxied}
	describe := func(format string, args ...any) { e.Err = errors.New(printable(fmt.Sprintf(format, args...))) }
	switch status := x.status; {
	case x.err != nil:
		describe("%s: %s", x.host, x.err)
		e.cause = networkCause(e.Err)
		switch {
		case x.managedIdentity:
			e.cause = causeNoManagedIdentity
		case x.proxied && (e.cause == "" || x.err.Error() == "Proxy Authentication Required"):
			describe("%s: the proxy answered %s", x.host, x.err) // which is the reason phrase alone
			e.cause = "proxy"
		}
	case status == http.StatusTooManyRequests, status == http.StatusRequestTimeout, status >= 500,
		x.managedIdentity && (status == http.StatusNotFound || status == http.StatusGone):
		describe("%s answered HTTP %d %s", endpoint, status, x.code)
		e.cause = causeTokenEndpointBusy
	case x.managedIdentity && status == http.StatusBadRequest && (x.isJSON || !x.proxied):
		describe("%s answered HTTP 400: %s", endpoint, managedIdentitySentence(text))
		e.cause = causeIdentityNotAssigned
	case status >= 300 && x.code != "":
		describe("%s answered HTTP %d %s", endpoint, status, x.code)
	case status >= 400 && x.isJSON:
		describe("%s answered HTTP %d", endpoint, status)
	case status >= 300:
		describe("HTTP %d from %s without an Entra ID error: the response is not from Entra ID", status, x.host)
		if x.managedIdentity {
			describe("%s answered HTTP %d", endpoint, status)
		}
		e.cause = causeTokenEndpointForeign
	case !x.isJSON, !x.metadata:
		kind := "something else"
		if x.isJSON {
			kind = "JSON" // its content can be anything
		} else if safeMediaType.MatchString(x.mediaType) {
			kind = x.mediaType
		}
		describe("%s answered HTTP %d %s with %s instead of a token", endpoint, status, x.code, kind)
		e.cause = causeTokenEndpointForeign
	default:
		return nil
	}
	return e
}

var safeMediaType = regexp.MustCompile(`^[a-z]{1,20}/[a-z0-9.+-]{1,40}$`)

// managedIdentitySentence returns azidentity's own explanation of a 400.
func managedIdentitySentence(text string) string {
	for _, sentence := range []string{
		"the requested identity isn't assigned to this resource", "failed to authenticate a system assigned identity",
	} {
		if strings.Contains(text, sentence) {
			return sentence
		}
	}
	return "ManagedIdentityCredential authentication failed"
}

// isRejection reports whether the token endpoint rejected the credential, so that a retry is
// pointless until something changes.
func (e *Error) isRejection() bool {
	return e.status >= 400 && e.status < 500 && e.cause != causeTokenEndpointBusy && e.cause != causeTokenEndpointForeign
}

// unansweredError describes a request that took too long. If an earlier attempt failed, its failure
// says more than the timeout.
func unansweredError(x exchange, after time.Duration) *Error {
	if x.done {
		if e := exchangeError(x, ""); e != nil {
			e.Err = fmt.Errorf("%w; %w", e.Err, context.DeadlineExceeded)
			return e
		}
	}
	text := "no answer in " + seconds(after)
	if x.host != "" {
		text += " from " + x.host
	}
	e := &Error{Reason: ReasonAuthentication, Err: fmt.Errorf("%s: %w", text, context.DeadlineExceeded), cause: causeNoAnswer}
	if x.managedIdentity {
		e.cause, e.proxied = causeNoManagedIdentity, x.proxied
	}
	return e
}

// seconds formats a duration as 30 s or 0.5 s.
func seconds(d time.Duration) string {
	return strconv.FormatFloat(d.Round(100*time.Millisecond).Seconds(), 'f', -1, 64) + " s"
}

// localCauses are recognised by the text of azidentity's errors, which have no other form. The
// first match counts.
var localCauses = []struct {
	cause string
	text  *regexp.Regexp
}{
	{causeCertificatePassword, regexp.MustCompile(`decryption password incorrect`)},
	{causeCertificateUnsupported, regexp.MustCompile(`failed to parse .* due to error|pkcs12: |found no (private key|certificate)|key must be an RSA key|key doesn't match any certificate`)},
	{causeFileUnreadable, regexp.MustCompile(`failed to read certificate file|no such file or directory|permission denied|is empty|is a directory`)},
	{causeTenantInvalid, regexp.MustCompile(`invalid tenantID`)},
	{causeWorkloadIdentity, regexp.MustCompile(`Check pod configuration`)},
	{causeVariableMissing, regexp.MustCompile(`missing environment variable|incomplete environment variable|no value for AZURE_PASSWORD`)},
	{causeCLIMissing, regexp.MustCompile(`executable not found on path|fork/exec /bin/sh`)},
	{causeCLILogin, regexp.MustCompile(`Azure(DeveloperCLI|CLI|PowerShell)Credential`)},
}

// unspecificCauses are meaningless in the error of a chain, where most credentials have one.
var unspecificCauses = []string{"", causeTenantInvalid, causeWorkloadIdentity, causeVariableMissing, causeCLIMissing, causeCLILogin}

// localError describes the failure of a credential without an HTTP response.
func localError(err error) *Error {
	e := &Error{Reason: ReasonAuthentication, Err: errors.New(printable(summarize(err).Error()))}
	text := e.Err.Error()
	e.cause = aadstsCode.FindString(text) // az quotes Entra ID
	for _, c := range localCauses {
		if e.cause == "" && c.text.MatchString(text) {
			e.cause = c.cause
		}
	}
	if credentialsTried(err.Error()) > 1 && slices.Contains(unspecificCauses, e.cause) {
		e.cause = causeNoCredential
	}
	return e
}

// credentialsTried returns how many credentials a chain tried, from its error.
func credentialsTried(text string) int { return len(chainedCredential.FindAllString(text, -1)) }

var chainedCredential = regexp.MustCompile(`\n\t[^\t]`)
