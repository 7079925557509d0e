package azure

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// bearerPolicy authorizes each attempt with the token of the source. When ARM refuses it, the
// attempt is repeated once with another.
//
// azcore's own policy has a lock that ignores contexts: while one request answers a challenge, all
// others wait for the token endpoint beyond their deadlines. It keeps a token that ARM refuses
// without a challenge, and requests another at every challenge, however often that failed.
type bearerPolicy struct {
	host  string // the only one that receives the token
	token *tokenSource
}

// tokenFailure carries why the last attempt had no token, if it had none, past azcore's retries,
// which return the context's error instead once the deadline has passed.
type tokenFailure struct{ err error }

// Do implements [policy.Policy].
func (p bearerPolicy) Do(req *policy.Request) (*http.Response, error) {
	if u := req.Raw().URL; u.Scheme != "https" || !strings.EqualFold(u.Host, p.host) {
		return nil, invalidResponse("refusing to send the token to another host")
	}
	token, err := p.authorize(req)
	if err != nil {
		return nil, err
	}
	resp, err := req.Next()
	if err != nil || resp.StatusCode != http.StatusUnauthorized || isOfOtherTenant(resp) || !p.token.refuse(token, challengeClaims(resp.Header)) {
		return resp, err
	}
	runtime.Drain(resp)
	if _, err := p.authorize(req); err != nil {
		return nil, err
	}
	if err := req.RewindBody(); err != nil {
		return nil, err
	}
	return req.Next()
}

// authorize adds the token to a request.
func (p bearerPolicy) authorize(req *policy.Request) (string, error) {
	token, err := p.token.get(req.Raw().Context())
	req.SetOperationValue(tokenFailure{err})
	if err != nil {
		return "", err
	}
	req.Raw().Header.Set("Authorization", "Bearer "+token.Token)
	return token.Token, nil
}

// isOfOtherTenant reports whether the subscription belongs to another tenant than the identity,
// which no other token of the identity changes.
func isOfOtherTenant(resp *http.Response) bool {
	body, err := runtime.Payload(resp) // was read and stays readable
	return err == nil && strings.Contains(string(body), "InvalidAuthenticationTokenTenant")
}

// maxClaims bounds the claims of a challenge, in bytes of base64: they go into a request.
const maxClaims = 4 << 10

var (
	bearerChallenge = regexp.MustCompile(`(?i)\bBearer ((?:\w+="[^"]*",?\s*)+)`)
	challengeParam  = regexp.MustCompile(`(\w+)="([^"]*)"`)
)

// challengeClaims returns the claims that a challenge of continuous access evaluation requires, as
// JSON, or "" without such a challenge.
func challengeClaims(header http.Header) string {
	for _, value := range header.Values("WWW-Authenticate") {
		for _, challenge := range bearerChallenge.FindAllStringSubmatch(value, -1) {
			params := map[string]string{}
			for _, param := range challengeParam.FindAllStringSubmatch(challenge[1], -1) {
				params[strings.ToLower(param[1])] = param[2]
			}
			if params["error"] != "insufficient_claims" || len(params["claims"]) > maxClaims {
				continue
			}
			if claims, err := base64.StdEncoding.DecodeString(params["claims"]); err == nil && json.Valid(claims) {
				return string(claims)
			}
		}
	}
	return ""
}
