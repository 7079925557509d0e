package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// These tests drive the program as its users do: as a process, by its command
// line, its environment, its signals and its socket. Azure is the simulator, in
// the process of the tests.

// binary is the path of the built program.
var binary string

func TestMain(m *testing.M) {
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", name)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, name)
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %s\n%s", err, out)
		return 1
	}
	return m.Run()
}

func TestHelpAndVersion(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{"--help", "-h"} {
		code, stdout, stderr := runToEnd(t, nil, flag)
		if code != 0 || stderr != "" {
			t.Errorf("%s: exit code %d, standard error %q", flag, code, stderr)
		}
		for _, f := range flags(t) {
			if !strings.Contains(stdout, f.Name) || !strings.Contains(stdout, "$"+f.Envar) {
				t.Errorf("%s does not tell of --%s and $%s", flag, f.Name, f.Envar)
			}
		}
	}
	code, stdout, stderr := runToEnd(t, nil, "--version")
	if code != 0 || stderr != "" || !strings.HasPrefix(stdout, name+", version ") || !strings.Contains(stdout, runtime.Version()) {
		t.Errorf("--version: exit code %d, standard output %q, standard error %q", code, stdout, stderr)
	}
}

// What a user gets wrong is one line on standard error and the exit code 2. Every
// case asks for an address that is in use: a program that tried to listen before
// it had checked everything would end with 1.
func TestMistakes(t *testing.T) {
	t.Parallel()
	used, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer used.Close()
	unknownKey := write(t, "web.yml", []byte("tls_server: {}\n"))
	badConfig := write(t, "web.yml", []byte("tls_server_config: {cert_file: missing.pem}\n"))
	const id, other = "20ff7fc3-e762-44dd-bd96-b71116dcdc23", "4f9b2c7d-81e3-4a56-b0d8-6c25e7f1a930"
	const prefix = "AZURE_SECURE_SCORE_EXPORTER_"

	for _, test := range []struct {
		name string
		args []string
		env  []string
		want string // in the line
	}{
		{"unknown flag", []string{"--no-such-flag"}, nil, "unknown long flag '--no-such-flag'"},
		{"unknown short flag", []string{"-x"}, nil, "unknown short flag '-x'"},
		{"unknown command", []string{"score"}, nil, `expected command but got "score"`},
		{"argument", []string{"serve", "scores"}, nil, "unexpected scores"},
		{"nothing to export", []string{"export"}, nil, "must select a subcommand of 'export'"},
		{"unknown thing to export", []string{"export", "everything"}, nil, `expected command but got "everything"`},
		{"flag of another command", []string{"serve", "--output=-"}, nil, "unknown long flag '--output'"},
		{"value missing", []string{"--log.level"}, nil, "expected argument for flag '--log.level'"},
		{"value missing before another flag", []string{"--log.level", "--demo"}, nil, "expected argument for flag '--log.level'"},
		{"secret as a flag", []string{"--azure.client-secret=x"}, nil, "unknown long flag '--azure.client-secret'"},

		{"subscription no UUID", []string{"--azure.subscription-id=production"}, nil, `--azure.subscription-id: "production" is no subscription ID`},
		{"second subscription no UUID", []string{"--azure.subscription-id=" + id, "--azure.subscription-id=" + id[1:]}, nil, "--azure.subscription-id: "},
		{"subscription empty", []string{"--azure.subscription-id="}, nil, "--azure.subscription-id: "},
		{"subscription twice", []string{"--azure.subscription-id=" + id, "--azure.subscription-id=" + other, "--azure.subscription-id=" + strings.ToUpper(id)}, nil, "is given twice"},
		{"management group malformed", []string{"--azure.management-group=a/b"}, nil, "--azure.management-group: "},
		{"management group that is a way up", []string{"--azure.management-group=.."}, nil, "--azure.management-group: "},
		{"management group empty", []string{"--azure.management-group="}, nil, "--azure.management-group: "},
		{"management group beside a subscription", []string{"--azure.management-group=contoso", "--azure.subscription-id=" + id}, nil, "--azure.subscription-id and --azure.management-group exclude each other"},
		{"unknown source", []string{"--azure.source=graph"}, nil, "--azure.source: "},
		{"unknown cloud", []string{"--azure.cloud=germany"}, nil, "--azure.cloud: "},
		{"custom cloud without addresses", []string{"--azure.cloud=custom"}, nil, "authority host: address is missing"},
		{"custom cloud without ARM endpoint", []string{"--azure.cloud=custom", "--azure.authority-host=https://login.example.org"}, nil, "ARM endpoint: address is missing"},
		{"custom cloud without TLS", []string{"--azure.cloud=custom", "--azure.authority-host=https://login.example.org", "--azure.arm-endpoint=http://arm.example.org"}, nil, "http://arm.example.org"},
		{"addresses of a known cloud", []string{"--azure.arm-endpoint=https://arm.example.org"}, nil, "are for the custom cloud"},
		{"concurrency 0", []string{"--azure.concurrency=0"}, nil, "--azure.concurrency must be from 1 to 1000"},
		{"concurrency too high", []string{"--azure.concurrency=1001"}, nil, "--azure.concurrency must be from 1 to 1000"},
		{"concurrency no whole number", []string{"--azure.concurrency=1.9"}, nil, `--azure.concurrency: expected a whole number, got "1.9"`},
		{"concurrency no number", []string{"--azure.concurrency=many"}, nil, "--azure.concurrency: "},
		{"discovery interval negative", []string{"--azure.discovery-interval=-1s"}, nil, "--azure.discovery-interval must not be negative"},

		{"timeout no duration", []string{"--scrape.timeout=10"}, nil, "--scrape.timeout: "},
		{"timeout 0", []string{"--scrape.timeout=0s"}, nil, "--scrape.timeout must be positive"},
		{"offset negative", []string{"--scrape.timeout-offset=-1s"}, nil, "--scrape.timeout-offset must be"},
		{"offset above timeout", []string{"--scrape.timeout=1s", "--scrape.timeout-offset=1s"}, nil, "--scrape.timeout-offset must be"},
		{"ttl negative", []string{"--cache.ttl=-1s"}, nil, "--cache.ttl must not be negative"},
		{"stale before fresh is over", []string{"--cache.ttl=2h"}, nil, "--cache.max-stale must not be less than --cache.ttl"},

		{"listen address without port", []string{"--web.listen-address=localhost"}, nil, "--web.listen-address: "},
		{"listen address with a bad port", []string{"--web.listen-address=:99999"}, nil, "--web.listen-address: "},
		{"listen address empty", []string{"--web.listen-address="}, nil, "--web.listen-address: must not be empty"},
		{"vsock address without port", []string{"--web.listen-address=vsock://x"}, nil, "--web.listen-address: "},
		{"vsock address with a bad port", []string{"--web.listen-address=vsock://:http"}, nil, "--web.listen-address: "},
		{"listen address twice", []string{"--web.listen-address=127.0.0.1:0", "--web.listen-address=127.0.0.1:0"}, nil, "--web.listen-address: 127.0.0.1:0 is given twice"},
		{"listen address beside systemd's", []string{"--web.systemd-socket", "--web.listen-address=:1"}, nil, "--web.systemd-socket and --web.listen-address exclude each other"},
		{"web config missing", []string{"--web.config.file=missing.yml"}, nil, "--web.config.file: "},
		{"web config unusable", []string{"--web.config.file=" + badConfig}, nil, "--web.config.file: "},
		{"web config with an unknown key", []string{"--web.config.file=" + unknownKey}, nil, "--web.config.file: "},
		{"no request allowed", []string{"--web.max-requests=0"}, nil, "--web.max-requests must be at least 1"},
		{"unknown log level", []string{"--log.level=trace"}, nil, "--log.level: "},
		{"unknown log format", []string{"--log.format=xml"}, nil, "--log.format: "},
		{"demo of a cloud", []string{"--demo", "--azure.cloud=china"}, nil, "--demo reads a simulated tenant"},
		{"demo of a subscription", []string{"--demo", "--azure.subscription-id=" + id}, nil, "--demo reads a simulated tenant"},

		{"subscription by environment", nil, []string{prefix + "AZURE_SUBSCRIPTION_ID=" + id + "\nproduction"}, `--azure.subscription-id: "production" is no subscription ID`},
		{"cloud by environment", nil, []string{prefix + "AZURE_CLOUD=germany"}, "--azure.cloud: "},
		{"concurrency by environment", nil, []string{prefix + "AZURE_CONCURRENCY=0"}, "--azure.concurrency must be"},
		{"timeout by environment", nil, []string{prefix + "SCRAPE_TIMEOUT=soon"}, "--scrape.timeout: "},
		{"web config by environment", nil, []string{prefix + "WEB_CONFIG_FILE=missing.yml"}, "--web.config.file: "},
		{"log level by environment", nil, []string{prefix + "LOG_LEVEL=trace"}, "--log.level: "},
		{"demo by environment", nil, []string{prefix + "DEMO=perhaps"}, "--demo: "},

		{"help for no command", []string{"help", "NOPE"}, nil, `expected command but got "NOPE"`},
		{"unknown kind of credential", nil, []string{"AZURE_TOKEN_CREDENTIALS=password"}, "AZURE_TOKEN_CREDENTIALS"},
	} {
		t.Run(test.name, func(t *testing.T) {
			args := test.args
			if !slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "--web.listen-address") }) {
				args = append([]string{"--web.listen-address=" + used.Addr().String()}, args...)
			}
			code, stdout, stderr := runToEnd(t, test.env, args...)
			if code != 2 {
				t.Errorf("exit code %d, want 2", code)
			}
			if stdout != "" {
				t.Errorf("standard output: %q", stdout)
			}
			if strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, name+": error: ") || !strings.Contains(stderr, test.want) {
				t.Errorf("want one line about %q on standard error, got\n%s", test.want, stderr)
			}
		})
	}
}

// Every flag takes its value from its environment twin, and the command line wins.
func TestEnvironment(t *testing.T) {
	t.Parallel()
	p := start(t, []string{
		"AZURE_SECURE_SCORE_EXPORTER_DEMO=true",
		"AZURE_SECURE_SCORE_EXPORTER_LOG_FORMAT=json",
		"AZURE_SECURE_SCORE_EXPORTER_LOG_LEVEL=error",
	}, "--log.level=info")
	if value := p.scrape(t).value("azure_secure_score_up"); value != 1 {
		t.Errorf("up is %g", value)
	}
	p.stop(t, syscall.SIGTERM)
	for line := range strings.Lines(p.log.String()) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Errorf("no JSON: %s", line)
		}
		if entry["ts"] == nil || entry["time"] != nil { // whoever logs: we or exporter-toolkit
			t.Errorf("want the time as ts, once: %s", line)
		}
	}
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	used, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer used.Close()
	code, _, stderr := runToEnd(t, nil, "--demo", "--web.listen-address="+used.Addr().String())
	if code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	var told []string
	for line := range strings.Lines(stderr) {
		if strings.Contains(line, "level=error") {
			told = append(told, line)
		}
	}
	if len(told) != 1 || !strings.Contains(told[0], used.Addr().String()) || !strings.Contains(told[0], "address already in use") {
		t.Errorf("want one error line that names the address, got\n%s", stderr)
	}
}

func TestDemo(t *testing.T) {
	t.Parallel()
	p := start(t, nil, "--demo")
	if !strings.Contains(p.log.String(), `metrics=http://localhost:`) {
		t.Errorf("no line says where to look:\n%s", p.log.String())
	}
	s := p.scrape(t)
	for metric, want := range map[string]float64{"current": 37, "max": 55, "ratio": 0.6727} {
		if got := s.value("azure_secure_score_"+metric, "subscription_id", simulator.DemoSampleID); got != want {
			t.Errorf("%s of the sample is %g, want %g", metric, got, want)
		}
	}
	if got := s.value("azure_secure_score_subscription_scrape_failure", "subscription_id", simulator.DemoForbiddenID, "reason", "forbidden"); got != 1 {
		t.Errorf("the forbidden subscription's failure is %g", got)
	}
	for path, want := range map[string]string{"/": "Azure Secure Score Exporter", "/status": "--cache.ttl</th><td>0s</td>", "/-/healthy": "healthy", "/-/ready": "ready"} {
		if status, body := p.get(t, path); status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if status, _ := p.get(t, "/no-such-page"); status != http.StatusNotFound {
		t.Errorf("/no-such-page: %d", status)
	}
	p.stop(t, syscall.SIGINT)
}

// The whole way from an Azure outside the process to a scrape over TLS with a
// password.
func TestLiveScrape(t *testing.T) {
	t.Parallel()
	certificate, key := newCertificate(t)
	webConfig := write(t, "web.yml", fmt.Appendf(nil, "tls_server_config:\n  cert_file: %s\n  key_file: %s\nbasic_auth_users:\n  %s: %s\n",
		write(t, "cert.pem", certificate), write(t, "key.pem", key), scraper, scraperHash))
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certificate)

	for _, credential := range []struct {
		kind string
		env  []string
	}{
		{"client secret", secretEnv()},
		{"workload identity", []string{
			"AZURE_TOKEN_CREDENTIALS=WorkloadIdentityCredential", "AZURE_TENANT_ID=" + simulator.TenantID, "AZURE_CLIENT_ID=" + simulator.ClientID,
			"AZURE_FEDERATED_TOKEN_FILE=" + write(t, "token", []byte(simulator.FederatedToken)),
		}},
	} {
		t.Run(credential.kind, func(t *testing.T) {
			azure := startAzure(t, simulator.Demo())
			p := start(t, append(credential.env, trust(t, azure)), append(cloudFlags(azure), "--web.config.file="+webConfig)...)
			p.url = strings.Replace(p.url, "http://", "https://", 1)
			p.client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}

			if status, body := p.get(t, "/metrics"); status != http.StatusUnauthorized || strings.Contains(body, "azure_secure_score") {
				t.Errorf("without a password: %d %s", status, body)
			}
			if asked := azure.Requests(); len(asked) != 0 {
				t.Errorf("a scrape without a password made the exporter ask Azure: %v", asked)
			}
			p.password = "another password"
			if status, _ := p.get(t, "/metrics"); status != http.StatusUnauthorized {
				t.Errorf("with a wrong password: %d", status)
			}
			p.password = scraperPassword
			s := p.scrape(t)
			if up := s.value("azure_secure_score_up"); up != 1 {
				t.Errorf("up is %g; log:\n%s", up, p.log.String())
			}
			if points := s.value("azure_secure_score_current", "subscription_id", simulator.DemoSampleID); points != 37 {
				t.Errorf("the sample has %g points, want 37", points)
			}
			// One call for the token, one for the list, two for each subscription that is not disabled.
			want := map[string]int{simulator.RouteToken: 1, simulator.RouteSubscriptions: 1, simulator.RouteSecureScores: 8, simulator.RouteControls: 8}
			got := azure.Requests()
			for route, n := range want {
				// One call of the forbidden subscription may be spared because the other failed first.
				if got[route] != n && (n != 8 || got[route] != 7) {
					t.Errorf("%d calls of %s, want %d", got[route], route, n)
				}
			}
			// Who only looks whether the port is open, as Kubernetes does, is not in the log.
			conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "https://"))
			if err != nil {
				t.Fatal(err)
			}
			conn.Close()
			p.stop(t, syscall.SIGTERM)
			if strings.Contains(p.log.String(), "TLS handshake error") {
				t.Errorf("the log tells of a probe:\n%s", p.log.String())
			}
		})
	}
}

// A scrape that is under way at the signal to stop is answered, and those who
// balance load see in the meantime that no more scrapes are wanted.
func TestStopDuringScrape(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(3, 2)
	hanging, well := tenant.Subscriptions[0].ID, tenant.Subscriptions[1].ID
	azure := startAzure(t, tenant)
	azure.SetFault(hanging, simulator.Hang())
	p := start(t, append(secretEnv(), trust(t, azure)), cloudFlags(azure)...)

	scraped := make(chan result, 1)
	go func() { scraped <- p.fetch("/metrics") }()
	waitFor(t, "the calls of the scrape", func() bool {
		asked := azure.Requests()
		return asked[simulator.RouteSecureScores] == 3 && asked[simulator.RouteControls] == 3
	})
	if status, _ := p.get(t, "/-/ready"); status != http.StatusOK {
		t.Errorf("/-/ready before the signal: %d", status)
	}
	p.signal(t, syscall.SIGTERM)
	waitFor(t, "503 of /-/ready", func() bool { return p.fetch("/-/ready").status == http.StatusServiceUnavailable })
	if status, _ := p.get(t, "/-/healthy"); status != http.StatusOK {
		t.Errorf("/-/healthy while draining: %d", status)
	}
	if status, _ := p.get(t, "/metrics"); status != http.StatusServiceUnavailable {
		t.Errorf("a new scrape while draining: %d", status)
	}

	r := <-scraped
	if r.err != nil || r.status != http.StatusOK {
		t.Fatalf("the scrape in flight: %d %v", r.status, r.err)
	}
	s := parse(t, r.body)
	if got := s.value("azure_secure_score_subscription_scrape_success", "subscription_id", well); got != 1 {
		t.Errorf("success of a neighbour is %g", got)
	}
	if got := s.value("azure_secure_score_subscription_scrape_failure", "subscription_id", hanging, "reason", "canceled"); got != 1 {
		t.Errorf("no failure with the reason canceled:\n%s", r.body)
	}
	p.wait(t)
}

// A probe in flight is answered at a stop, too, although no scrape is waited for.
func TestStopDuringProbe(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(1, 1)
	azure := startAzure(t, tenant)
	azure.SetFault(tenant.Subscriptions[0].ID, simulator.Hang())
	p := start(t, append(secretEnv(), trust(t, azure)), cloudFlags(azure)...)
	probed := make(chan result, 1)
	go func() { probed <- p.fetch("/probe?target=" + tenant.Subscriptions[0].ID) }()
	waitFor(t, "the call of the probe", func() bool { return azure.Requests()[simulator.RouteSecureScores] == 1 })
	p.signal(t, syscall.SIGTERM)
	if r := <-probed; r.err != nil || r.status != http.StatusOK || !strings.Contains(r.body, `reason="canceled"`) {
		t.Errorf("the probe in flight: %d %v %s", r.status, r.err, r.body)
	}
	p.wait(t)
}

// Whatever Azure sends, it does not fill the memory: neither for one subscription
// nor for nearly all of them at the same time.
func TestMemory(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells the peak memory of another process in /proc")
	}
	tenant := simulator.Generate(8, 15)
	azure := startAzure(t, tenant)
	p := start(t, append(secretEnv(), trust(t, azure)), cloudFlags(azure)...)
	const gibibyte = 1 << 30
	faults := []simulator.Fault{simulator.Huge(gibibyte, true), simulator.Huge(gibibyte, false), simulator.GzipBomb(gibibyte)}
	for _, test := range []struct{ bad, most int }{{1, 100}, {7, 150}} {
		for _, fault := range faults {
			for _, subscription := range tenant.Subscriptions[:test.bad] {
				azure.SetFault(subscription.ID, fault)
			}
			for range 3 {
				s := p.scrape(t)
				for i, subscription := range tenant.Subscriptions {
					if i < test.bad {
						if got := s.value("azure_secure_score_subscription_scrape_failure", "subscription_id", subscription.ID, "reason", "invalid_response"); got != 1 {
							t.Error("no failure with the reason invalid_response")
						}
					} else if got := s.value("azure_secure_score_subscription_scrape_success", "subscription_id", subscription.ID); got != 1 {
						t.Errorf("success of a neighbour is %g", got)
					}
				}
			}
		}
		peak := peakMemory(t, p) >> 10
		t.Logf("%d hostile: peak memory %d MiB", test.bad, peak)
		if peak > test.most {
			t.Errorf("%d hostile: peak memory %d MiB, want at most %d", test.bad, peak, test.most)
		}
	}
	p.stop(t, syscall.SIGTERM)
}

// peakMemory returns the most KiB that the process has had in memory.
func peakMemory(t *testing.T, p *process) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	match := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
	if match == nil {
		t.Fatalf("no VmHWM in\n%s", status)
	}
	peak, _ := strconv.Atoi(string(match[1]))
	return peak
}

// No secret gets out, however much is logged and whatever Azure answers.
func TestSecretsStayInside(t *testing.T) {
	t.Parallel()
	certificate, key := newCertificate(t)
	webConfig := write(t, "web.yml", fmt.Appendf(nil, "tls_server_config:\n  cert_file: %s\n  key_file: %s\nbasic_auth_users:\n  %s: %s\n",
		write(t, "cert.pem", certificate), write(t, "key.pem", key), scraper, scraperHash))
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certificate)

	for _, format := range []string{"logfmt", "json"} {
		for answer, fault := range map[string]simulator.Fault{
			"good":             nil,
			"expired secret":   simulator.ExpiredSecret(),
			"broken":           simulator.Body(http.StatusOK, "application/json", `{"access_token":"`+simulator.TokenPrefix+`of-a-broken-answer","token_type":`),
			"error with token": simulator.Body(http.StatusBadRequest, "application/json", `{"error":"`+simulator.ClientSecret+`","error_description":"`+simulator.TokenPrefix+`x"}`),
		} {
			t.Run(format+"/"+answer, func(t *testing.T) {
				t.Parallel()
				tenant := simulator.Generate(6, 3)
				azure := startAzure(t, tenant)
				azure.SetTokenFault(fault)
				for i, f := range []simulator.Fault{
					simulator.WrongTenant(), simulator.ExpiredToken(), simulator.Throttle(-1, 0), simulator.Garbage(),
					simulator.Rewrite(func(r *http.Request, _ []byte) []byte { // an answer that repeats the token
						return []byte(`{"value":"` + r.Header.Get("Authorization") + `"}`)
					}),
				} {
					azure.SetFault(tenant.Subscriptions[i].ID, f)
				}
				p := start(t, append(secretEnv(), trust(t, azure)), append(cloudFlags(azure), "--web.config.file="+webConfig, "--log.level=debug", "--log.format="+format)...)
				p.url = strings.Replace(p.url, "http://", "https://", 1)
				p.client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
				p.password = scraperPassword

				var pages strings.Builder
				for _, path := range []string{"/metrics", "/metrics", "/status", "/", "/-/healthy", "/-/ready", "/no-such-page"} {
					_, body := p.get(t, path)
					pages.WriteString(body)
				}
				p.stop(t, syscall.SIGTERM)
				if azure.Requests()[simulator.RouteToken] == 0 {
					t.Error("no token was asked for")
				}
				if !regexp.MustCompile(`level"?[=:]"?debug`).MatchString(p.log.String()) {
					t.Errorf("nothing was logged at debug:\n%s", p.log.String())
				}
				for place, text := range map[string]string{"page": pages.String(), "log": p.log.String()} {
					for _, secret := range []string{simulator.TokenPrefix, simulator.ClientSecret, scraperPassword, scraperHash} {
						if i := strings.Index(text, secret); i >= 0 {
							t.Errorf("%s in a %s: …%s…", secret, place, text[max(0, i-300):min(len(text), i+100)])
						}
					}
				}
			})
		}
	}
}

// The user of the web configuration, whose password is scraperPassword. The cost
// of the hash is low to keep the tests quick.
const (
	scraper         = "prometheus"
	scraperPassword = "a-scraper's-password"
	scraperHash     = "$2a$04$lF9zOaNSgK2OGUlhqBzyKOHa3aoZvIMDcbFpjWt6eCedangazp7Em"
)

// process is a running exporter.
type process struct {
	cmd      *exec.Cmd
	log      *output
	url      string
	client   *http.Client
	password string // for basic auth, if set
	ended    chan struct{}
	err      error // of Wait, once it has ended
}

// listening finds the address in the lines that say where the exporter listens.
var listening = regexp.MustCompile(`\baddress"?[=:]"?(127\.0\.0\.1:\d+)`)

// start runs the exporter on a free port until the test ends.
func start(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	p := &process{log: &output{}, client: &http.Client{}, ended: make(chan struct{})}
	p.cmd = command(t.Context(), t, env, append([]string{"--web.listen-address=127.0.0.1:0"}, args...)...)
	p.cmd.Stderr = p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // an error says that it has ended
		<-p.ended
		p.client.CloseIdleConnections()
	})
	waitFor(t, "the exporter to listen", func() bool {
		select {
		case <-p.ended:
			t.Fatalf("the exporter ended: %v\n%s", p.err, p.log.String())
		default:
		}
		match := listening.FindStringSubmatch(p.log.String())
		if match != nil {
			p.url = "http://" + match[1]
		}
		return match != nil
	})
	return p
}

// stop sends the signal and expects the process to end well.
func (p *process) stop(t *testing.T, signal os.Signal) {
	t.Helper()
	p.signal(t, signal)
	p.wait(t)
}

func (p *process) signal(t *testing.T, signal os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
}

// wait expects the process to end with the exit code 0. It has ten seconds for
// that by its own account; how long a busy machine takes is another matter.
func (p *process) wait(t *testing.T) {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(30 * time.Second):
		t.Fatalf("the exporter did not stop:\n%s", p.log.String())
	}
	if p.err != nil {
		t.Errorf("the exporter ended with %v:\n%s", p.err, p.log.String())
	}
}

type result struct {
	status int
	body   string
	err    error
}

func (p *process) fetch(path string) result {
	req, err := http.NewRequest(http.MethodGet, p.url+path, http.NoBody)
	if err != nil {
		return result{err: err}
	}
	if p.password != "" {
		req.SetBasicAuth(scraper, p.password)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return result{err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return result{resp.StatusCode, string(body), err}
}

func (p *process) get(t *testing.T, path string) (status int, body string) {
	t.Helper()
	r := p.fetch(path)
	if r.err != nil {
		t.Fatalf("%s: %s\n%s", path, r.err, p.log.String())
	}
	return r.status, r.body
}

func (p *process) scrape(t *testing.T) scrape {
	t.Helper()
	status, body := p.get(t, "/metrics")
	if status != http.StatusOK {
		t.Fatalf("/metrics: %d %s", status, body)
	}
	return parse(t, body)
}

// scrape is what /metrics answered.
type scrape map[string]*dto.MetricFamily

func parse(t *testing.T, text string) scrape {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// value returns the value of the series with these labels, or -1 when there is none.
func (s scrape) value(metric string, labels ...string) float64 {
	for _, m := range s[metric].GetMetric() {
		has := map[string]string{}
		for _, l := range m.GetLabel() {
			has[l.GetName()] = l.GetValue()
		}
		all := true
		for i := 0; i < len(labels); i += 2 {
			all = all && has[labels[i]] == labels[i+1]
		}
		if all {
			return m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return -1
}

// runToEnd runs the program, which is expected to end by itself.
func runToEnd(t *testing.T, env []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := command(ctx, t, env, args...)
	var out, errs output
	cmd.Stdout, cmd.Stderr = &out, &errs
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// command makes a command whose environment holds nothing of the developer's, whose
// own AZURE_* variables might lead to the real Azure.
func command(ctx context.Context, t *testing.T, env []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = append([]string{"HOME=" + t.TempDir(), "PATH="}, env...)
	cmd.Dir = t.TempDir()
	return cmd
}

func startAzure(t *testing.T, tenant simulator.Tenant) *simulator.Server {
	t.Helper()
	azure, err := simulator.Start(tenant)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(azure.Close)
	return azure
}

// secretEnv is the environment of a service principal.
func secretEnv() []string {
	return []string{
		"AZURE_TOKEN_CREDENTIALS=EnvironmentCredential", "AZURE_TENANT_ID=" + simulator.TenantID,
		"AZURE_CLIENT_ID=" + simulator.ClientID, "AZURE_CLIENT_SECRET=" + simulator.ClientSecret,
	}
}

// trust makes another process trust the simulator's certificate.
func trust(t *testing.T, azure *simulator.Server) string {
	return "SSL_CERT_FILE=" + write(t, "azure.pem", azure.CertificatePEM())
}

func cloudFlags(azure *simulator.Server) []string {
	return []string{"--azure.cloud=custom", "--azure.authority-host=" + azure.URL(), "--azure.arm-endpoint=" + azure.URL()}
}

// write puts a file into a directory of its own, and returns its path.
func write(t *testing.T, file string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), file)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// newCertificate makes a certificate for 127.0.0.1, signed by itself, and its key.
func newCertificate(t *testing.T) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "exporter"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

// waitFor waits until the condition holds, and gives up long after it should have.
func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// output collects what a process writes; it can be read while the process runs.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}
