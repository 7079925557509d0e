package simulator

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// The only identity that the simulator knows. Its secrets open nothing else.
const (
	TenantID     = "11111111-aaaa-4bbb-8ccc-222222222222"
	ClientID     = "33333333-dddd-4eee-8fff-444444444444"
	ObjectID     = "55555555-eeee-4fff-8aaa-666666666666"
	ClientSecret = "simulated~client~secret"
	// FederatedToken is the content of a workload identity's token file.
	FederatedToken = "simulated.federated.token"
)

// TokenPrefix starts every access token of the simulator, so that tests can search for leaked ones.
const TokenPrefix = "simulated-access-token-"

// ExpireTokens expires every issued token: ARM refuses it with 401 ExpiredAuthenticationToken.
func (s *Server) ExpireTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for token := range s.tokens {
		s.tokens[token] = s.now()
	}
}

// login wraps the answers of the token endpoint with what they have in common.
func (s *Server) login(route string, next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.countRequest(route)
		w.Header().Set("Cache-Control", "no-store, no-cache")
		w.Header().Set("x-ms-request-id", newGUID())
		if tenant := r.PathValue("tenant"); tenant != TenantID {
			loginError(w, http.StatusBadRequest, "invalid_request", 90002,
				fmt.Sprintf("Tenant '%s' not found. Check to make sure you have the correct tenant ID "+
					"and are signing into the correct cloud.", tenant))
			return
		}
		if f := s.fault(route, ""); f != nil {
			f(w, r, next)
			return
		}
		next(w, r)
	})
}

// issueToken is the client credentials grant.
func (s *Server) issueToken(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		loginError(w, http.StatusBadRequest, "invalid_request", 900561, fmt.Sprintf(
			"The endpoint only accepts POST requests. Received a %s request.", r.Method))
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
	grant, client := r.PostFormValue("grant_type"), r.PostFormValue("client_id")
	scope := r.PostFormValue("scope")
	switch {
	case grant != "client_credentials":
		loginError(w, http.StatusBadRequest, "unsupported_grant_type", 70003,
			"The app requested an unsupported grant type '"+grant+"'.")
	case client != ClientID:
		loginError(w, http.StatusBadRequest, "unauthorized_client", 700016, fmt.Sprintf(
			"Application with identifier '%s' was not found in the directory 'Simulator'.", client))
	case !slices.Contains(strings.Fields(scope), s.url+"/.default"):
		loginError(w, http.StatusBadRequest, "invalid_scope", 70011, fmt.Sprintf(
			"The provided request must include a 'scope' input parameter. The provided value for the "+
				"input parameter 'scope' is not valid. The scope %s is not valid.", scope))
	case !s.authenticated(w, r):
	default:
		token := newToken()
		s.mu.Lock()
		s.tokens[token] = s.now().Add(s.tokenLifetime)
		s.mu.Unlock()
		seconds := int(s.tokenLifetime.Seconds()) - 1
		writeJSON(w, http.StatusOK, map[string]any{
			"token_type": "Bearer", "expires_in": seconds, "ext_expires_in": seconds, "access_token": token,
		})
	}
}

// authenticated reports whether the client's secret or assertion is right, and answers 401 if not.
func (s *Server) authenticated(w http.ResponseWriter, r *http.Request) bool {
	const jwtBearer = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	secret, assertion := r.PostFormValue("client_secret"), r.PostFormValue("client_assertion")
	kind := r.PostFormValue("client_assertion_type")
	switch {
	case secret == "" && assertion == "":
		invalidClient(w, 7000218, "The request body must contain the following parameter: "+
			"'client_assertion' or 'client_secret'.")
	case secret != "" && secret != ClientSecret:
		invalidClient(w, 7000215, fmt.Sprintf("Invalid client secret provided. Ensure the secret being "+
			"sent in the request is the client secret value, not the client secret ID, for a secret "+
			"added to app '%s'.", ClientID))
	case secret == "" && (kind != jwtBearer || assertion != FederatedToken):
		invalidClient(w, 700213, "No matching federated identity record found for presented assertion.")
	default:
		return true
	}
	return false
}

// newToken creates a token whose second part describes the identity, as in Entra's tokens.
func newToken() string {
	claims := fmt.Sprintf(`{"tid":%q,"appid":%q,"oid":%q,"idtyp":"app"}`, TenantID, ClientID, ObjectID)
	return TokenPrefix + rand.Text() + "." +
		base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".unsigned"
}

func (s *Server) openIDConfiguration(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]string{
		"token_endpoint":         s.url + "/" + TenantID + "/oauth2/v2.0/token",
		"authorization_endpoint": s.url + "/" + TenantID + "/oauth2/v2.0/authorize",
		"jwks_uri":               s.url + "/" + TenantID + "/discovery/v2.0/keys",
		"issuer":                 s.url + "/" + TenantID + "/v2.0",
	})
}

// authorized reports whether ARM accepts the request's token, and answers 401 if not.
func (s *Server) authorized(w http.ResponseWriter, r *http.Request) bool {
	header := r.Header.Get("Authorization")
	token, bearer := strings.CutPrefix(header, "Bearer ")
	s.mu.Lock()
	expiry, known := s.tokens[token]
	s.mu.Unlock()
	switch now := s.now(); {
	case header == "":
		unauthorized(w, "AuthenticationFailed",
			"Authentication failed. The 'Authorization' header is missing.")
	case !bearer:
		unauthorized(w, "AuthenticationFailed",
			"Authentication failed. The 'Authorization' header is provided in an invalid format.")
	case !known:
		unauthorized(w, "InvalidAuthenticationToken", "The access token is invalid.")
	case !now.Before(expiry):
		expiredToken(w, expiry, now)
	default:
		return true
	}
	return false
}
