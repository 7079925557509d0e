package azure

import (
	"cmp"
	"errors"
)

// Hint returns how to fix an error from this package: a command if there is one, else advice. The
// subscription ID may be empty; in a command, capitals stand for what is unknown.
func Hint(err error, subscriptionID string, identity Identity) string {
	subscriptionID = cmp.Or(subscriptionID, "SUBSCRIPTION_ID")
	assign := identity.roleAssignment("/subscriptions/" + subscriptionID)
	flag := "--azure.subscription-id"
	if e, ok := errors.AsType[*Error](err); ok && e.group != "" {
		assign = identity.roleAssignment("/providers/Microsoft.Management/managementGroups/" + e.group)
		flag = "--azure.management-group"
		// Azure also answers 403 for a group that does not exist.
		if e.Reason == ReasonForbidden && !errors.Is(err, errNoSubscription) {
			return "check that " + flag + " is the ID of the group and not its display name; if it is: " + assign
		}
	}
	exclude := "exclude it with --azure.exclude-subscription-id=" + subscriptionID
	switch {
	case hasCause(err, codeDisabled):
		return "enable the subscription, or " + exclude
	case hasCause(err, unavailableCodes...):
		return "Defender for Cloud is not available for this subscription or in this cloud: " + exclude
	}
	if e, ok := errors.AsType[*Error](err); ok {
		if advice := adviceFor(e); advice != "" {
			return advice
		}
	}
	switch ReasonOf(err) {
	case ReasonAuthentication:
		return "renew the credential; check AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_TOKEN_CREDENTIALS, and look up the AADSTS code; if there is none, check the route to the token endpoint (proxy, firewall)"
	case ReasonForbidden:
		return assign
	case ReasonNotFound:
		return "check " + flag + "; if it exists: " + assign
	case ReasonNotRegistered:
		return "az provider register --namespace Microsoft.Security --subscription " + subscriptionID
	case ReasonThrottled:
		return "wait a few minutes; set --cache.ttl, or give the exporter its own identity"
	case ReasonTimeout:
		return "raise Prometheus' scrape_timeout and --scrape.timeout, or --azure.concurrency"
	case ReasonServerError:
		return "wait; if it persists, see Azure's status page"
	case ReasonNetwork:
		return "check DNS, the firewall, the proxy (HTTPS_PROXY) and certificates (SSL_CERT_FILE)"
	case ReasonInvalidResponse:
		return "check for a proxy or captive portal that responds instead of Azure; otherwise report a bug"
	}
	return ""
}
