package simulator_test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// wantToken expects a token for the credential, or an error with the code.
func wantToken(t *testing.T, a *simulator.Server, credential azcore.TokenCredential, code string) {
	t.Helper()
	options := policy.TokenRequestOptions{Scopes: []string{a.URL() + "/.default"}}
	_, err := credential.GetToken(context.Background(), options)
	switch {
	case code == "" && err != nil:
		t.Errorf("no token: %v", err)
	case code != "" && (err == nil || !strings.Contains(err.Error(), code+":")):
		t.Errorf("error %v, want %s", err, code)
	}
}

func TestSetSecret_RefusesThePrevious(t *testing.T) {
	a, c := start(t, simulator.Tenant{})
	secret := func(secret string) azcore.TokenCredential {
		credential, err := azidentity.NewClientSecretCredential(simulator.TenantID, simulator.ClientID, secret,
			&azidentity.ClientSecretCredentialOptions{
				ClientOptions: azcore.ClientOptions{Cloud: a.Cloud(), Transport: c.http}, DisableInstanceDiscovery: true,
			})
		if err != nil {
			t.Fatal(err)
		}
		return credential
	}
	wantToken(t, a, secret(simulator.ClientSecret), "")
	a.SetSecret("rotated")
	wantToken(t, a, secret(simulator.ClientSecret), "AADSTS7000215")
	wantToken(t, a, secret("rotated"), "")
}

func TestSetFederatedToken_RefusesThePrevious(t *testing.T) {
	a, c := start(t, simulator.Tenant{})
	file := filepath.Join(t.TempDir(), "token")
	federated := func(token string) azcore.TokenCredential {
		if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
		credential, err := azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{
			ClientOptions: azcore.ClientOptions{Cloud: a.Cloud(), Transport: c.http}, DisableInstanceDiscovery: true,
			TenantID: simulator.TenantID, ClientID: simulator.ClientID, TokenFilePath: file,
		})
		if err != nil {
			t.Fatal(err)
		}
		return credential
	}
	wantToken(t, a, federated(simulator.FederatedToken), "")
	a.SetFederatedToken("rotated")
	wantToken(t, a, federated(simulator.FederatedToken), "AADSTS700024")
	wantToken(t, a, federated("rotated"), "")
	wantToken(t, a, federated("unknown"), "AADSTS700213")
}

func TestSetCertificate_RefusesThePrevious(t *testing.T) {
	var mu sync.Mutex
	var late time.Duration
	a, c := start(t, simulator.Tenant{Now: func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return time.Now().Add(late)
	}})
	credential := func(file []byte) azcore.TokenCredential { return certificateCredential(t, a, c, file) }
	first, firstFile, err := simulator.NewClientCertificate()
	if err != nil {
		t.Fatal(err)
	}
	second, secondFile, err := simulator.NewClientCertificate()
	if err != nil {
		t.Fatal(err)
	}
	wantToken(t, a, credential(firstFile), "AADSTS700027")
	a.SetCertificate(first)
	wantToken(t, a, credential(firstFile), "")
	a.SetCertificate(second)
	wantToken(t, a, credential(firstFile), "AADSTS700027")
	wantToken(t, a, credential(secondFile), "")

	mu.Lock()
	late = time.Hour // an assertion lives ten minutes
	mu.Unlock()
	wantToken(t, a, credential(secondFile), "AADSTS700024")
}

func certificateCredential(t *testing.T, a *simulator.Server, c *client, file []byte) azcore.TokenCredential {
	t.Helper()
	certificates, key, err := azidentity.ParseCertificates(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	credential, err := azidentity.NewClientCertificateCredential(simulator.TenantID, simulator.ClientID, certificates, key,
		&azidentity.ClientCertificateCredentialOptions{
			ClientOptions: azcore.ClientOptions{Cloud: a.Cloud(), Transport: c.http}, DisableInstanceDiscovery: true,
		})
	if err != nil {
		t.Fatal(err)
	}
	return credential
}

// Naming the certificate is not enough: its key must sign.
func TestSetCertificate_RefusesAnInvalidSignature(t *testing.T) {
	a, c := start(t, simulator.Tenant{})
	certificate, file, err := simulator.NewClientCertificate()
	if err != nil {
		t.Fatal(err)
	}
	a.SetCertificate(certificate)
	a.SetTokenFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		assertion := r.PostFormValue("client_assertion")
		signature := strings.LastIndex(assertion, ".") + 1
		r.PostForm.Set("client_assertion", assertion[:signature]+"AAAA"+assertion[signature+4:])
		next.ServeHTTP(w, r)
	})
	wantToken(t, a, certificateCredential(t, a, c, file), "AADSTS700027")
	a.SetTokenFault(nil)
	wantToken(t, a, certificateCredential(t, a, c, file), "")
}
