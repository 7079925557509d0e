package azure

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// replace replaces a file as Kubernetes and careful operators do: by renaming a new one.
func replace(t *testing.T, file string, content []byte) {
	t.Helper()
	if err := os.WriteFile(file+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// A replaced file is used by the next token request, without a restart: when the token has to be
// replaced anyway, when ARM refuses it, and when Entra ID has already refused the old content.
func TestCredential_Rotation(t *testing.T) {
	newCertificate := func(t *testing.T, sim *simulator.Server) (file []byte, accept func()) {
		t.Helper()
		certificate, file, err := simulator.NewClientCertificate()
		if err != nil {
			t.Fatal(err)
		}
		return file, func() { sim.SetCertificate(certificate) }
	}
	next := 0
	for name, credential := range map[string]struct {
		environment map[string]string // %s stands for the file
		flag        bool              // the file is that of --azure.client-secret-file
		create      func(*testing.T, *simulator.Server) (content []byte, accept func())
		refusal     string
	}{
		"secret file": {
			secret("AZURE_CLIENT_SECRET", "", "AZURE_TOKEN_CREDENTIALS", ""), true,
			func(_ *testing.T, sim *simulator.Server) ([]byte, func()) {
				next++
				value := fmt.Sprintf("%s-%d", simulator.ClientSecret, next)
				return []byte(" " + value + "\r\n"), func() { sim.SetSecret(value) }
			}, "AADSTS7000215",
		},
		"certificate": {
			secret("AZURE_CLIENT_SECRET", "", "AZURE_CLIENT_CERTIFICATE_PATH", "%s"), false, newCertificate, "AADSTS700027",
		},
		"federated token": {
			map[string]string{"AZURE_TOKEN_CREDENTIALS": "WorkloadIdentityCredential", "AZURE_TENANT_ID": simulator.TenantID, "AZURE_CLIENT_ID": simulator.ClientID, "AZURE_FEDERATED_TOKEN_FILE": "%s"},
			false,
			func(_ *testing.T, sim *simulator.Server) ([]byte, func()) {
				next++
				value := fmt.Sprintf("%s.%d", simulator.FederatedToken, next)
				return []byte(value), func() { sim.SetFederatedToken(value) }
			}, "AADSTS700024",
		},
	} {
		for how, rotate := range map[string]func(*testing.T, *simulator.Server, *Client, simulator.Tenant, func(), func()){
			"before it is needed": func(_ *testing.T, sim *simulator.Server, _ *Client, _ simulator.Tenant, accept, replace func()) {
				accept()
				replace()
				sim.RevokeTokens()
			},
			"after a challenge": func(_ *testing.T, sim *simulator.Server, _ *Client, _ simulator.Tenant, accept, replace func()) {
				accept()
				replace()
				sim.ChallengeTokens(sessionsRevoked)
			},
			"after it was refused": func(t *testing.T, sim *simulator.Server, client *Client, tenant simulator.Tenant, accept, replace func()) {
				t.Helper()
				accept()
				sim.RevokeTokens()
				for range 2 {
					if err := read(t, client, tenant, 20*time.Second); ReasonOf(err) != ReasonAuthentication || !strings.Contains(err.Error(), credential.refusal) {
						t.Errorf("with the old file: %v, want %s", err, credential.refusal)
					}
				}
				replace()
			},
		} {
			t.Run(name+"/"+how, func(t *testing.T) {
				tenant := simulator.Generate(2, 1)
				sim := startSimulator(t, tenant)
				file := filepath.Join(t.TempDir(), "file")
				content, accept := credential.create(t, sim)
				accept()
				replace(t, file, content)
				environment := map[string]string{}
				for variable, value := range credential.environment {
					if value != "" {
						environment[variable] = strings.ReplaceAll(value, "%s", file)
					}
				}
				setEnvironment(t, environment)
				cfg := Config{}
				if credential.flag {
					cfg.ClientSecretFile = file
				}
				client := connect(t, sim, cfg)
				if err := read(t, client, tenant, 20*time.Second); err != nil {
					t.Fatal(err)
				}
				content, accept = credential.create(t, sim)
				rotate(t, sim, client, tenant, accept, func() { replace(t, file, content) })
				if err := read(t, client, tenant, 20*time.Second); err != nil {
					t.Errorf("with the new file: %v", err)
				}
			})
		}
	}
}

// A valid token outlives its secret, whatever becomes of the file.
func TestCredential_ValidTokenOutlivesFile(t *testing.T) {
	tenant := simulator.Generate(2, 1)
	sim := startSimulator(t, tenant)
	file := write(t, "secret", []byte(simulator.ClientSecret))
	setEnvironment(t, map[string]string{"AZURE_TENANT_ID": simulator.TenantID, "AZURE_CLIENT_ID": simulator.ClientID})
	client := connect(t, sim, Config{ClientSecretFile: file})
	if err := read(t, client, tenant, 20*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	sim.SetSecret("another")
	if err := read(t, client, tenant, 20*time.Second); err != nil {
		t.Errorf("with a valid token: %v", err)
	}
	sim.RevokeTokens()
	err := read(t, client, tenant, 20*time.Second)
	expectAdvice(t, err, "no such file or directory", "--azure.client-secret-file")
	replace(t, file, []byte("another"))
	if err := read(t, client, tenant, 20*time.Second); err != nil {
		t.Errorf("with the new file: %v", err)
	}
}

// A secret that comes from a pipe is read once; the credential that has it stays.
func TestCredential_Pipe(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	path := fmt.Sprintf("/dev/fd/%d", reader.Fd())
	if _, err := os.Stat(path); err != nil {
		t.Skip("no files for descriptors")
	}
	if _, err := writer.WriteString(simulator.ClientSecret); err != nil {
		t.Fatal(err)
	}
	writer.Close()
	tenant := simulator.Generate(2, 1)
	sim := startSimulator(t, tenant)
	setEnvironment(t, map[string]string{"AZURE_TENANT_ID": simulator.TenantID, "AZURE_CLIENT_ID": simulator.ClientID})
	client := connect(t, sim, Config{ClientSecretFile: path})
	sim.SetTokenFault(simulator.ExpiredSecret())
	if err := read(t, client, tenant, 20*time.Second); ReasonOf(err) != ReasonAuthentication {
		t.Errorf("got %v", err)
	}
	sim.SetTokenFault(nil)
	if err := read(t, client, tenant, 20*time.Second); err != nil {
		t.Error(err)
	}
}

// Managed identities share one cache in the process, so a new credential has the refused token,
// too.
func TestCredential_RefusedManagedIdentityToken(t *testing.T) {
	tenant := simulator.Generate(2, 1)
	sim := startSimulator(t, tenant)
	other := connectWith(t, sim) // gets the tokens that the endpoint hands out
	var issued atomic.Int64
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		issued.Add(1)
		token, err := other.get(r.Context())
		if err != nil {
			t.Error(err)
		}
		other.refuse(token.Token, fmt.Sprintf(`{"n":%d}`, issued.Load())) // a new one for each request
		fmt.Fprintf(w, `{"access_token":%q,"expires_on":"%d","resource":"x","token_type":"Bearer"}`, token.Token, time.Now().Add(time.Hour).Unix())
	}))
	defer endpoint.Close()
	setEnvironment(t, map[string]string{
		"AZURE_TOKEN_CREDENTIALS": "ManagedIdentityCredential", "AZURE_CLIENT_ID": simulator.ClientID,
		"IDENTITY_ENDPOINT": endpoint.URL, "IDENTITY_HEADER": "header",
	})
	client := connect(t, sim, Config{})
	for want := int64(1); want <= 2; want++ {
		if err := read(t, client, tenant, 20*time.Second); err != nil || issued.Load() != want {
			t.Errorf("%d tokens issued, want %d: %v", issued.Load(), want, err)
		}
		sim.RevokeTokens()
	}
}

func connectWith(t *testing.T, sim *simulator.Server) *tokenSource {
	t.Helper()
	client := connect(t, sim, Config{Credential: func(o azcore.ClientOptions) (azcore.TokenCredential, error) { return sim.Credential(o) }})
	return client.token
}

func TestCredential_SecretFileInvalid(t *testing.T) {
	identity := map[string]string{"AZURE_TENANT_ID": simulator.TenantID, "AZURE_CLIENT_ID": simulator.ClientID}
	file := write(t, "secret", []byte(simulator.ClientSecret))
	with := func(name, value string) map[string]string {
		environment := map[string]string{name: value}
		for n, v := range identity {
			if n != name {
				environment[n] = v
			}
		}
		return environment
	}
	for name, test := range map[string]struct {
		environment map[string]string
		file, want  string
	}{
		"no tenant":         {with("AZURE_TENANT_ID", ""), file, "AZURE_TENANT_ID is not set"},
		"no client":         {with("AZURE_CLIENT_ID", ""), file, "AZURE_CLIENT_ID is not set"},
		"secret also given": {with("AZURE_CLIENT_SECRET", simulator.ClientSecret), file, "AZURE_CLIENT_SECRET is also set: use one or the other"},
		"missing":           {identity, filepath.Join(t.TempDir(), "missing"), "no such file or directory"},
		"empty":             {identity, write(t, "empty", []byte(" \n")), "empty is empty"},
		"huge":              {identity, write(t, "huge", make([]byte, 2<<20)), "is larger than 1048576 bytes"},
		"a directory":       {identity, t.TempDir(), "is a directory"},
		"malformed tenant":  {with("AZURE_TENANT_ID", "my tenant"), file, "invalid tenantID"},
	} {
		t.Run(name, func(t *testing.T) {
			setEnvironment(t, test.environment)
			_, err := New(Config{ClientSecretFile: test.file})
			if err == nil || !strings.HasPrefix(err.Error(), "credential: --azure.client-secret-file: ") || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want one line with %q", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), simulator.ClientSecret) {
				t.Error("the error contains the secret")
			}
		})
	}
}
