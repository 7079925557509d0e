package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
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
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// The harness of all tests that run the program as its users do: as a process, by its command
// line, environment, signals and socket. Azure is the simulator, in the process of the tests.

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

// runToEnd runs a command that ends without a signal.
func runToEnd(t *testing.T, env []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := command(ctx, t, env, args...)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// command has an environment of its own: the developer's AZURE_* variables could lead to the real
// Azure.
func command(ctx context.Context, t *testing.T, env []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = append([]string{"HOME=" + t.TempDir(), "PATH="}, env...)
	cmd.Dir = t.TempDir()
	return cmd
}

// process is a running exporter.
type process struct {
	cmd      *exec.Cmd
	log      logFile
	url      string
	client   *http.Client
	password string // for basic auth, if set
	ended    chan struct{}
	err      error // of Wait, once ended is closed
}

// listening finds the address in the log.
var listening = regexp.MustCompile(`\baddress"?[=:]"?(127\.0\.0\.1:\d+)`)

// start runs the exporter on a free port until the test ends.
func start(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	log, err := os.CreateTemp(t.TempDir(), "log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p := &process{log: logFile(log.Name()), client: &http.Client{}, ended: make(chan struct{})}
	p.cmd = command(t.Context(), t, env, append([]string{"--web.listen-address=127.0.0.1:0"}, args...)...)
	p.cmd.Stderr = log
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

// wait expects the process to exit with 0. It takes stopTimeout by its own clock; a busy machine
// takes longer.
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

// value returns the value of the series with these labels, or -1 if there is none.
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

func startAzure(t *testing.T, tenant simulator.Tenant) *simulator.Server {
	t.Helper()
	azure, err := simulator.Start(tenant)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(azure.Close)
	return azure
}

// secretEnv is the environment of a process that reads azure with the client secret.
func secretEnv(t *testing.T, azure *simulator.Server) []string {
	return append(simulator.ClientSecretEnv(), trust(t, azure))
}

// trust returns the variable that makes a process trust the simulator's certificate.
func trust(t *testing.T, azure *simulator.Server) string {
	return "SSL_CERT_FILE=" + write(t, "azure.pem", azure.CertificatePEM())
}

// The user of the web configuration. The cost of the hash is low to keep the tests quick.
const (
	scraper         = "prometheus"
	scraperPassword = "a-scraper's-password"
	scraperHash     = "$2a$04$lF9zOaNSgK2OGUlhqBzyKOHa3aoZvIMDcbFpjWt6eCedangazp7Em"
)

// startTLS runs the exporter with TLS and basic auth. Its client trusts the certificate and, until
// password is set, sends none.
func startTLS(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	certificate, key := newCertificate(t)
	webConfig := write(t, "web.yml", fmt.Appendf(nil, "tls_server_config:\n  cert_file: %s\n  key_file: %s\nbasic_auth_users:\n  %s: %s\n",
		write(t, "cert.pem", certificate), write(t, "key.pem", key), scraper, scraperHash))
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certificate)
	p := start(t, env, append(args, "--web.config.file="+webConfig)...)
	p.url = strings.Replace(p.url, "http://", "https://", 1)
	p.client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	return p
}

// newCertificate returns a self-signed certificate for 127.0.0.1 and its key.
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

// write writes a file to a directory of its own and returns its path.
func write(t *testing.T, file string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), file)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// waitFor polls until the condition holds.
func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("timed out waiting for %s", what)
		}
	}
}

// logFile is the path of what a process has written so far.
type logFile string

func (l logFile) String() string {
	text, err := os.ReadFile(string(l))
	if err != nil {
		return err.Error()
	}
	return string(text)
}
