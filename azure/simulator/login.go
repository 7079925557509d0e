package simulator

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// The one identity that the simulator knows. Its secrets open nothing else.
const (
	TenantID     = "11111111-aaaa-4bbb-8ccc-222222222222"
	ClientID     = "33333333-dddd-4eee-8fff-444444444444"
	ObjectID     = "55555555-eeee-4fff-8aaa-666666666666"
	ClientSecret = "simulated~client~secret"
	// FederatedToken is what a workload identity's token file has to hold.
	FederatedToken = "simulated.federated.token"
)

// TokenPrefix is how every access token of the simulator begins, so that a test can look for one where none may be.
const TokenPrefix = "simulated-access-token-"

// ExpireTokens makes every token that was issued so far an expired one: ARM refuses it with 401 ExpiredAuthenticationToken.
func (a *Server) ExpireTokens() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for token := range a.tokens {
		a.tokens[token] = a.now()
	}
}

// authorised tells whether ARM takes the request's token, and answers 401 when it does not.
func (a *Server) authorised(w http.ResponseWriter, r *http.Request) bool {
	header := r.Header.Get("Authorization")
	token, ok := strings.CutPrefix(header, "Bearer ")
	a.mu.Lock()
	expiry, known := a.tokens[token]
	a.mu.Unlock()
	switch now := a.now(); {
	case header == "":
		unauthorised(w, "AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing.")
	case !ok:
		unauthorised(w, "AuthenticationFailed", "Authentication failed. The 'Authorization' header is provided in an invalid format.")
	case !known:
		unauthorised(w, "InvalidAuthenticationToken", "The access token is invalid.")
	case !now.Before(expiry):
		expiredToken(w, expiry, now)
	default:
		return true
	}
	return false
}

func expiredToken(w http.ResponseWriter, expiry, now time.Time) {
	const american = "1/2/2006 3:04:05 PM"
	unauthorised(w, "ExpiredAuthenticationToken", fmt.Sprintf("The access token expiry UTC time '%s' is earlier than current UTC time '%s'.",
		expiry.UTC().Format(american), now.UTC().Format(american)))
}

// login wraps the login endpoint's answers with what they have in common.
func (a *Server) login(route string, answer http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.count(route)
		w.Header().Set("Cache-Control", "no-store, no-cache")
		w.Header().Set("x-ms-request-id", newGUID())
		a.mu.Lock()
		f := a.tokenFault
		a.mu.Unlock()
		if tenant := r.PathValue("tenant"); tenant != "" && tenant != TenantID {
			loginError(w, http.StatusBadRequest, "invalid_request", 90002, fmt.Sprintf("Tenant '%s' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud.", tenant))
			return
		}
		if f != nil && route == RouteToken {
			f(w, r, answer)
			return
		}
		answer(w, r)
	})
}

// issueToken is the client-credentials grant.
func (a *Server) issueToken(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		loginError(w, http.StatusBadRequest, "invalid_request", 900561, fmt.Sprintf("The endpoint only accepts POST requests. Received a %s request.", r.Method))
		return
	}
	const jwtBearer = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
	secret, assertion := r.PostFormValue("client_secret"), r.PostFormValue("client_assertion")
	switch {
	case r.PostFormValue("grant_type") != "client_credentials":
		loginError(w, http.StatusBadRequest, "unsupported_grant_type", 70003, "The app requested an unsupported grant type '"+r.PostFormValue("grant_type")+"'.")
	case r.PostFormValue("client_id") != ClientID:
		loginError(w, http.StatusBadRequest, "unauthorized_client", 700016, fmt.Sprintf("Application with identifier '%s' was not found in the directory 'Simulator'.", r.PostFormValue("client_id")))
	case !slices.Contains(strings.Fields(r.PostFormValue("scope")), a.url+"/.default"):
		loginError(w, http.StatusBadRequest, "invalid_scope", 70011, fmt.Sprintf("The provided request must include a 'scope' input parameter. The provided value for the input parameter 'scope' is not valid. The scope %s is not valid.", r.PostFormValue("scope")))
	case secret == "" && assertion == "":
		loginError(w, http.StatusUnauthorized, "invalid_client", 7000218, "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.")
	case secret != "" && secret != ClientSecret:
		loginError(w, http.StatusUnauthorized, "invalid_client", 7000215, fmt.Sprintf("Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '%s'.", ClientID))
	case secret == "" && (assertion != FederatedToken || r.PostFormValue("client_assertion_type") != jwtBearer):
		loginError(w, http.StatusUnauthorized, "invalid_client", 700213, "No matching federated identity record found for presented assertion.")
	default:
		token := newToken()
		a.mu.Lock()
		a.tokens[token] = a.now().Add(a.tokenLifetime)
		a.mu.Unlock()
		seconds := int(a.tokenLifetime.Seconds()) - 1
		writeJSON(w, http.StatusOK, map[string]any{"token_type": "Bearer", "expires_in": seconds, "ext_expires_in": seconds, "access_token": token})
	}
}

// newToken makes a token that tells of the identity as Entra's tokens do, in the second of three parts. The others mean nothing here.
func newToken() string {
	claims := fmt.Sprintf(`{"tid":%q,"appid":%q,"oid":%q,"idtyp":"app"}`, TenantID, ClientID, ObjectID)
	return TokenPrefix + rand.Text() + "." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".unsigned"
}

func (a *Server) openIDConfiguration(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]string{
		"token_endpoint":         a.url + "/" + TenantID + "/oauth2/v2.0/token",
		"authorization_endpoint": a.url + "/" + TenantID + "/oauth2/v2.0/authorize",
		"jwks_uri":               a.url + "/" + TenantID + "/discovery/v2.0/keys",
		"issuer":                 a.url + "/" + TenantID + "/v2.0",
	})
}

func (a *Server) instanceDiscovery(w http.ResponseWriter, r *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{
		"tenant_discovery_endpoint": a.url + "/" + TenantID + "/v2.0/.well-known/openid-configuration",
		"api-version":               "1.1",
		"metadata":                  []map[string]any{{"preferred_network": r.Host, "preferred_cache": r.Host, "aliases": []string{r.Host}}},
	})
}

// loginError writes the error body of the login endpoint. Its description has several lines, which a log line or a label may not take over.
func loginError(w http.ResponseWriter, status int, kind string, code int, description string) {
	trace, correlation, now := newGUID(), newGUID(), time.Now().UTC().Format("2006-01-02 15:04:05Z")
	writeJSON(w, status, map[string]any{
		"error": kind,
		"error_description": fmt.Sprintf("AADSTS%d: %s\r\nTrace ID: %s\r\nCorrelation ID: %s\r\nTimestamp: %s",
			code, description, trace, correlation, now),
		"error_codes":    []int{code},
		"timestamp":      now,
		"trace_id":       trace,
		"correlation_id": correlation,
		"error_uri":      fmt.Sprintf("https://login.microsoftonline.com/error?code=%d", code),
	})
}
