package simulator

// What the one identity authenticates with, and how a test rotates it.

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// The only identity that the simulator knows. Its secrets open nothing else.
const (
	TenantID = "11111111-aaaa-4bbb-8ccc-222222222222"
	ClientID = "33333333-dddd-4eee-8fff-444444444444"
	ObjectID = "55555555-eeee-4fff-8aaa-666666666666"
	// ClientSecret is accepted until SetSecret replaces it.
	ClientSecret = "simulated~client~secret"
	// FederatedToken is the content of a workload identity's token file, until SetFederatedToken
	// replaces it.
	FederatedToken = "simulated.federated.token"
)

// SetSecret replaces the client secret: the previous one is refused with AADSTS7000215.
func (s *Server) SetSecret(secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.identity.secret = secret
}

// SetFederatedToken replaces the federated token: the previous one is refused with AADSTS700024, as
// an expired assertion.
func (s *Server) SetFederatedToken(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.identity.expired = append(s.identity.expired, s.identity.federatedToken)
	s.identity.federatedToken = token
}

// SetCertificate replaces the client certificate: assertions signed by another one are refused with
// AADSTS700027. At the start there is none.
func (s *Server) SetCertificate(certificate *x509.Certificate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.identity.certificate = certificate
}

// NewClientCertificate creates a certificate for SetCertificate and the PEM file, with its RSA key,
// that azidentity reads it from.
func NewClientCertificate() (*x509.Certificate, []byte, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, nil, fmt.Errorf("create a client certificate: %w", err)
	}
	certificate, err := newCertificate(key)
	if err != nil {
		return nil, nil, fmt.Errorf("create a client certificate: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("create a client certificate: %w", err)
	}
	file := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})
	file = append(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})...)
	return certificate, file, nil
}

// identity is what the token endpoint accepts.
type identity struct {
	secret         string
	federatedToken string
	expired        []string          // earlier federated tokens
	certificate    *x509.Certificate // nil for none
}

// authenticated reports whether the client's secret or assertion is right, and answers 401 if not.
func (s *Server) authenticated(w http.ResponseWriter, r *http.Request) bool {
	const jwtBearer = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	secret, assertion := r.PostFormValue("client_secret"), r.PostFormValue("client_assertion")
	s.mu.Lock()
	id := s.identity
	s.mu.Unlock()
	switch {
	case secret == "" && assertion == "":
		invalidClient(w, 7000218, "The request body must contain the following parameter: "+
			"'client_assertion' or 'client_secret'.")
	case secret != "" && secret != id.secret:
		invalidClient(w, 7000215, fmt.Sprintf("Invalid client secret provided. Ensure the secret being "+
			"sent in the request is the client secret value, not the client secret ID, for a secret "+
			"added to app '%s'.", ClientID))
	case secret != "":
		return true
	case r.PostFormValue("client_assertion_type") != jwtBearer:
		invalidClient(w, 700211, "The client assertion type is not supported.")
	default:
		return s.assertionAccepted(w, id, assertion)
	}
	return false
}

// assertionAccepted reports whether the assertion is the current federated token, or is signed by
// the current certificate, and answers 401 if not.
func (s *Server) assertionAccepted(w http.ResponseWriter, id identity, assertion string) bool {
	now := s.now()
	signed, ok := parseAssertion(assertion)
	switch {
	case assertion == id.federatedToken:
		return true
	case slices.Contains(id.expired, assertion):
		expiredAssertion(w, now, now.Add(-time.Minute))
	case !ok:
		invalidClient(w, 700213, "No matching federated identity record found for presented assertion.")
	case !signed.by(id.certificate):
		invalidClient(w, 700027, fmt.Sprintf("The certificate with identifier used to sign the client "+
			"assertion is not registered on application. [Reason - The key was not found., Thumbprint "+
			"of key used by client: '%X', Please visit the Azure Portal, Graph Explorer or directly use "+
			"MS Graph to see configured keys for app Id '%s'.]", signed.thumbprint, ClientID))
	case !now.Before(signed.expires):
		expiredAssertion(w, now, signed.expires)
	default:
		return true
	}
	return false
}

func expiredAssertion(w http.ResponseWriter, now, expired time.Time) {
	invalidClient(w, 700024, fmt.Sprintf("Client assertion is not within its valid time range. "+
		"Current time: %s, assertion valid from 1970-01-01T00:00:00.0000000Z, expiry time of assertion %s. "+
		"Review the documentation at "+
		"https://learn.microsoft.com/entra/identity-platform/certificate-credentials .",
		now.UTC().Format(graphTimeLayout), expired.UTC().Format(graphTimeLayout)))
}

// signedAssertion is a JSON web token that the Microsoft authentication library signed with PS256.
type signedAssertion struct {
	signed     string // header and claims
	signature  []byte
	thumbprint []byte // SHA-256 of the certificate
	expires    time.Time
}

// parseAssertion reports false for anything but an assertion that names its certificate.
func parseAssertion(assertion string) (a signedAssertion, ok bool) {
	parts := strings.Split(assertion, ".")
	if len(parts) != 3 {
		return a, false
	}
	var header struct {
		Algorithm  string `json:"alg"`
		Thumbprint []byte `json:"x5t#S256"`
	}
	var claims struct {
		Expires int64 `json:"exp"`
	}
	if decodePart(parts[0], &header) != nil || decodePart(parts[1], &claims) != nil ||
		header.Algorithm != "PS256" {
		return a, false
	}
	a.signed = parts[0] + "." + parts[1]
	a.thumbprint, a.expires = header.Thumbprint, time.Unix(claims.Expires, 0)
	var err error
	a.signature, err = base64.RawURLEncoding.DecodeString(parts[2])
	return a, err == nil
}

func decodePart(part string, v any) error {
	b, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

// by reports whether the certificate, which can be nil, signed the assertion.
func (a signedAssertion) by(certificate *x509.Certificate) bool {
	if certificate == nil {
		return false
	}
	thumbprint, digest := sha256.Sum256(certificate.Raw), sha256.Sum256([]byte(a.signed))
	key, ok := certificate.PublicKey.(*rsa.PublicKey)
	return ok && bytes.Equal(a.thumbprint, thumbprint[:]) &&
		rsa.VerifyPSS(key, crypto.SHA256, digest[:], a.signature, nil) == nil
}
