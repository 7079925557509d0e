//go:build e2e

package dashboards

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/model"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

type stack struct {
	exporter     *process
	prometheus   *prometheusServer
	alertmanager *alertmanagerServer
	webhook      *webhook
}

// startStack runs the shipped configuration with an exporter that has these flags.
func startStack(t *testing.T, env []string, flags ...string) *stack {
	t.Helper()
	s := &stack{webhook: startWebhook(t)}
	s.alertmanager = startAlertmanager(t, s.webhook)
	s.exporter = startExporter(t, env, flags...)
	s.prometheus = startPrometheus(t, string(read(t, "prometheus.yml")), "localhost:10060", s.exporter.address, "localhost:9093", s.alertmanager.address)
	return s
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

func azureEnv(t *testing.T, azure *simulator.Server) []string {
	t.Helper()
	certificate := filepath.Join(t.TempDir(), "azure.pem")
	writeFile(t, certificate, string(azure.CertificatePEM()))
	return append(simulator.ClientSecretEnv(), "SSL_CERT_FILE="+certificate)
}

var listening = regexp.MustCompile(`\baddress=(127\.0\.0\.1:\d+)`)

func startExporter(t *testing.T, env []string, flags ...string) *process {
	t.Helper()
	// The developer's own AZURE_* variables must not lead to the real Azure.
	p := start(t, append([]string{"HOME=" + t.TempDir(), "PATH="}, env...), exporterBinary, append([]string{"--web.listen-address=127.0.0.1:0"}, flags...)...)
	eventually(t, "the exporter listens", func() error {
		match := listening.FindStringSubmatch(p.log.String())
		if match == nil {
			return errors.New("the log has no address")
		}
		p.address = match[1]
		return nil
	})
	return p
}

type prometheusServer struct{ *process }

// startPrometheus runs Prometheus with the shipped rules and this configuration. addresses are
// pairs of old and new ones.
func startPrometheus(t *testing.T, config string, addresses ...string) *prometheusServer {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(addresses); i += 2 {
		config = replace(t, config, addresses[i], addresses[i+1])
	}
	// Half a second is too short for a busy machine.
	config = replace(t, speedUp(config), "scrape_timeout: 500ms", "scrape_timeout: 1s")
	writeFile(t, filepath.Join(dir, "prometheus.yml"), config)
	for _, rules := range []string{"rules/recording-rules.yaml", "rules/alerting-rules.yaml"} {
		writeFile(t, filepath.Join(dir, rules), speedUp(string(read(t, rules))))
	}
	address := freeAddress(t)
	p := start(t, os.Environ(), "prometheus", "--config.file="+filepath.Join(dir, "prometheus.yml"),
		"--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address, "--query.lookback-delta="+speedUp("5m"))
	p.address = address
	eventually(t, "Prometheus is ready", func() error { return ready(p) })
	return &prometheusServer{p}
}

func (p *prometheusServer) query(expr string) ([]series, error) {
	return p.ask("/api/v1/query?" + url.Values{"query": {expr}}.Encode())
}

func (p *prometheusServer) queryRange(expr string) ([]series, error) {
	now := time.Now()
	return p.ask("/api/v1/query_range?" + url.Values{
		"query": {expr}, "step": {"1"},
		"start": {now.Add(-30 * time.Second).Format(time.RFC3339)}, "end": {now.Format(time.RFC3339)},
	}.Encode())
}

func (p *prometheusServer) ask(path string) ([]series, error) {
	var answer struct {
		Data struct{ Result []series }
	}
	err := getJSON("http://"+p.address+path, &answer)
	return answer.Data.Result, err
}

type alertmanagerServer struct{ *process }

func startAlertmanager(t *testing.T, hook *webhook) *alertmanagerServer {
	t.Helper()
	dir := t.TempDir()
	config := replace(t, string(read(t, "alertmanager.yml")), "http://localhost:9099", hook.url)
	writeFile(t, filepath.Join(dir, "alertmanager.yml"), speedUp(config))
	address := freeAddress(t)
	p := start(t, os.Environ(), "prometheus-alertmanager", "--config.file="+filepath.Join(dir, "alertmanager.yml"),
		"--storage.path="+filepath.Join(dir, "data"), "--web.listen-address="+address, "--cluster.listen-address=")
	p.address = address
	eventually(t, "Alertmanager is ready", func() error { return ready(p) })
	return &alertmanagerServer{p}
}

type inhibitedAlert struct {
	Labels, Annotations map[string]string
	Status              struct{ State string }
}

// alerts returns those that the matcher selects.
func (a *alertmanagerServer) alerts(matcher string) ([]inhibitedAlert, error) {
	var all []inhibitedAlert
	err := getJSON("http://"+a.address+"/api/v2/alerts?"+url.Values{"filter": {matcher}}.Encode(), &all)
	return all, err
}

type alert struct {
	Status              string
	Labels, Annotations map[string]string
}

func (a alert) equal(b alert) bool {
	return a.Status == b.Status && maps.Equal(a.Labels, b.Labels) && maps.Equal(a.Annotations, b.Annotations)
}

type notification struct {
	path   string // identifies the receiver
	Alerts []alert
}

// webhook records what Alertmanager sends.
type webhook struct {
	url string

	mu            sync.Mutex
	notifications []notification
}

func startWebhook(t *testing.T) *webhook {
	t.Helper()
	hook := &webhook{}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		n := notification{path: r.URL.Path}
		if err := json.NewDecoder(r.Body).Decode(&n); err != nil {
			t.Errorf("the webhook received invalid JSON: %v", err)
		}
		hook.mu.Lock()
		defer hook.mu.Unlock()
		hook.notifications = append(hook.notifications, n)
	}))
	t.Cleanup(server.Close)
	hook.url = server.URL
	return hook
}

func (w *webhook) all() []notification {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.notifications)
}

// firing returns the notifications that an alert of this name is firing.
func (w *webhook) firing(name string) []notification {
	return slices.DeleteFunc(w.all(), func(n notification) bool {
		return !slices.ContainsFunc(n.Alerts, func(a alert) bool { return a.Labels["alertname"] == name && a.Status == "firing" })
	})
}

// process is a running command.
type process struct {
	address string // host and port
	log     logFile
	stop    func() // terminates it without waiting
}

// start runs a command until the test ends.
func start(t *testing.T, env []string, program string, args ...string) *process {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...) // the context is canceled before Cleanup
	terminate := func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.Cancel, cmd.WaitDelay = terminate, 15*time.Second
	cmd.Env = env
	log, err := os.CreateTemp(t.TempDir(), "log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p := &process{log: logFile(log.Name()), stop: func() { _ = terminate() }} // an error means that it has exited
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Wait() // tests of package main check the exit status
		if t.Failed() {
			text := p.log.String()
			t.Logf("end of the output of %s:\n%s", filepath.Base(program), text[max(0, len(text)-3000):])
		}
	})
	return p
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

var (
	durations = regexp.MustCompile(`\b\d+[smhdw]\b`)
	past      = regexp.MustCompile(`\boffset \d+[dw]\b`)
)

// speedUp turns a minute into half a second in all durations of a file or an expression. Offsets of
// days become shorter still, because the tests have no older data.
func speedUp(text string) string {
	text = strings.NewReplacer(":1h]", ":2m]", "4 * 3600", "4 * 30", " * 86400", " * 720", "> 86400", "> 720").Replace(past.ReplaceAllString(text, "offset 100m"))
	return durations.ReplaceAllStringFunc(text, func(d string) string {
		long, err := model.ParseDuration(d)
		if err != nil {
			panic(err) // the pattern matches only valid durations
		}
		return (long / 120).String()
	})
}

func replace(t *testing.T, text, old, replacement string) string {
	t.Helper()
	if !strings.Contains(text, old) {
		t.Fatalf("there is no %q in\n%s", old, text)
	}
	return strings.ReplaceAll(text, old, replacement)
}

func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	if err := within(waitTimeout, try); err != nil {
		t.Fatalf("timed out waiting until %s: %v", what, err)
	}
}

// within retries until there is no error, and returns the last one at the limit.
func within(limit time.Duration, try func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := try()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(300 * time.Millisecond)
	}
}

func ready(p *process) error {
	resp, err := http.Get("http://" + p.address + "/-/ready")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

func getJSON(address string, into any) error {
	resp, err := http.Get(address)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", resp.Status, body)
	}
	return json.Unmarshal(body, into)
}

// freeAddress returns an address that is currently unused.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
