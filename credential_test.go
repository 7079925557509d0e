package main

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// The log says at the start whether the credential works, and how to fix it.
func TestCredential_TriedAtStart(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault simulator.Fault
		want  []string
	}{
		"works":        {nil, []string{"level=info", `msg="the credential works" identity="tenant ` + simulator.TenantID + ", client " + simulator.ClientID}},
		"wrong secret": {simulator.LoginError(401, "invalid_client", 7000215, "…"), []string{"level=warn", `msg="the credential does not work" reason=authentication err="get token: the token endpoint answered HTTP 401 AADSTS7000215" fix="the client secret is wrong`}},
		"unavailable":  {simulator.LoginUnavailable(503), []string{`fix="wait: `}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			azure := startAzure(t, simulator.Generate(2, 1))
			azure.SetTokenFault(test.fault)
			p := start(t, secretEnv(t, azure), azure.Flags()...)
			waitFor(t, "the credential to be tried", func() bool { return strings.Contains(p.log.String(), "the credential ") })
			for _, want := range test.want {
				if !strings.Contains(p.log.String(), want) {
					t.Errorf("the log has no %s:\n%s", want, p.log.String())
				}
			}
		})
	}
	t.Run("demo", func(t *testing.T) {
		t.Parallel()
		p := start(t, nil, "--demo")
		waitFor(t, "the credential to be tried", func() bool { return strings.Contains(p.log.String(), "the credential works") })
	})
}

// Nothing waits for a token endpoint that hangs: not the pages, not the end.
func TestCredential_HangAtStart(t *testing.T) {
	t.Parallel()
	azure := startAzure(t, simulator.Generate(2, 1))
	azure.SetTokenFault(simulator.Hang())
	p := start(t, secretEnv(t, azure), azure.Flags()...)
	if status, _ := p.get(t, "/-/ready"); status != 200 {
		t.Errorf("/-/ready: %d", status)
	}
	waitFor(t, "the token request", func() bool { return azure.Requests()[simulator.RouteToken] > 0 })
	began := time.Now()
	p.stop(t, syscall.SIGTERM)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("stopped after %s", took)
	}
	if strings.Contains(p.log.String(), "the credential") {
		t.Errorf("the log blames the credential:\n%s", p.log.String())
	}
}

// While ARM challenges every token and the token endpoint hangs, pages keep the deadline that
// Prometheus sends.
func TestCredential_HangDuringChallenge(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(20, 1)
	azure := startAzure(t, tenant)
	p := start(t, secretEnv(t, azure), azure.Flags()...)
	if up := p.scrape(t).value("azure_secure_score_up"); up != 1 {
		t.Fatalf("up is %g; log:\n%s", up, p.log.String())
	}
	azure.ChallengeTokens("eyJhY2Nlc3NfdG9rZW4iOnt9fQ==")
	azure.SetTokenFault(simulator.Hang())
	for _, path := range []string{"/metrics", "/metrics", "/probe?target=" + tenant.Subscriptions[0].ID} {
		began := time.Now()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", "5")
		resp, err := p.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		page, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		status, body := resp.StatusCode, string(page)
		if took := time.Since(began); took > 5*time.Second || status != 200 {
			t.Errorf("%s: %d after %s", path, status, took)
		}
		if !strings.Contains(body, `reason="authentication"`) && !strings.Contains(body, `reason="timeout"`) {
			t.Errorf("%s has no reason:\n%s", path, body)
		}
	}
}

// A replaced secret file is used without a restart, also after Entra ID refused the old one.
func TestCredential_SecretFile(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(2, 1)
	azure := startAzure(t, tenant)
	file := write(t, "secret", []byte(simulator.ClientSecret+"\n"))
	env := []string{"AZURE_TENANT_ID=" + simulator.TenantID, "AZURE_CLIENT_ID=" + simulator.ClientID, trust(t, azure)}
	p := start(t, env, append(azure.Flags(), "--azure.client-secret-file="+file, "--log.level=debug")...)
	expect := func(success float64) {
		t.Helper()
		if got := p.scrape(t).value("azure_secure_score_subscription_scrape_success", "subscription_id", tenant.Subscriptions[0].ID); got != success {
			t.Errorf("success is %g, want %g; log:\n%s", got, success, p.log.String())
		}
	}
	expect(1)
	azure.SetSecret("another~secret")
	azure.RevokeTokens()
	expect(0)
	if err := os.WriteFile(file, []byte("another~secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	expect(1)
	for _, secret := range []string{simulator.ClientSecret, "another~secret", simulator.TokenPrefix} {
		if strings.Contains(p.log.String(), secret) {
			t.Error("the log contains a secret")
		}
	}
}

func TestFlags_SecretFile(t *testing.T) {
	t.Parallel()
	file := write(t, "secret", []byte("x"))
	identity := []string{"AZURE_TENANT_ID=" + simulator.TenantID, "AZURE_CLIENT_ID=" + simulator.ClientID}
	for mistake, test := range map[string]struct {
		env  []string
		args []string
		want string
	}{
		"no identity": {nil, []string{"--azure.client-secret-file=" + file}, "--azure.client-secret-file: AZURE_TENANT_ID is not set"},
		"two secrets": {append(identity, "AZURE_CLIENT_SECRET=x"), []string{"--azure.client-secret-file=" + file}, "--azure.client-secret-file: AZURE_CLIENT_SECRET is also set"},
		"missing":     {identity, []string{"--azure.client-secret-file=" + filepath.Join(t.TempDir(), "none")}, "no such file or directory"},
		"demo":        {identity, []string{"--demo", "--azure.client-secret-file=" + file}, "--demo reads a simulated tenant"},
		"a directory, and a warning that can wait": {append(identity, "AZURE_AUTHORITY_HOST=https://login.microsoftonline.us"), []string{"--azure.client-secret-file=" + t.TempDir()}, "is a directory"},
	} {
		t.Run(mistake, func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := runToEnd(t, test.env, append(test.args, "--web.listen-address=127.0.0.1:0")...)
			if code != 2 || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, name+": error: ") || !strings.Contains(stderr, test.want) {
				t.Errorf("exit code %d, want 2 and one line about %q:\n%s", code, test.want, stderr)
			}
		})
	}
}
