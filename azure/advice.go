package azure

import (
	"fmt"
	"strings"
)

// causeAdvice is how to fix a failure, by the cause of its [Error]. [Hint] returns it for check,
// the status page and the log. docs/troubleshooting.md lists it in the same words.
var causeAdvice = map[string]string{ //nolint:gosec // it names credentials and holds none
	// Entra ID's codes.
	"AADSTS7000215": "the client secret is wrong: use the value of the secret, not its ID, and the secret of the application AZURE_CLIENT_ID",
	"AADSTS7000222": "renew the credential: the client secret has expired; create one with az ad app credential reset --id CLIENT_ID --append",
	"AADSTS700016":  "the application does not exist in the tenant: check AZURE_CLIENT_ID and AZURE_TENANT_ID",
	"AADSTS700024":  "the assertion has expired or is not valid yet: check that the federated token file is renewed and that the system clock is correct",
	"AADSTS700027":  "the certificate is not registered with the application: upload its public part, or use the registered certificate",
	"AADSTS700213":  "no federated credential matches the token: compare its issuer, subject and audience with those of the service account",
	"AADSTS70021":   "no federated credential matches the token: compare its issuer, subject and audience with those of the service account",
	"AADSTS7000112": "the application is disabled: enable it in Entra ID",
	"AADSTS90002":   "the tenant does not exist in Entra ID: check AZURE_TENANT_ID and --azure.cloud",
	"AADSTS900023":  "AZURE_TENANT_ID is invalid: set it to the tenant's ID or one of its domains",
	"AADSTS53003":   "a Conditional Access policy blocks the identity: exclude it from the policy, or allow its IP address",

	// Responses of the token endpoint.
	causeTokenEndpointBusy:    "wait: the token endpoint is overloaded or failing; the credential is not the cause",
	causeTokenEndpointForeign: "check --azure.cloud, and look for a proxy or captive portal that responds instead of the token endpoint",
	causeNoAnswer:             "the token endpoint does not answer: check the route to it (firewall, HTTPS_PROXY); if it persists, see Azure's status page",
	causeIdentityNotAssigned:  "assign the managed identity to this virtual machine, app or cluster; AZURE_CLIENT_ID must be the client ID of a user-assigned identity, or unset for the system-assigned identity",
	causeNoManagedIdentity:    "the managed identity endpoint cannot be reached: check that this host runs in Azure with an assigned identity, and that no firewall or network policy blocks 169.254.169.254; elsewhere set AZURE_TOKEN_CREDENTIALS to another credential",

	// The network.
	"dns":                "the host name does not resolve: check DNS and --azure.cloud",
	"proxy":              "the proxy is unreachable or refuses the connection: check HTTPS_PROXY, and NO_PROXY for hosts that need no proxy",
	"tls":                "the host's certificate is not trusted: set SSL_CERT_FILE to a file with its CA; a proxy that inspects TLS has its own CA",
	"connection_refused": "check the route to the host: firewall, and HTTPS_PROXY if a proxy is needed",
	"unreachable":        "check the route to the host: firewall, and HTTPS_PROXY if a proxy is needed",
	"connect_timeout":    "check the route to the host: firewall, and HTTPS_PROXY if a proxy is needed",
	"connection_lost":    "check for a proxy or firewall that cuts connections",

	// The host.
	causeNoCredential:           "no credential was found: set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, or use a workload identity, a managed identity or az login; choose one with AZURE_TOKEN_CREDENTIALS",
	causeVariableMissing:        "set AZURE_TENANT_ID and AZURE_CLIENT_ID, and one of AZURE_CLIENT_SECRET, AZURE_CLIENT_CERTIFICATE_PATH or --azure.client-secret-file",
	causeWorkloadIdentity:       "label the pod azure.workload.identity/use=true and annotate its service account with azure.workload.identity/client-id, or set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_FEDERATED_TOKEN_FILE",
	causeTenantInvalid:          "AZURE_TENANT_ID is invalid: set it to the tenant's ID or one of its domains",
	causeFileUnreadable:         "check that the file exists, has content and is readable by this user: AZURE_CLIENT_CERTIFICATE_PATH, AZURE_FEDERATED_TOKEN_FILE or --azure.client-secret-file",
	causeCertificateUnsupported: "use PEM with an unencrypted RSA key and its certificate, or PKCS #12 in the format before OpenSSL 3; convert the file: openssl pkcs12 -in FILE -nodes -out NEW.pem, or openssl pkey for an encrypted PEM",
	causeCertificatePassword:    "the password does not open the certificate file: check AZURE_CLIENT_CERTIFICATE_PASSWORD",
	causeCLIMissing:             "install the Azure CLI on the PATH of this process, or set AZURE_TOKEN_CREDENTIALS to another credential",
	causeCLILogin:               "run az login as the user of this process",

	// ARM's codes.
	"InvalidAuthenticationTokenTenant":   "the subscription belongs to a different tenant than the identity: set AZURE_TENANT_ID to that tenant, or exclude the subscription with --azure.exclude-subscription-id",
	"InvalidAuthenticationTokenAudience": "ARM rejects the token's audience: check --azure.cloud and --azure.arm-audience",
	"ExpiredAuthenticationToken":         "check the system clock: ARM considers the token expired",
}

// noProxyAdvice is added if a proxy was between a managed identity and its endpoint, which answers
// only requests that come from the host.
const noProxyAdvice = "set NO_PROXY=169.254.169.254: requests for managed identities must not use HTTP_PROXY"

// adviceFor returns how to fix the failure, or "" if its cause is not known.
func adviceFor(e *Error) string {
	advice := causeAdvice[e.cause]
	if code, ok := strings.CutPrefix(e.cause, "AADSTS"); ok && advice == "" {
		advice = fmt.Sprintf("look up %s at https://login.microsoftonline.com/error?code=%s; check AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_TOKEN_CREDENTIALS", e.cause, code)
	}
	switch {
	case !e.proxied:
		return advice
	case e.cause == causeTokenEndpointBusy, e.cause == causeIdentityNotAssigned, e.cause == causeNoCredential:
		return advice + "; " + noProxyAdvice
	}
	return noProxyAdvice
}
