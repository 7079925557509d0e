//go:build e2e

// The end-to-end check: the built exporter, the Prometheus and Alertmanager of the system, and the shipped configuration, rules and
// dashboards, from a simulated Azure to the notification.
//
//	apt-get install prometheus prometheus-alertmanager
//	go test -tags e2e ./dashboards/
//
// The shipped files are used as they are but for addresses and durations: here a minute is a second. Since all durations shrink alike, what
// comes first with an operator comes first here.
package dashboards

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

const (
	// patience is how long anything that must happen may take on a busy machine. Nothing waits for it that goes well.
	patience = 90 * time.Second
	// jobName is what rules and dashboards look for.
	jobName = "azure-secure-score"
)

// exporterBinary is the path of the built program.
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

// Prometheus' and Alertmanager's own checks of the shipped files.
func TestTools(t *testing.T) {
	for _, args := range [][]string{
		{"promtool", "check", "rules", "--lint=all", "--lint-fatal", "rules/recording-rules.yaml", "rules/alerting-rules.yaml"},
		{"promtool", "test", "rules", "rules/recording-rules_test.yaml", "rules/alerting-rules_test.yaml", "rules/recovery_test.yaml"},
		// Debian's build knows no kubernetes_sd_configs, so that prometheus-kubernetes.yml is not for it.
		{"promtool", "check", "config", "prometheus.yml", "prometheus-http-sd.yml"},
		{"amtool", "check-config", "alertmanager.yml"},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
}

// The configurations that the README shows.
func TestScrapeConfigs(t *testing.T) {
	blocks := regexp.MustCompile("(?ms)^```yaml\n(scrape_configs:\n.*?)^```$").FindAllSubmatch(read(t, "../README.md"), -1)
	if len(blocks) != 2 {
		t.Errorf("the README has %d scrape_configs, want 2", len(blocks))
	}
	file := filepath.Join(t.TempDir(), "prometheus.yml")
	for _, block := range blocks {
		writeFile(t, file, string(block[1]))
		if out, err := exec.Command("promtool", "check", "config", file).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s\n%s", err, out, block[1])
		}
	}
}

// Two subscriptions of one name are two lines, each with its own score.
func TestScoresOfOneName(t *testing.T) {
	panels := dashboards(t)["subscription.json"].Panels
	i := slices.IndexFunc(panels, func(p panel) bool { return p.Title == "Score over time" })
	expr, err := json.Marshal(variables.Replace(panels[i].Targets[0].Expr))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "test.yaml"), fmt.Sprintf(`tests:
- interval: 1m
  input_series:
  - {series: 'subscription:azure_secure_score:ratio{subscription_id="a", environment="Azure", initiative="ascScore"}', values: 0.8}
  - {series: 'subscription:azure_secure_score:ratio{subscription_id="b", environment="Azure", initiative="ascScore"}', values: 0.7}
  - {series: 'subscription:azure_secure_score_subscription_info:latest{subscription_id="a", subscription_name="Twin"}', values: 1}
  - {series: 'subscription:azure_secure_score_subscription_info:latest{subscription_id="b", subscription_name="Twin"}', values: 1}
  promql_expr_test:
  - expr: %s
    eval_time: 0s
    exp_samples:
    - {labels: '{subscription_id="a", subscription_name="Twin", environment="2. Twin · Azure ", initiative="ascScore", by_score="2"}', value: 0.8}
    - {labels: '{subscription_id="b", subscription_name="Twin", environment="1. Twin · Azure ", initiative="ascScore", by_score="1"}', value: 0.7}
`, expr))
	if out, err := exec.Command("promtool", "test", "rules", filepath.Join(dir, "test.yaml")).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// What fills the dashboards of a picture is what Prometheus takes.
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

// Panels that show what changed, or what went wrong, are empty, wholly or in part, while nothing does. TestOutage fills them.
var emptyWhenCalm = map[string]string{
	"overview.json/Most improved":           "no score rises by itself",
	"overview.json/Most worsened":           "no score falls by itself",
	"subscription.json/Points won and lost": "no control changes by itself",
	"subscription.json/What changed":        "no control changes by itself",
	"exporter.json/Throttled calls":         "Azure throttles nobody",
	"exporter.json/Failing subscriptions":   "the demo's failing subscription was never read, so that its values have no age",
}

// What README and compose.yaml let a newcomer run: the demo, scraped, recorded, drawn, and alerted on.
func TestDemoToNotification(t *testing.T) {
	t.Parallel()
	// The demo's scores drift all the time: the cache makes them stand still for as long as Prometheus needs to catch up.
	s := startStack(t, nil, "--demo", "--azure.source=resourcegraph", "--cache.ttl=15s")

	eventually(t, "the target is up", func() error {
		up, err := s.prometheus.query(`up{job="` + jobName + `"}`)
		if err == nil && (len(up) != 1 || up[0].value() != 1) {
			err = fmt.Errorf("%v", up)
		}
		return err
	})
	eventually(t, "the recording rules say what the formula says", func() error {
		return compare(s.prometheus, recorded(t, scrape(t, s.exporter)))
	})

	for file, d := range dashboards(t) {
		for _, p := range d.Panels {
			if emptyWhenCalm[file+"/"+p.Title] == "" {
				eventually(t, file+": "+p.Title+" shows something", func() error { return s.prometheus.draw(t, p) })
			} else if err := s.prometheus.draw(t, p); err != nil && !errors.Is(err, errEmpty) {
				t.Errorf("%s: %s: %v", file, p.Title, err)
			}
		}
	}

	const finance = simulator.DemoForbiddenID
	var got []notification
	eventually(t, "a notification of the subscription that cannot be read", func() error {
		if got = s.webhook.about("AzureSecureScoreSubscriptionFailing"); len(got) == 0 {
			return fmt.Errorf("so far: %v", s.webhook.all())
		}
		return nil
	})
	want := alert{
		Status: "firing",
		Labels: map[string]string{
			"alertname": "AzureSecureScoreSubscriptionFailing", "severity": "warning", "category": "collection", "job": jobName,
			"subscription_id": finance, "subscription_name": "Contoso Finance",
		},
		Annotations: map[string]string{
			"summary": "Secure score of Contoso Finance cannot be read: forbidden",
			"description": "For at least 50 minutes the exporter (job azure-secure-score) could not read subscription Contoso Finance (" + finance + "). " +
				"Its last good values are served for one hour, then they vanish.",
			"runbook_url": runbook + "azuresecurescoresubscriptionfailing",
		},
	}
	if len(got[0].Alerts) != 1 || got[0].path != "/operations" || !got[0].Alerts[0].equal(want) {
		t.Errorf("the webhook got\n%+v\nwant, at /operations,\n%+v", got, want)
	}
}

// Scores move, a call is throttled, and then the token endpoint fails: one notification, not one for each subscription.
func TestOutage(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(6, 15)
	tenant.TokenLifetime = 10 * time.Second // they expire soon after the endpoint fails
	azure := startAzure(t, tenant)
	// The list of subscriptions, too, is due sixty times as often.
	s := startStack(t, azureEnv(t, azure), append(azureFlags(azure), "--azure.discovery-interval=10s")...)
	subscriptions := tenant.Subscriptions
	eventually(t, "all scores are recorded", func() error {
		return compare(s.prometheus, recorded(t, scrape(t, s.exporter)))
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
	var waiting sync.WaitGroup // at the same time, since a change is new for some seconds only
	for where, reason := range emptyWhenCalm {
		file, title, _ := strings.Cut(where, "/")
		i := slices.IndexFunc(all[file].Panels, func(p panel) bool { return p.Title == title })
		if i < 0 {
			t.Fatalf("there is no panel %s, which may be empty because %s", where, reason)
		}
		waiting.Go(func() {
			if err := within(patience, func() error { return s.prometheus.draw(t, all[file].Panels[i]) }); err != nil {
				t.Errorf("%s, although things happened: %v", where, err)
			}
		})
	}
	waiting.Wait()
	azure.SetFault(subscriptions[2].ID, nil)

	azure.SetTokenFault(simulator.ExpiredSecret())
	s.oneForAll(t, "AzureSecureScoreCredentialFailing", len(subscriptions), "authentication")
	azure.SetTokenFault(nil)
	s.allWell(t)
}

// The list of subscriptions can be read, but no score: one notification here, too.
func TestServiceOutage(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(6, 3)
	azure := startAzure(t, tenant)
	s := startStack(t, azureEnv(t, azure), azureFlags(azure)...)
	eventually(t, "all scores are recorded", func() error {
		return compare(s.prometheus, recorded(t, scrape(t, s.exporter)))
	})
	for _, subscription := range tenant.Subscriptions {
		azure.SetFault(subscription.ID, simulator.Garbage())
	}
	s.oneForAll(t, "AzureSecureScoreMostSubscriptionsFailing", len(tenant.Subscriptions), "invalid_response")
	for _, subscription := range tenant.Subscriptions {
		azure.SetFault(subscription.ID, nil)
	}
	s.allWell(t)
}

// oneForAll waits until each subscription's alert, for this reason, is held back by another one, of which the webhook gets a single
// notification, and of them none.
func (s *stack) oneForAll(t *testing.T, name string, subscriptions int, reason string) {
	t.Helper()
	eventually(t, "Alertmanager holds back an alert for each subscription", func() error {
		alerts, err := s.alertmanager.alerts("AzureSecureScoreSubscriptionFailing")
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
	eventually(t, "a notification of "+name, func() error {
		if len(s.webhook.about(name)) == 0 {
			return fmt.Errorf("so far: %v", s.webhook.all())
		}
		return nil
	})
	time.Sleep(5 * time.Second) // Alertmanager waits a second before it tells of a new group
	if n := s.webhook.about(name); len(n) != 1 || len(n[0].Alerts) != 1 {
		t.Errorf("notifications of %s: %v, want one", name, n)
	}
	s.onlyCritical(t)
}

// allWell waits until all alerts of the collection have ended. In doing so, none that was held back may slip out.
func (s *stack) allWell(t *testing.T) {
	t.Helper()
	eventually(t, "all alerts have ended", func() error {
		firing, err := s.prometheus.query(`ALERTS{category="collection", alertname!~".*(Throttled|QuotaLow|ScrapeSlow)"}`)
		if len(firing) > 0 {
			err = errors.Join(err, fmt.Errorf("%v", firing))
		}
		return err
	})
	time.Sleep(5 * time.Second)
	s.onlyCritical(t)
}

// onlyCritical reports notifications of alerts that another one should have held back.
func (s *stack) onlyCritical(t *testing.T) {
	t.Helper()
	for _, n := range s.webhook.all() {
		for _, a := range n.Alerts {
			switch a.Labels["alertname"] {
			case "AzureSecureScoreSubscriptionFailing", "AzureSecureScoreValuesOld":
				t.Errorf("a notification of a subscription, although all fail: %v", a)
			case "AzureSecureScoreMostSubscriptionsFailing":
				if len(s.webhook.about("AzureSecureScoreCredentialFailing")) > 0 {
					t.Errorf("a notification of all subscriptions, although the credential fails: %v", a)
				}
			}
		}
	}
}

// The README's jobs for a target for each subscription, on two Prometheus servers and two replicas of the exporter.
func TestShards(t *testing.T) {
	t.Parallel()
	const n = 50
	tenant := simulator.Generate(n, 3)
	azure := startAzure(t, tenant)
	var replicas [2]*process
	for i := range replicas {
		replicas[i] = startExporter(t, azureEnv(t, azure), azureFlags(azure)...)
	}
	hook := startWebhook(t)
	alertmanager := startAlertmanager(t, hook)
	addresses := []string{"exporter-0:10060", replicas[0].address, "exporter-1:10060", replicas[1].address}

	jobs := regexp.MustCompile("(?s)```yaml\n(scrape_configs:\n[^`]*http_sd_configs:.*?)```").FindSubmatch(read(t, "../README.md"))
	if jobs == nil {
		t.Fatal("the README has no http_sd_configs")
	}
	shipped := regexp.MustCompile(`(?s)scrape_configs:\n.*\nrule_files:`)
	config := shipped.ReplaceAllLiteralString(string(read(t, "prometheus.yml")), string(jobs[1])+"rule_files:")
	var servers [2]*prometheusServer
	for i := range servers {
		shard := replace(t, config, `regex: "0", action: keep`, fmt.Sprintf(`regex: "%d", action: keep`, i))
		servers[i] = startPrometheus(t, shard, append(addresses, "localhost:9093", alertmanager.address)...)
	}

	// On both servers together.
	both := func(expr string) (all []series, err error) {
		for _, s := range servers {
			some, queryErr := s.query(expr)
			if queryErr == nil && len(some) == 0 {
				queryErr = fmt.Errorf("a server has nothing for %s", expr)
			}
			all, err = append(all, some...), errors.Join(err, queryErr)
		}
		return all, err
	}
	for _, expr := range []string{`up{job="` + jobName + `-subscriptions"}`, `probe_success{job="` + jobName + `"}`} {
		eventually(t, "one "+expr+" for each subscription", func() error {
			all, err := both(expr)
			seen := map[string]bool{}
			for _, s := range all {
				if id := s.Metric["instance"]; seen[id] || s.value() != 1 {
					err = errors.Join(err, fmt.Errorf("%s has %g, or stands twice", id, s.value()))
				}
				seen[s.Metric["instance"]] = true
			}
			for _, s := range tenant.Subscriptions {
				if !seen[s.ID] {
					err = errors.Join(err, fmt.Errorf("%s is missing", s.ID))
				}
			}
			if len(all) != n {
				err = errors.Join(err, fmt.Errorf("%d series, want %d", len(all), n))
			}
			return err
		})
	}
	asked := map[string]int{} // by address of the replica
	for _, s := range servers {
		var answer struct {
			Data struct {
				ActiveTargets []struct{ ScrapePool, ScrapeURL string }
			}
		}
		if err := getJSON("http://"+s.address+"/api/v1/targets?state=active", &answer); err != nil {
			t.Fatal(err)
		}
		for _, target := range answer.Data.ActiveTargets {
			if u, err := url.Parse(target.ScrapeURL); err == nil && target.ScrapePool == jobName+"-subscriptions" {
				asked[u.Host]++
			}
		}
	}
	if len(asked) != 2 || asked[replicas[0].address]+asked[replicas[1].address] != n {
		t.Errorf("the replicas %v serve %v, want both, %d together", addresses, asked, n)
	}

	// Each server's rules know its own half; the halves add up to the aggregate of all.
	eventually(t, "the servers' aggregates make that of all", func() error {
		want := recorded(t, scrape(t, replicas[0]))
		scores, err := both("subscription:azure_secure_score:ratio")
		if len(scores) != n {
			err = errors.Join(err, fmt.Errorf("%d scores, want %d", len(scores), n))
		}
		names, nameErr := both(`subscription:azure_secure_score_subscription_info:latest{subscription_name=~"Subscription .*"}`)
		if len(names) != n {
			err = errors.Join(err, nameErr, fmt.Errorf("%d names, want %d", len(names), n))
		}
		var ratio, weight float64
		for _, s := range servers {
			r, ratioErr := s.query("sum(subscription:azure_secure_score:weighted_ratio)")
			w, weightErr := s.query("sum(subscription:azure_secure_score_weight:max)")
			if err = errors.Join(err, ratioErr, weightErr); err != nil || len(r) != 1 || len(w) != 1 {
				return fmt.Errorf("not yet: %w", err)
			}
			ratio, weight = ratio+r[0].value(), weight+w[0].value()
		}
		if all := want[`initiative:azure_secure_score:ratio{initiative="ascScore"}`]; math.Abs(ratio/weight-all) > 1e-9 {
			err = errors.Join(err, fmt.Errorf("%g, want %g", ratio/weight, all))
		}
		return err
	})
	choice, err := both("azure_secure_score_up")
	if err != nil || len(choice) != 4 {
		t.Errorf("the dashboard offers %v (%v), want two exporters on each server", choice, err)
	}

	// A replica that dies takes a quarter of all targets with it on each server: one alert.
	replicas[1].stop()
	eventually(t, "a notification of the replica", func() error {
		if len(hook.about("AzureSecureScoreExporterDown")) == 0 {
			return fmt.Errorf("so far: %v", hook.all())
		}
		return nil
	})
	time.Sleep(5 * time.Second)
	for _, notification := range hook.all() {
		if notification.path != "/operations" {
			continue
		}
		for _, a := range notification.Alerts {
			if a.Labels["alertname"] != "AzureSecureScoreExporterDown" || a.Labels["instance"] != replicas[1].address {
				t.Errorf("one replica is down, and the webhook gets %v", a)
			}
		}
	}
}

// recorded computes from /metrics what the recording rules should say, without PromQL, by Microsoft's formula:
// Σ(weight × current ÷ max) ÷ Σ weight, where a weight of 0 counts as 1 and a score of max 0 as 0.
func recorded(t *testing.T, metrics []series) map[string]float64 {
	t.Helper()
	score := []string{"subscription_id", "environment", "initiative", "connector"}
	control := []string{"initiative", "control_id", "control"}
	at := func(name string, like series) float64 {
		for _, s := range metrics {
			same := maps.Clone(s.Metric)
			same[model.MetricNameLabel] = like.Metric[model.MetricNameLabel]
			if s.Metric[model.MetricNameLabel] == name && maps.Equal(same, like.Metric) {
				return s.number
			}
		}
		t.Fatalf("/metrics has no %s like %v", name, like.Metric)
		return 0
	}
	want, weights := map[string]float64{}, map[string]float64{}
	for _, s := range metrics {
		switch s.Metric[model.MetricNameLabel] {
		case "azure_secure_score_max":
			current, weight, ratio := at("azure_secure_score_current", s), at("azure_secure_score_weight", s), 0.0
			if s.number > 0 {
				ratio = current / s.number
			}
			if weight == 0 {
				weight = 1
			}
			want["subscription:azure_secure_score:ratio"+s.key(score...)] = ratio
			want["subscription:azure_secure_score:potential"+s.key(score...)] = s.number - current
			for _, aggregate := range []string{"initiative:azure_secure_score:ratio" + s.key("initiative"), "environment:azure_secure_score:ratio" + s.key("environment", "initiative")} {
				want[aggregate] += weight * ratio
				weights[aggregate] += weight
			}
		case "azure_secure_score_control_max":
			want["control:azure_secure_score_control_potential:sum"+s.key(control...)] += s.number - at("azure_secure_score_control_current", s)
		case "azure_secure_score_control_resources":
			want["control:azure_secure_score_control_resources:sum"+s.key(append(control, "state")...)] += s.number
			want["subscription:azure_secure_score_control_resources:sum"+s.key(append(score, "state")...)] += s.number
		}
	}
	for aggregate, weight := range weights {
		want[aggregate] /= weight
	}
	return want
}

// compare says whether the recorded series are these, all of them and no others.
func compare(p *prometheusServer, want map[string]float64) error {
	names := map[string]bool{}
	for key := range want {
		name, _, _ := strings.Cut(key, "{")
		names[name] = true
	}
	if len(names) != 7 {
		return fmt.Errorf("/metrics has figures for %d of 7 recording rules", len(names))
	}
	got := map[string]float64{}
	for name := range names {
		all, err := p.query(name)
		if err != nil {
			return err
		}
		for _, s := range all {
			delete(s.Metric, model.MetricNameLabel)
			got[name+s.key(slices.Collect(maps.Keys(s.Metric))...)] = s.value()
		}
	}
	for key, value := range want {
		if recorded, ok := got[key]; !ok || math.Abs(recorded-value) > 1e-9 {
			return fmt.Errorf("%s is %g (%t), want %g", key, recorded, ok, value)
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d series are recorded, want %d", len(got), len(want))
	}
	return nil
}

var errEmpty = errors.New("empty")

// variables are what Grafana fills in, with All chosen. Changes are those of the last ten minutes: longer ones need data of days.
var variables = strings.NewReplacer("$subscription", ".*", "$environment", ".*", "$instance", ".*", "$initiative", "ascScore",
	"offset 7d", "offset 10m", "offset 30d", "offset 10m", "offset $__range", "offset 10m", "$__rate_interval", "15m", "$__interval", "15m")

var variable = regexp.MustCompile(`\$[a-z_{]`)

// draw asks what a panel asks, and returns errEmpty when one of its queries has no answer.
func (p *prometheusServer) draw(t *testing.T, panel panel) error {
	t.Helper()
	var all error
	for _, target := range panel.Targets {
		expr := faster(variables.Replace(target.Expr))
		if variable.MatchString(expr) {
			return fmt.Errorf("%s: a variable that this test does not know in %s", target.RefID, expr)
		}
		ask := p.query
		if !target.Instant {
			ask = p.queryRange
		}
		answer, err := ask(expr)
		if err == nil && len(answer) == 0 {
			err = errEmpty
		}
		if err != nil {
			all = errors.Join(all, fmt.Errorf("%s: %w", target.RefID, err))
		}
	}
	return all
}

// series is one of Prometheus' API, or of /metrics, which has only the number.
type series struct {
	Metric map[string]string
	Value  [2]any // time and value of an instant query
	number float64
}

func (s series) value() float64 {
	text, _ := s.Value[1].(string)
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return math.NaN()
	}
	return v
}

// key writes those of the labels that the series has, in order.
func (s series) key(labels ...string) string {
	var pairs []string
	for _, l := range labels {
		if s.Metric[l] != "" {
			pairs = append(pairs, fmt.Sprintf("%s=%q", l, s.Metric[l]))
		}
	}
	slices.Sort(pairs)
	return "{" + strings.Join(pairs, ",") + "}"
}

// scrape reads the gauges of /metrics.
func scrape(t *testing.T, exporter *process) (all []series) {
	t.Helper()
	resp, err := http.Get("http://" + exporter.address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for name, family := range families {
		for _, m := range family.GetMetric() {
			if m.GetGauge() == nil {
				continue
			}
			s := series{Metric: map[string]string{model.MetricNameLabel: name}, number: m.GetGauge().GetValue()}
			for _, l := range m.GetLabel() {
				s.Metric[l.GetName()] = l.GetValue()
			}
			all = append(all, s)
		}
	}
	return all
}

type stack struct {
	exporter     *process
	prometheus   *prometheusServer
	alertmanager *alertmanagerServer
	webhook      *webhook
}

// startStack runs the shipped configuration around an exporter with these flags.
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
	return []string{
		"SSL_CERT_FILE=" + certificate, "AZURE_TOKEN_CREDENTIALS=EnvironmentCredential", "AZURE_TENANT_ID=" + simulator.TenantID,
		"AZURE_CLIENT_ID=" + simulator.ClientID, "AZURE_CLIENT_SECRET=" + simulator.ClientSecret,
	}
}

func azureFlags(azure *simulator.Server) []string {
	return []string{"--azure.cloud=custom", "--azure.authority-host=" + azure.URL(), "--azure.arm-endpoint=" + azure.URL()}
}

var listening = regexp.MustCompile(`\baddress=(127\.0\.0\.1:\d+)`)

func startExporter(t *testing.T, env []string, flags ...string) *process {
	t.Helper()
	// The environment holds nothing of the developer's, whose own AZURE_* variables might lead to the real Azure.
	p := start(t, append([]string{"HOME=" + t.TempDir(), "PATH="}, env...), exporterBinary, append([]string{"--web.listen-address=127.0.0.1:0"}, flags...)...)
	eventually(t, "the exporter listens", func() error {
		match := listening.FindStringSubmatch(p.log.String())
		if match == nil {
			return errors.New("no line says where")
		}
		p.address = match[1]
		return nil
	})
	return p
}

type prometheusServer struct{ *process }

// startPrometheus runs Prometheus with the shipped rules and this configuration, in which addresses are replaced, pair by pair.
func startPrometheus(t *testing.T, config string, addresses ...string) *prometheusServer {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(addresses); i += 2 {
		config = replace(t, config, addresses[i], addresses[i+1])
	}
	// A minute as a second would leave the scrape one second of its two. Busy machines need both.
	config = replace(t, faster(config), "scrape_timeout: 1s", "scrape_timeout: 2s")
	writeFile(t, filepath.Join(dir, "prometheus.yml"), config)
	for _, rules := range []string{"rules/recording-rules.yaml", "rules/alerting-rules.yaml"} {
		writeFile(t, filepath.Join(dir, rules), faster(string(read(t, rules))))
	}
	address := freeAddress(t)
	p := start(t, os.Environ(), "prometheus", "--config.file="+filepath.Join(dir, "prometheus.yml"),
		"--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address)
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
	writeFile(t, filepath.Join(dir, "alertmanager.yml"), faster(config))
	address := freeAddress(t)
	p := start(t, os.Environ(), "prometheus-alertmanager", "--config.file="+filepath.Join(dir, "alertmanager.yml"),
		"--storage.path="+filepath.Join(dir, "data"), "--web.listen-address="+address, "--cluster.listen-address=")
	p.address = address
	eventually(t, "Alertmanager is ready", func() error { return ready(p) })
	return &alertmanagerServer{p}
}

type heldAlert struct {
	Labels, Annotations map[string]string
	Status              struct{ State string }
}

func (a *alertmanagerServer) alerts(name string) ([]heldAlert, error) {
	var all []heldAlert
	err := getJSON("http://"+a.address+"/api/v2/alerts?"+url.Values{"filter": {"alertname=" + name}}.Encode(), &all)
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
	path   string // of the receiver
	Alerts []alert
}

// webhook keeps what Alertmanager sends.
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
			t.Errorf("the webhook got no JSON: %v", err)
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

// about returns the notifications that an alert fires.
func (w *webhook) about(name string) []notification {
	return slices.DeleteFunc(w.all(), func(n notification) bool {
		return !slices.ContainsFunc(n.Alerts, func(a alert) bool { return a.Labels["alertname"] == name && a.Status == "firing" })
	})
}

// process is a running program.
type process struct {
	address string // host and port
	log     *output
	stop    func() // asks it to end
}

// start runs a program until the test ends.
func start(t *testing.T, env []string, program string, args ...string) *process {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...) // the context ends before Cleanup
	terminate := func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.Cancel, cmd.WaitDelay = terminate, 15*time.Second
	cmd.Env = env
	p := &process{log: &output{}, stop: func() { _ = terminate() }} // an error says that it has ended
	cmd.Stdout, cmd.Stderr = p.log, p.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Wait() // how it ended is main_test.go's business
		if t.Failed() {
			text := p.log.String()
			t.Logf("%s said, at last:\n%s", filepath.Base(program), text[max(0, len(text)-3000):])
		}
	})
	return p
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

var durations = regexp.MustCompile(`\b\d+[smhd]\b`)

// faster makes a minute a second, in every duration of a file or an expression.
func faster(text string) string {
	return durations.ReplaceAllStringFunc(text, func(d string) string {
		long, err := model.ParseDuration(d)
		if err != nil {
			panic(err) // the pattern lets only durations pass
		}
		return (long / 60).String()
	})
}

func replace(t *testing.T, text, old, replacement string) string {
	t.Helper()
	if !strings.Contains(text, old) {
		t.Fatalf("there is no %q to replace in\n%s", old, text)
	}
	return strings.ReplaceAll(text, old, replacement)
}

func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	if err := within(patience, try); err != nil {
		t.Fatalf("in vain waited until %s: %v", what, err)
	}
}

// within tries until there is no error any more, and returns the last one after a time.
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

// freeAddress is one that nobody listens on at the moment.
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
