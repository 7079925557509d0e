//go:build e2e

// End-to-end tests: from a simulated Azure through the built exporter, Prometheus and Alertmanager
// with the shipped configuration, rules and dashboards, to the notification.
//
//	apt-get install prometheus prometheus-alertmanager
//	go test -tags e2e ./dashboards/
//
// The tests replace only addresses and durations in the shipped files: a minute becomes half a
// second. All durations shrink equally, so the order of events stays the same; only offsets of days
// shrink more.
package dashboards

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

const (
	// waitTimeout allows for a busy machine. Only failing tests wait that long.
	waitTimeout = 3 * time.Minute
	// jobName is the job of the example configurations. Rules and dashboards expect no name.
	jobName = "azure-secure-score"
)

// exporterBinary is the path of the built exporter.
var exporterBinary string

func TestMain(m *testing.M) {
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	for _, program := range []string{"prometheus", "promtool", "prometheus-alertmanager", "amtool"} {
		if _, err := exec.LookPath(program); err != nil {
			fmt.Fprintf(os.Stderr, "%v: install Debian's packages prometheus and prometheus-alertmanager\n", err)
			return 1
		}
	}
	dir, err := os.MkdirTemp("", "e2e")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	exporterBinary = filepath.Join(dir, "azure-secure-score-exporter")
	if out, err := exec.Command("go", "build", "-o", exporterBinary, "..").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %s\n%s", err, out)
		return 1
	}
	return m.Run()
}

// The shipped files pass the checks of promtool and amtool.
func TestShippedFiles(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"promtool", "check", "rules", "--lint=all", "--lint-fatal", "rules/recording-rules.yaml", "rules/alerting-rules.yaml"},
		{"promtool", "test", "rules", "rules/recording-rules_test.yaml", "rules/names_test.yaml", "rules/alerting-rules_test.yaml", "rules/incidents_test.yaml", "rules/queries_test.yaml"},
		// prometheus-kubernetes.yml is missing: Debian builds Prometheus without Kubernetes.
		{"promtool", "check", "config", "prometheus.yml", "prometheus-http-sd.yml"},
		{"amtool", "check-config", "alertmanager.yml"},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
}

// Prometheus accepts the scrape configurations in the documentation.
func TestDocumentedScrapeConfigs(t *testing.T) {
	blocks := documentedScrapeConfigs(t)
	if len(blocks) < 2 {
		t.Errorf("found %d scrape_configs in the documentation", len(blocks))
	}
	file := filepath.Join(t.TempDir(), "prometheus.yml")
	for _, block := range blocks {
		writeFile(t, file, block)
		if out, err := exec.Command("promtool", "check", "config", file).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s\n%s", err, out, block)
		}
	}
}

func documentedScrapeConfigs(t *testing.T) (blocks []string) {
	t.Helper()
	files, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	config := regexp.MustCompile("(?ms)^```yaml\n(scrape_configs:\n.*?)^```$")
	for _, file := range append(files, "../README.md") {
		for _, match := range config.FindAllSubmatch(read(t, file), -1) {
			blocks = append(blocks, string(match[1]))
		}
	}
	return blocks
}

// Prometheus accepts the history for the screenshots.
func TestHistory(t *testing.T) {
	text, err := exec.Command("go", "run", "./history", "-days=0.1").Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "history.om"), string(text))
	cmd := exec.Command("promtool", "tsdb", "create-blocks-from", "openmetrics", "history.om", "data")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// emptyWithoutEvents lists panels that show changes or failures, and why they can be empty
// otherwise. TestTokenOutage fills them.
var emptyWithoutEvents = map[string]string{
	"overview.json/Who got worse":                   noChange,
	"overview.json/Alerts firing":                   noChange,
	"subscription.json/Points won and lost":         noChange,
	"subscription.json/What changed":                noChange,
	"exporter.json/Failing subscriptions":           "no subscription fails",
	"overview.json/Subscriptions without a score":   "no subscription fails",
	"exporter.json/Failing subscriptions by reason": "no subscription fails",
	"exporter.json/Rejected requests":               "Azure rejects no requests",
}

const noChange = "no score changes"

// The demo is scraped, recorded, shown on every dashboard, and alerted on.
func TestDemoToNotification(t *testing.T) {
	t.Parallel()
	// The scores of the demo change constantly; the cache gives Prometheus time to catch up.
	s := startStack(t, nil, "--demo", "--azure.source=resourcegraph", "--cache.ttl=15s")

	eventually(t, "the target is up", func() error {
		up, err := s.prometheus.query(`up{job="` + jobName + `"}`)
		if err == nil && (len(up) != 1 || up[0].value() != 1) {
			err = fmt.Errorf("%v", up)
		}
		return err
	})
	eventually(t, "the recording rules match the formula", func() error {
		return compare(s.prometheus, wantRecorded(t, scrape(t, s.exporter)))
	})

	for file, d := range dashboards(t) {
		for _, p := range d.Panels {
			where := file + "/" + p.Title
			if emptyWithoutEvents[where] == "" {
				eventually(t, where+" has data", func() error { return s.prometheus.queryPanel(p, simulator.DemoSampleID) })
			} else if err := s.prometheus.queryPanel(p, simulator.DemoSampleID); err != nil && !errors.Is(err, errEmpty) {
				t.Errorf("%s: %v", where, err)
			}
		}
	}

	const finance = simulator.DemoForbiddenID
	var got []notification
	eventually(t, "a notification for the failing subscription", func() error {
		if got = s.webhook.firing("AzureSecureScoreSubscriptionFailing"); len(got) == 0 {
			return fmt.Errorf("got %v", s.webhook.all())
		}
		return nil
	})
	want := alert{
		Status: "firing",
		Labels: map[string]string{
			"alertname": "AzureSecureScoreSubscriptionFailing", "severity": "warning", "category": "collection", "job": jobName,
			"subscription_id": finance, "subscription_name": "Contoso Finance", "subscription_owner": "finance-team",
		},
		Annotations: map[string]string{
			"summary": "Secure score of Contoso Finance cannot be read: forbidden",
			"description": "For at least two hours the exporter (job azure-secure-score) has failed to read subscription Contoso Finance (" + finance + "). " +
				"It serves the last good values for one hour, then drops them.",
			"runbook_url": runbook + "azuresecurescoresubscriptionfailing",
		},
	}
	if len(got[0].Alerts) != 1 || got[0].path != "/operations" || !got[0].Alerts[0].equal(want) {
		t.Errorf("got the notifications\n%+v\nwant, at /operations,\n%+v", got, want)
	}
}

// A second job scrapes the same exporter, as a federated copy would. Every recorded value stays the
// same, and no panel fails to join.
func TestCopies(t *testing.T) {
	t.Parallel()
	exporter := startExporter(t, nil, "--demo", "--azure.source=resourcegraph", "--cache.ttl=15s")
	config := string(read(t, "prometheus.yml"))
	job := config[strings.Index(config, "  - job_name:"):strings.Index(config, "rule_files:")]
	config = strings.Replace(config, job, job+strings.Replace(job, jobName, "copy", 1), 1)
	p := startPrometheus(t, config, "localhost:10060", exporter.address)
	eventually(t, "the recording rules match the formula", func() error {
		if err := compare(p, wantRecorded(t, scrape(t, exporter))); err != nil {
			return err
		}
		up, err := p.query("azure_secure_score_up == 1")
		if err == nil && len(up) != 2 {
			err = fmt.Errorf("%d jobs", len(up))
		}
		return err
	})
	for file, d := range dashboards(t) {
		for _, panel := range d.Panels {
			if err := p.queryPanel(panel, simulator.DemoSampleID); err != nil && !errors.Is(err, errEmpty) {
				t.Errorf("%s: %s: %v", file, panel.Title, err)
			}
		}
	}
}

// Scores change, requests are throttled, and then the token endpoint fails: one notification, not
// one per subscription.
func TestTokenOutage(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(6, 15)
	simulator.GenerateAssessments(&tenant, 1)
	tenant.TokenLifetime = 10 * time.Second // expires soon after the endpoint fails
	azure := startAzure(t, tenant)
	// The subscription list is due sixty times as often, like everything else.
	s := startStack(t, azureEnv(t, azure), append(azure.Flags(), "--azure.discovery-interval=10s")...)
	subscriptions := tenant.Subscriptions
	eventually(t, "all scores are recorded", func() error {
		return compare(s.prometheus, wantRecorded(t, scrape(t, s.exporter)))
	})

	eventually(t, "there are values to compare with", func() error {
		changes, err := s.prometheus.query("subscription:azure_secure_score_ratio:delta1d")
		if err == nil && len(changes) == 0 {
			err = errEmpty
		}
		return err
	})

	for i := range subscriptions[:2] {
		changed := subscriptions[i]
		changed.Controls = slices.Clone(changed.Controls)
		for j, c := range changed.Controls {
			if i == 0 {
				c.Healthy, c.Unhealthy = c.Weight(), 0
			} else {
				c.Healthy, c.Unhealthy = 0, c.Weight()
			}
			changed.Controls[j] = c
		}
		azure.SetSubscription(changed)
	}
	azure.SetFault(subscriptions[2].ID, simulator.Throttle(-1, 0))
	all := dashboards(t)
	// Concurrently, because a change is recent only for some seconds. The fault ends before an alert
	// for its subscription can fire.
	var changes, failures sync.WaitGroup
	for where, reason := range emptyWithoutEvents {
		file, title, _ := strings.Cut(where, "/")
		i := slices.IndexFunc(all[file].Panels, func(p panel) bool { return p.Title == title })
		if i < 0 {
			t.Fatalf("there is no panel %s, which can be empty because %s", where, reason)
		}
		waiting := &failures
		if reason == noChange {
			waiting = &changes
		}
		waiting.Go(func() {
			if err := within(waitTimeout, func() error { return s.prometheus.queryPanel(all[file].Panels[i], subscriptions[1].ID) }); err != nil {
				t.Errorf("%s: %v", where, err)
			}
		})
	}
	failures.Wait()
	azure.SetFault(subscriptions[2].ID, nil)
	changes.Wait()

	azure.SetTokenFault(simulator.ExpiredSecret())
	s.expectOneNotification(t, "AzureSecureScoreCollectionIncomplete", len(subscriptions), "authentication")
	s.expectOneNotification(t, "AzureSecureScoreNothingCollected", len(subscriptions), "authentication")
	azure.SetTokenFault(nil)
	s.expectRecovery(t)
}

// The subscription list can be read, but no score: again one notification.
func TestServiceOutage(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(6, 3)
	simulator.GenerateAssessments(&tenant, 1)
	azure := startAzure(t, tenant)
	s := startStack(t, azureEnv(t, azure), azure.Flags()...)
	eventually(t, "all scores are recorded", func() error {
		return compare(s.prometheus, wantRecorded(t, scrape(t, s.exporter)))
	})
	for _, subscription := range tenant.Subscriptions {
		azure.SetFault(subscription.ID, simulator.Garbage())
	}
	s.expectOneNotification(t, "AzureSecureScoreCollectionIncomplete", len(tenant.Subscriptions), "invalid_response")
	for _, subscription := range tenant.Subscriptions {
		azure.SetFault(subscription.ID, nil)
	}
	s.expectRecovery(t)
}

// expectOneNotification waits until an alert of this name inhibits those of all subscriptions,
// which fail for this reason, and until its single notification arrives.
func (s *stack) expectOneNotification(t *testing.T, name string, subscriptions int, reason string) {
	t.Helper()
	eventually(t, "Alertmanager inhibits the alerts of all subscriptions", func() error {
		alerts, err := s.alertmanager.alerts(`alertname="AzureSecureScoreSubscriptionFailing"`)
		for _, a := range alerts {
			if a.Status.State != "suppressed" || !strings.HasSuffix(a.Annotations["summary"], " cannot be read: "+reason) {
				err = errors.Join(err, fmt.Errorf("%s is %s: %s", a.Labels, a.Status.State, a.Annotations["summary"]))
			}
		}
		if len(alerts) != subscriptions {
			err = errors.Join(err, fmt.Errorf("%d alerts", len(alerts)))
		}
		return err
	})
	eventually(t, "a notification for "+name, func() error {
		if len(s.webhook.firing(name)) == 0 {
			return fmt.Errorf("got %v", s.webhook.all())
		}
		return nil
	})
	time.Sleep(5 * time.Second) // Alertmanager delays the notification of a new group by a second
	if n := s.webhook.firing(name); len(n) != 1 || len(n[0].Alerts) != 1 {
		t.Errorf("notifications for %s: %v, want one", name, n)
	}
	s.expectInhibited(t)
}

// expectRecovery waits until all collection alerts are resolved. None that was inhibited may be
// sent.
func (s *stack) expectRecovery(t *testing.T) {
	t.Helper()
	eventually(t, "all alerts are resolved", func() error {
		firing, err := s.prometheus.query(`ALERTS{category="collection"}`)
		if len(firing) > 0 {
			err = errors.Join(err, fmt.Errorf("%v", firing))
		}
		return err
	})
	time.Sleep(5 * time.Second)
	s.expectInhibited(t)
}

// expectInhibited reports notifications for alerts that another one should inhibit.
func (s *stack) expectInhibited(t *testing.T) {
	t.Helper()
	for _, n := range s.webhook.all() {
		for _, a := range n.Alerts {
			if a.Labels["alertname"] == "AzureSecureScoreSubscriptionFailing" {
				t.Errorf("a notification for one subscription although all fail: %v", a)
			}
		}
	}
}
