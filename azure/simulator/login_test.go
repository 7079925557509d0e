package simulator_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

func TestLogin_Credentials(t *testing.T) {
	a, c := start(t, simulator.Generate(1, 1))
	options := azcore.ClientOptions{Cloud: a.Cloud(), Transport: c.http}
	tokenFile := filepath.Join(t.TempDir(), "token")

	workload := func(token string) azcore.TokenCredential {
		if err := os.WriteFile(tokenFile, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
		credential, err := azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{
			ClientOptions: options, TenantID: simulator.TenantID, ClientID: simulator.ClientID, TokenFilePath: tokenFile, DisableInstanceDiscovery: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		return credential
	}
	secret := func(tenant, client, secret string) azcore.TokenCredential {
		credential, err := azidentity.NewClientSecretCredential(tenant, client, secret, &azidentity.ClientSecretCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: true})
		if err != nil {
			t.Fatal(err)
		}
		return credential
	}
	for _, test := range []struct {
		name       string
		credential azcore.TokenCredential
		scope      string
		want       string // part of the error; empty for a token
	}{
		{"workload identity", workload(simulator.FederatedToken), a.URL() + "/.default", ""},
		{"client secret", secret(simulator.TenantID, simulator.ClientID, simulator.ClientSecret), a.URL() + "/.default", ""},
		{"wrong secret", secret(simulator.TenantID, simulator.ClientID, "wrong"), a.URL() + "/.default", "AADSTS7000215"},
		{"wrong client", secret(simulator.TenantID, simulator.TenantID, simulator.ClientSecret), a.URL() + "/.default", "AADSTS700016"},
		{"wrong tenant", secret(simulator.ClientID, simulator.ClientID, simulator.ClientSecret), a.URL() + "/.default", "AADSTS90002"},
		{"wrong scope", secret(simulator.TenantID, simulator.ClientID, simulator.ClientSecret), "https://graph.microsoft.com/.default", "AADSTS70011"},
	} {
		t.Run(test.name, func(t *testing.T) {
			token, err := test.credential.GetToken(context.Background(), policy.TokenRequestOptions{Scopes: []string{test.scope}})
			if test.want != "" {
				var failed *azidentity.AuthenticationFailedError
				if !errors.As(err, &failed) || !strings.Contains(err.Error(), test.want) {
					t.Errorf("got error %v, want one with %s", err, test.want)
				}
				return
			}
			if err != nil || !strings.HasPrefix(token.Token, simulator.TokenPrefix) {
				t.Errorf("got token %q, error %v", token.Token, err)
			}
		})
	}

	wrong := workload("wrong")
	if _, err := wrong.GetToken(context.Background(), policy.TokenRequestOptions{Scopes: []string{a.URL() + "/.default"}}); err == nil || !strings.Contains(err.Error(), "AADSTS700213") {
		t.Errorf("wrong federated token: %v", err)
	}
}

func accessToken(t *testing.T, a *simulator.Server, c *client) string {
	t.Helper()
	credential, err := a.Credential(azcore.ClientOptions{Transport: c.http})
	if err != nil {
		t.Fatal(err)
	}
	token, err := credential.GetToken(context.Background(), policy.TokenRequestOptions{Scopes: []string{a.URL() + "/.default"}})
	if err != nil {
		t.Fatal(err)
	}
	return token.Token
}

func TestExpireTokens_RefusesIssuedTokens(t *testing.T) {
	a, c := start(t, simulator.Generate(1, 1))
	c.list(subscriptionsPath)
	a.ExpireTokens()
	response, body := c.body(subscriptionsPath)
	if response.StatusCode != 401 || !strings.Contains(body, "ExpiredAuthenticationToken") {
		t.Errorf("got %d %s", response.StatusCode, body)
	}
}

// A revoked token is refused before its expiry; a token issued later is accepted.
func TestRevokedTokens(t *testing.T) {
	const claims = "eyJhY2Nlc3NfdG9rZW4iOnt9fQ=="
	for name, test := range map[string]struct {
		revoke func(*simulator.Server)
		body   string
		header string // part of WWW-Authenticate
	}{
		"plain":     {(*simulator.Server).RevokeTokens, `"code":"InvalidAuthenticationToken"`, `error="invalid_token"`},
		"challenge": {func(a *simulator.Server) { a.ChallengeTokens(claims) }, "", `claims="` + claims + `"`},
	} {
		t.Run(name, func(t *testing.T) {
			a, c := start(t, simulator.Generate(1, 1))
			get := func(token string) (*http.Response, string) {
				t.Helper()
				request, err := http.NewRequest(http.MethodGet, a.URL()+subscriptionsPath, nil)
				if err != nil {
					t.Fatal(err)
				}
				request.Header.Set("Authorization", "Bearer "+token)
				response, err := c.http.Do(request)
				if err != nil {
					t.Fatal(err)
				}
				return response, c.read(response)
			}
			old := accessToken(t, a, c)
			if response, body := get(old); response.StatusCode != 200 {
				t.Fatalf("before: %d %s", response.StatusCode, body)
			}
			test.revoke(a)
			response, body := get(old)
			if got := response.Header.Get("WWW-Authenticate"); response.StatusCode != 401 || !strings.Contains(body, test.body) || !strings.Contains(got, test.header) {
				t.Errorf("revoked: %d %s, WWW-Authenticate: %s", response.StatusCode, body, got)
			}
			if response, body := get(accessToken(t, a, c)); response.StatusCode != 200 {
				t.Errorf("issued later: %d %s", response.StatusCode, body)
			}
		})
	}
}
