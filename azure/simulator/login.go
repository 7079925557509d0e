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

// TokenPrefix starts every access token of the simulator, so that tests can search for leaked ones.
const TokenPrefix = "simulated-access-token-"

// accessToken is the state of an issued token.
type accessToken struct {
	expires time.Time
	claims  string // of the challenge that ARM answers; empty for none
}

// ExpireTokens expires every issued token: ARM refuses it with 401 ExpiredAuthenticationToken.
func (s *Server) ExpireTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for token := range s.tokens {
		s.tokens[token] = accessToken{expires: s.now()}
	}
}

// RevokeTokens makes ARM refuse every issued token with 401 InvalidAuthenticationToken and no
// claims challenge, although the token has not expired. Tokens issued later are accepted.
func (s *Server) RevokeTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.tokens)
}

// ChallengeTokens makes ARM refuse every issued token as [Challenge] does. Tokens issued later are
// accepted.
func (s *Server) ChallengeTokens(claims string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for token, t := range s.tokens {
		s.tokens[token] = accessToken{t.expires, claims}
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
		s.tokens[token] = accessToken{expires: s.now().Add(s.tokenLifetime)}
		s.mu.Unlock()
		seconds := int(s.tokenLifetime.Seconds()) - 1
		writeJSON(w, http.StatusOK, map[string]any{
			"token_type": "Bearer", "expires_in": seconds, "ext_expires_in": seconds, "access_token": token,
		})
	}
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
	issued, known := s.tokens[token]
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
	case issued.claims != "":
		challenge(w, issued.claims)
	case !now.Before(issued.expires):
		expiredToken(w, issued.expires, now)
	default:
		return true
	}
	return false
}
