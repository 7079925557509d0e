package azure

import (
	"bytes"
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/go-kit/log"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// setEnvironment replaces all variables that azidentity reads.
func setEnvironment(t *testing.T, environment map[string]string) {
	t.Helper()
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		for _, prefix := range []string{"AZURE_", "IDENTITY_", "IMDS_", "MSI_"} {
			if strings.HasPrefix(name, prefix) {
				t.Setenv(name, "")
				if err := os.Unsetenv(name); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for name, value := range environment {
		t.Setenv(name, value)
	}
}

// secret returns the environment of a service principal, changed as given by pairs of name and
// value.
func secret(changes ...string) map[string]string {
	environment := map[string]string{
		"AZURE_TOKEN_CREDENTIALS": "EnvironmentCredential", "AZURE_TENANT_ID": simulator.TenantID,
		"AZURE_CLIENT_ID": simulator.ClientID, "AZURE_CLIENT_SECRET": simulator.ClientSecret,
	}
	for i := 0; i < len(changes); i += 2 {
		environment[changes[i]] = changes[i+1]
	}
	return environment
}

// connect creates a client with azidentity's own credential, from the environment, against the
// simulator.
func connect(t *testing.T, sim *simulator.Server, cfg Config) *Client {
	t.Helper()
	cfg.Cloud, cfg.RootCAs, cfg.PrivateCloud = sim.Cloud(), sim.RootCAs(), true
	client, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func startSimulator(t *testing.T, tenant simulator.Tenant) *simulator.Server {
	t.Helper()
	sim, err := simulator.Start(tenant)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	return sim
}

// expectAdvice fails unless the error is one line with the text, and the hint has the advice.
func expectAdvice(t *testing.T, err error, text, advice string) {
	t.Helper()
	if ReasonOf(err) != ReasonAuthentication {
		t.Fatalf("reason %q of %v", ReasonOf(err), err)
	}
	hint := Hint(err, "", Identity{})
	if !strings.Contains(err.Error(), text) || strings.ContainsAny(err.Error(), "\n\x1b") {
		t.Errorf("got  %q\nwant one line with %q", err, text)
	}
	if !strings.Contains(hint, advice) {
		t.Errorf("hint %q\nof   %v\nwant %q", hint, err, advice)
	}
	for _, leaked := range []string{simulator.ClientSecret, simulator.TokenPrefix, "Trace ID", "<html"} {
		if strings.Contains(err.Error()+hint, leaked) {
			t.Errorf("%q is in %q, %q", leaked, err, hint)
		}
	}
}

func TestTokenError_EntraID(t *testing.T) {
	t.Parallel()
	login := func(code int) simulator.Fault { return simulator.LoginError(401, "invalid_client", code, "…") }
	for name, test := range map[string]struct {
		fault        simulator.Fault
		text, advice string
	}{
		"wrong secret":         {login(7000215), "the token endpoint answered HTTP 401 AADSTS7000215", "the client secret is wrong"},
		"expired secret":       {simulator.ExpiredSecret(), "HTTP 401 AADSTS7000222", "the client secret has expired"},
		"unknown application":  {login(700016), "HTTP 401 AADSTS700016", "check AZURE_CLIENT_ID"},
		"expired assertion":    {login(700024), "HTTP 401 AADSTS700024", "the assertion has expired"},
		"unknown certificate":  {login(700027), "HTTP 401 AADSTS700027", "certificate is not registered"},
		"unknown tenant":       {login(90002), "HTTP 401 AADSTS90002", "check AZURE_TENANT_ID and --azure.cloud"},
		"conditional access":   {simulator.LoginError(400, "interaction_required", 53003, "…"), "HTTP 400 AADSTS53003", "Conditional Access"},
		"another code":         {login(50034), "HTTP 401 AADSTS50034", "look up AADSTS50034 at https://login.microsoftonline.com/error?code=50034"},
		"throttled":            {simulator.LoginUnavailable(429), "the token endpoint answered HTTP 429 AADSTS90055", "wait: the token endpoint is overloaded"},
		"broken":               {simulator.LoginUnavailable(500), "HTTP 500 AADSTS50000", "the credential is not the cause"},
		"unavailable":          {simulator.LoginUnavailable(503), "HTTP 503 AADSTS90033", "wait"},
		"gateway":              {simulator.Body(504, "text/html", "<html>"), "HTTP 504", "wait"},
		"portal":               {simulator.Garbage(), "HTTP 200 with text/html instead of a token", "proxy or captive portal"},
		"portal that forbids":  {simulator.Body(403, "text/html", "<html>"), "the response is not from Entra ID", "proxy or captive portal"},
		"redirect":             {simulator.Redirect("https://127.0.0.1:1/"), "HTTP 307", "proxy or captive portal"},
		"hang":                 {simulator.Hang(), "no answer in 0.5 s from 127.0.0.1", "does not answer"},
		"token in a bad reply": {simulator.Body(200, "application/json", `{"access_token":"`+simulator.TokenPrefix+`x"}`), "JSON instead of a token", "proxy or captive portal"},
		"token in a 200 error": {simulator.Body(200, "application/json", `{"error":"`+simulator.TokenPrefix+`","error_description":"`+simulator.ClientSecret+`"}`), "JSON instead of a token", ""},
		"token in an error":    {simulator.Body(400, "application/json", `{"error":"`+simulator.ClientSecret+`","error_description":"`+simulator.TokenPrefix+`"}`), "the token endpoint answered HTTP 400", "renew the credential"},
		"token as media type":  {simulator.Body(200, simulator.TokenPrefix+"/x", ""), "with something else instead of a token", ""},
		"connection cut":       {simulator.Truncated(), "127.0.0.1", "cuts connections"},
		"larger than a token":  {simulator.Huge(1<<30, true), "too large", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := Config{}
			if name == "hang" {
				cfg.tokenTimeout = time.Second / 2
			}
			sim, client := start(t, simulator.Tenant{}, cfg)
			sim.SetTokenFault(test.fault)
			expectAdvice(t, client.Authenticate(within(t, 20*time.Second)), test.text, test.advice)
		})
	}
}

// What the credential meets before it gets an answer.
func TestTokenError_Host(t *testing.T) {
	sim := startSimulator(t, simulator.Tenant{})
	missing := filepath.Join(t.TempDir(), "missing")
	without := func(name string, environment map[string]string) map[string]string {
		delete(environment, name)
		return environment
	}
	certificate := func(path, password string) map[string]string {
		return without("AZURE_CLIENT_SECRET", secret("AZURE_CLIENT_CERTIFICATE_PATH", path, "AZURE_CLIENT_CERTIFICATE_PASSWORD", password))
	}
	at := func(authority string) func(*Config) {
		return func(cfg *Config) { cfg.Cloud.ActiveDirectoryAuthorityHost = authority }
	}
	for name, test := range map[string]struct {
		environment  map[string]string
		change       func(*Config)
		text, advice string
	}{
		"no such host":        {secret(), at("https://login.no-such-host.invalid/"), "no such host", "does not resolve"},
		"connection refused":  {secret(), at("https://127.0.0.1:1/"), "127.0.0.1:1: connect: connection refused", "check the route to the host"},
		"unknown CA":          {secret(), func(cfg *Config) { cfg.RootCAs = x509.NewCertPool() }, "certificate signed by unknown authority", "SSL_CERT_FILE"},
		"unknown tenant":      {secret("AZURE_TENANT_ID", "contoso.example"), nil, "HTTP 400 AADSTS90002", "check AZURE_TENANT_ID and --azure.cloud"},
		"malformed tenant":    {secret("AZURE_TENANT_ID", "my tenant"), nil, "invalid tenantID", "AZURE_TENANT_ID is invalid"},
		"no tenant":           {without("AZURE_TENANT_ID", secret()), nil, "missing environment variable AZURE_TENANT_ID", "set AZURE_TENANT_ID"},
		"no secret":           {without("AZURE_CLIENT_SECRET", secret()), nil, "incomplete environment variable configuration", "--azure.client-secret-file"},
		"certificate missing": {certificate(missing, ""), nil, "no such file or directory", "check that the file exists"},
		"certificate without key": {
			certificate(write(t, "cert.pem", sim.CertificatePEM()), ""), nil,
			"found no private key", "unencrypted RSA key",
		},
		"encrypted PEM":               {certificate("testdata/certificates/encrypted.pem", ""), nil, "found no private key", "openssl pkey for an encrypted PEM"},
		"encrypted PEM with password": {certificate("testdata/certificates/encrypted.pem", "secret"), nil, "failed to parse", "openssl pkey for an encrypted PEM"},
		"PFX of OpenSSL 3":            {certificate("testdata/certificates/openssl3.pfx", "secret"), nil, "pkcs12: ", "openssl pkcs12 -in FILE -nodes -out NEW.pem"},
		"PFX with another password":   {certificate("testdata/certificates/legacy.pfx", "wrong"), nil, "decryption password incorrect", "AZURE_CLIENT_CERTIFICATE_PASSWORD"},
		"PFX that is not registered":  {certificate("testdata/certificates/legacy.pfx", "secret"), nil, "HTTP 401 AADSTS700027", "certificate is not registered"},
		"az missing": {
			map[string]string{"AZURE_TOKEN_CREDENTIALS": "AzureCLICredential", "PATH": t.TempDir()},
			nil,
			"AzureCLICredential: executable not found on path", "install the Azure CLI",
		},
		"az without login": {
			map[string]string{"AZURE_TOKEN_CREDENTIALS": "AzureCLICredential", "PATH": fakeCLI(t, "\x1b[31mERROR: Please run 'az login' to setup account.\x1b[0m")},
			nil,
			"ERROR: Please run 'az login' to setup account.", "az login",
		},
		"workload identity without webhook": {map[string]string{"AZURE_TOKEN_CREDENTIALS": "WorkloadIdentityCredential"}, nil, "Check pod configuration", "label the pod"},
		"federated token missing": {
			map[string]string{"AZURE_TOKEN_CREDENTIALS": "WorkloadIdentityCredential", "AZURE_TENANT_ID": simulator.TenantID, "AZURE_CLIENT_ID": simulator.ClientID, "AZURE_FEDERATED_TOKEN_FILE": missing},
			nil,
			"no such file or directory", "AZURE_FEDERATED_TOKEN_FILE",
		},
		"nothing": {map[string]string{"AZURE_TOKEN_CREDENTIALS": "dev", "PATH": t.TempDir()}, nil, "AzureCLICredential: executable not found on path", "no credential was found"},
	} {
		t.Run(name, func(t *testing.T) {
			setEnvironment(t, test.environment)
			cfg := Config{Cloud: sim.Cloud(), RootCAs: sim.RootCAs(), PrivateCloud: true}
			if test.change != nil {
				test.change(&cfg)
			}
			client, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			expectAdvice(t, client.Authenticate(within(t, 20*time.Second)), test.text, test.advice)
		})
	}
}

// fakeCLI returns a directory with an az that fails with this message.
func fakeCLI(t *testing.T, message string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "az"), []byte("#!/bin/sh\necho \""+message+"\" >&2\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t *testing.T, name string, content []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// The endpoint of App Service and, behind HTTP_PROXY, that of virtual machines.
func TestTokenError_ManagedIdentity(t *testing.T) {
	const (
		assigned   = "assign the managed identity"
		throughOne = "set NO_PROXY=169.254.169.254"
		json       = "application/json"
	)
	notFound := simulator.Body(400, json, `{"error":"invalid_request","error_description":"Identity not found"}`)
	for name, test := range map[string]struct {
		appService   bool
		systemOwned  bool
		fault        simulator.Fault // nil refuses connections
		text, advice string
	}{
		"App Service, not assigned":    {true, false, simulator.Body(400, json, `{"statusCode":400,"message":"No User Assigned or Delegated Managed Identity found"}`), "the managed identity endpoint answered HTTP 400: ManagedIdentityCredential authentication failed", assigned},
		"App Service, throttled":       {true, false, simulator.Body(429, json, `{}`), "the managed identity endpoint answered HTTP 429", "wait"},
		"App Service, broken":          {true, false, simulator.Body(500, json, `{}`), "HTTP 500", "wait"},
		"App Service, hang":            {true, false, simulator.Hang(), "no answer in 2 s from 127.0.0.1", "cannot be reached"},
		"App Service, refused":         {true, false, nil, "connection refused", "cannot be reached"},
		"user-assigned, not assigned":  {false, false, notFound, "HTTP 400: the requested identity isn't assigned to this resource", assigned},
		"system-assigned, none":        {false, true, notFound, "HTTP 400: failed to authenticate a system assigned identity", assigned},
		"virtual machine, throttled":   {false, false, simulator.Body(429, json, `{"error":"too_many_requests"}`), "the managed identity endpoint answered HTTP 429", "wait"},
		"virtual machine, unavailable": {false, false, simulator.Body(503, json, `{}`), "HTTP 503", "wait"},
		"virtual machine, restarting":  {false, false, simulator.Body(410, json, `{}`), "HTTP 410", "wait"},
		"proxy that cannot reach it":   {false, false, simulator.Body(502, "text/html", "<html>"), "HTTP 502", throughOne},
		"proxy that forbids it":        {false, false, simulator.Body(403, "text/html", "<html>unreachable"), "HTTP 403", throughOne},
		"proxy with a portal":          {false, false, simulator.Garbage(), "HTTP 200 with text/html instead of a token", throughOne},
		"proxy that refuses":           {false, false, nil, "proxyconnect", throughOne},
	} {
		t.Run(name, func(t *testing.T) {
			address := "http://127.0.0.1:1"
			if test.fault != nil && os.Getenv("HTTP_PROXY") == "" {
				server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { test.fault(w, r, nil) }))
				defer server.Close()
				address = server.URL
			}
			environment := map[string]string{"AZURE_TOKEN_CREDENTIALS": "ManagedIdentityCredential"}
			if !test.systemOwned {
				environment["AZURE_CLIENT_ID"] = simulator.ClientID
			}
			if test.appService {
				environment["IDENTITY_ENDPOINT"], environment["IDENTITY_HEADER"] = address+"/msi/token", "header"
			} else if !isRerun(t, "HTTP_PROXY="+address) {
				return
			}
			setEnvironment(t, environment)
			client, err := New(Config{tokenTimeout: 2 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			expectAdvice(t, client.Authenticate(within(t, 20*time.Second)), test.text, test.advice)
		})
	}
}

func TestTokenError_Proxy(t *testing.T) {
	for name, test := range map[string]struct {
		status       int // of the answer to CONNECT; 0 refuses connections
		text, advice string
	}{
		"refuses connections": {0, "proxyconnect tcp: dial tcp 127.0.0.1:1: connect: connection refused", "check HTTPS_PROXY"},
		"forbids":             {http.StatusForbidden, "login.example.invalid: the proxy answered Forbidden", "check HTTPS_PROXY"},
		"wants a password":    {http.StatusProxyAuthRequired, "the proxy answered Proxy Authentication Required", "check HTTPS_PROXY"},
	} {
		t.Run(name, func(t *testing.T) {
			address := "127.0.0.1:1"
			if test.status != 0 && os.Getenv("HTTPS_PROXY") == "" {
				proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(test.status) }))
				defer proxy.Close()
				address = strings.TrimPrefix(proxy.URL, "http://")
			}
			if !isRerun(t, "HTTPS_PROXY=http://user:"+simulator.ClientSecret+"@"+address) {
				return
			}
			setEnvironment(t, secret())
			cfg := Config{Cloud: cloud.AzurePublic, PrivateCloud: true}
			cfg.Cloud.ActiveDirectoryAuthorityHost = "https://login.example.invalid/"
			client, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			expectAdvice(t, client.Authenticate(within(t, 20*time.Second)), test.text, test.advice)
		})
	}
}

// isRerun runs the test in a process of its own with the variable, which net/http reads only once.
// In that process it reports true.
func isRerun(t *testing.T, variable string) bool {
	t.Helper()
	name, _, _ := strings.Cut(variable, "=")
	if os.Getenv(name) != "" {
		return true
	}
	cmd := exec.CommandContext(within(t, time.Minute), os.Args[0], "-test.run=^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$")
	cmd.Env = append(os.Environ(), variable)
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("PASS")) || bytes.Contains(out, []byte("no tests to run")) {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// At the start the log says what the environment gets wrong.
func TestNew_WarnsAboutEnvironment(t *testing.T) {
	for name, test := range map[string]struct {
		environment map[string]string
		want        string // empty means nothing
	}{
		"nothing odd":         {secret("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.com"), ""},
		"another cloud":       {secret("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.us/"), `level=warn msg="AZURE_AUTHORITY_HOST contradicts --azure.cloud and is ignored" authority_host=login.microsoftonline.us used=login.microsoftonline.com fix="unset AZURE_AUTHORITY_HOST, or set --azure.cloud=usgovernment"`},
		"an unknown cloud":    {secret("AZURE_AUTHORITY_HOST", "https://login.contoso.example"), `fix="unset AZURE_AUTHORITY_HOST"`},
		"PFX of OpenSSL 3":    {secret("AZURE_CLIENT_SECRET", "", "AZURE_CLIENT_CERTIFICATE_PATH", "testdata/certificates/openssl3.pfx", "AZURE_CLIENT_CERTIFICATE_PASSWORD", "secret"), `msg="azidentity cannot read the client certificate" file=testdata/certificates/openssl3.pfx`},
		"encrypted PEM":       {secret("AZURE_CLIENT_SECRET", "", "AZURE_CLIENT_CERTIFICATE_PATH", "testdata/certificates/encrypted.pem"), "openssl pkey for an encrypted PEM"},
		"no certificate":      {secret("AZURE_CLIENT_SECRET", "", "AZURE_CLIENT_CERTIFICATE_PATH", "testdata/none"), "check that the file exists"},
		"certificate unused":  {secret("AZURE_CLIENT_CERTIFICATE_PATH", "testdata/none"), ""},
		"old PFX":             {secret("AZURE_CLIENT_SECRET", "", "AZURE_CLIENT_CERTIFICATE_PATH", "testdata/certificates/legacy.pfx", "AZURE_CLIENT_CERTIFICATE_PASSWORD", "secret"), ""},
		"not a host":          {secret("AZURE_AUTHORITY_HOST", "login"), ""},
		"password in address": {secret("AZURE_AUTHORITY_HOST", "https://user:"+simulator.ClientSecret+"@login.contoso.example"), "authority_host=login.contoso.example "},
	} {
		t.Run(name, func(t *testing.T) {
			setEnvironment(t, test.environment)
			var buffer bytes.Buffer
			client, err := New(Config{Logger: log.NewLogfmtLogger(&buffer)})
			if err != nil {
				t.Fatal(err)
			}
			client.Close()
			if text := buffer.String(); test.want == "" && text != "" || !strings.Contains(text, test.want) {
				t.Errorf("got  %swant %s", text, test.want)
			}
			if strings.Contains(buffer.String(), simulator.ClientSecret) {
				t.Error("the log contains a secret")
			}
		})
	}
}

// Each cause has advice of its own, and each advice a cause that can happen.
func TestAdvice(t *testing.T) {
	t.Parallel()
	for cause, want := range causeAdvice {
		err := &Error{Reason: ReasonAuthentication, Err: errors.New("x"), cause: cause}
		if got := Hint(err, "", Identity{}); got != want {
			t.Errorf("%s: got %q", cause, got)
		}
	}
	for _, c := range localCauses {
		if causeAdvice[c.cause] == "" {
			t.Errorf("no advice for %s", c.cause)
		}
	}
	for _, c := range networkCauses {
		if causeAdvice[c.cause] == "" {
			t.Errorf("no advice for %s", c.cause)
		}
	}
}
