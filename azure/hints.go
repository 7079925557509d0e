package azure

import (
	"cmp"
	"errors"
)

// Hint returns how to fix an error from this package: a command if there is one, else advice. The
// subscription ID may be empty; in a command, capitals stand for what is unknown.
func Hint(err error, subscriptionID string, identity Identity) string {
	subscriptionID = cmp.Or(subscriptionID, "SUBSCRIPTION_ID")
	scope, flag := "/subscriptions/"+subscriptionID, "--azure.subscription-id"
	if e, ok := errors.AsType[*Error](err); ok && e.group != "" {
		scope, flag = "/providers/Microsoft.Management/managementGroups/"+e.group, "--azure.management-group"
	}
	switch ReasonOf(err) {
	case ReasonAuthentication:
		return "renew the credential; check AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_TOKEN_CREDENTIALS, and look up the AADSTS code; without a code, check the route to the token endpoint (proxy, firewall)"
	case ReasonForbidden:
		return identity.roleAssignment(scope)
	case ReasonNotFound:
		return "check " + flag + "; if it exists: " + identity.roleAssignment(scope)
	case ReasonNotRegistered:
		return "az provider register --namespace Microsoft.Security --subscription " + subscriptionID
	case ReasonThrottled:
		return "wait some minutes; scrape less often or set --cache.ttl"
	case ReasonTimeout:
		return "raise Prometheus' scrape_timeout and --scrape.timeout, or --azure.concurrency"
	case ReasonServerError:
		return "wait; if it lasts, see Azure's status page"
	case ReasonNetwork:
		return "check name resolution, firewall, proxy (HTTPS_PROXY) and certificates (SSL_CERT_FILE)"
	case ReasonInvalidResponse:
		return "check for a proxy or portal that answers in Azure's place; otherwise report a bug"
	}
	return ""
}
