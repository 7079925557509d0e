//go:build e2e

package dashboards

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// The documented configuration with one target per subscription, two Prometheus servers and two
// replicas of the exporter.
func TestShards(t *testing.T) {
	t.Parallel()
	const n = 50
	tenant := simulator.Generate(n, 3)
	azure := startAzure(t, tenant)
	var replicas [2]*process
	for i := range replicas {
		replicas[i] = startExporter(t, azureEnv(t, azure), azure.Flags()...)
	}
	hook := startWebhook(t)
	servers := startShards(t, replicas, startAlertmanager(t, hook))

	var ids []string
	for _, s := range tenant.Subscriptions {
		ids = append(ids, s.ID)
	}
	for _, expr := range []string{`up{job="` + jobName + `-subscriptions"}`, `probe_success{job="` + jobName + `"}`} {
		eventually(t, "every subscription has one "+expr, func() error { return servers.checkInstances(expr, ids) })
	}
	targets := servers.targets(t)
	if len(targets) != 2 || targets[replicas[0].address]+targets[replicas[1].address] != n {
		t.Errorf("got the targets %v, want both replicas and %d in total", targets, n)
	}
	eventually(t, "the aggregates of both servers add up", func() error {
		return servers.checkAggregate(n, wantRecorded(t, scrape(t, replicas[0])))
	})
	exporters, err := servers.query("azure_secure_score_up")
	if err != nil || len(exporters) != 4 {
		t.Errorf("got the exporters %v (%v), want two on each server", exporters, err)
	}

	// Each server loses half of its targets with a replica: one alert, although both servers fire.
	replicas[1].stop()
	eventually(t, "a notification for the missing subscriptions", func() error {
		if len(hook.firing("AzureSecureScoreSubscriptionsMissing")) == 0 {
			return fmt.Errorf("got %v", hook.all())
		}
		return nil
	})
	time.Sleep(5 * time.Second)
	for _, notification := range hook.all() {
		if notification.path != "/operations" {
			continue
		}
		for _, a := range notification.Alerts {
			if a.Labels["alertname"] != "AzureSecureScoreSubscriptionsMissing" || a.Labels["job"] != jobName {
				t.Errorf("one replica is down, but there is a notification for %v", a)
			}
		}
	}
}

// With one target per subscription, Prometheus drops from /metrics what probes export, and nothing
// else: tags, targets and management groups are only there.
func TestShards_DroppedSeries(t *testing.T) {
	t.Parallel()
	exporter := startExporter(t, nil, "--demo", "--azure.source=resourcegraph", "--cache.ttl=15s")
	served := scrapeFamilies(t, exporter, "/metrics")
	probed := scrapeFamilies(t, exporter, "/probe?target="+simulator.DemoSampleID)
	maps.Copy(probed, scrapeFamilies(t, exporter, "/probe?target="+simulator.DemoForbiddenID))
	for _, file := range []string{"prometheus-http-sd.yml", "../docs/scaling.md"} {
		pattern := regexp.MustCompile(`regex: "?(azure_secure_score_[^"\s]+)`).FindSubmatch(read(t, file))
		if pattern == nil {
			t.Fatalf("%s drops no series", file)
		}
		dropped := regexp.MustCompile("^(?:" + string(pattern[1]) + ")$")
		for name := range served {
			if probed[name] != nil != dropped.MatchString(name) {
				t.Errorf("%s: %s is probed: %t, dropped: %t", file, name, probed[name] != nil, dropped.MatchString(name))
			}
		}
	}
}

// shards are two Prometheus servers, each with half of the targets.
type shards [2]*prometheusServer

func startShards(t *testing.T, replicas [2]*process, alertmanager *alertmanagerServer) (servers shards) {
	t.Helper()
	blocks := documentedScrapeConfigs(t)
	sharded := slices.IndexFunc(blocks, func(b string) bool { return strings.Contains(b, "exporter-1:10060") })
	if sharded < 0 {
		t.Fatal("the documentation has no sharded scrape_configs")
	}
	shipped := regexp.MustCompile(`(?s)scrape_configs:\n.*\nrule_files:`)
	config := shipped.ReplaceAllLiteralString(string(read(t, "prometheus.yml")), blocks[sharded]+"rule_files:")
	for i := range servers {
		servers[i] = startPrometheus(t, replace(t, config, `regex: "0", action: keep`, fmt.Sprintf(`regex: "%d", action: keep`, i)),
			"exporter-0:10060", replicas[0].address, "exporter-1:10060", replicas[1].address, "localhost:9093", alertmanager.address)
	}
	return servers
}

// query returns the results of both servers and fails if either has none.
func (s shards) query(expr string) (all []series, err error) {
	for _, server := range s {
		some, queryErr := server.query(expr)
		if queryErr == nil && len(some) == 0 {
			queryErr = fmt.Errorf("no result for %s", expr)
		}
		all, err = append(all, some...), errors.Join(err, queryErr)
	}
	return all, err
}

// checkInstances reports any difference between these IDs and the instances for which expr is 1.
func (s shards) checkInstances(expr string, ids []string) error {
	all, err := s.query(expr)
	var got []string
	for _, series := range all {
		if series.value() != 1 {
			err = errors.Join(err, fmt.Errorf("%s is %g", series.Metric["instance"], series.value()))
		}
		got = append(got, series.Metric["instance"])
	}
	slices.Sort(got)
	if want := slices.Sorted(slices.Values(ids)); !slices.Equal(got, want) {
		err = errors.Join(err, fmt.Errorf("got %v, want %v", got, want))
	}
	return err
}

// targets returns the number of targets per subscription, by address of the exporter.
func (s shards) targets(t *testing.T) map[string]int {
	t.Helper()
	targets := map[string]int{}
	for _, server := range s {
		var answer struct {
			Data struct {
				ActiveTargets []struct{ ScrapePool, ScrapeURL string }
			}
		}
		if err := getJSON("http://"+server.address+"/api/v1/targets?state=active", &answer); err != nil {
			t.Fatal(err)
		}
		for _, target := range answer.Data.ActiveTargets {
			if u, err := url.Parse(target.ScrapeURL); err == nil && target.ScrapePool == jobName+"-subscriptions" {
				targets[u.Host]++
			}
		}
	}
	return targets
}

// checkAggregate reports whether n scores and names are recorded, and whether the aggregate of both
// servers is the one wanted. The rules of each server see only its own half.
func (s shards) checkAggregate(n int, want map[string]float64) error {
	scores, scoreErr := s.query("subscription:azure_secure_score:ratio")
	names, nameErr := s.query(`subscription:azure_secure_score_subscription_info:latest{subscription_name=~"Subscription .*"}`)
	ratios, ratioErr := s.query("sum(subscription:azure_secure_score:weighted_ratio)")
	weights, weightErr := s.query("sum(subscription:azure_secure_score_weight:max)")
	if err := errors.Join(scoreErr, nameErr, ratioErr, weightErr); err != nil {
		return err
	}
	if len(scores) != n || len(names) != n {
		return fmt.Errorf("got %d scores and %d names, want %d", len(scores), len(names), n)
	}
	got := (ratios[0].value() + ratios[1].value()) / (weights[0].value() + weights[1].value())
	if all := want[`initiative:azure_secure_score:ratio{initiative="ascScore"}`]; math.Abs(got-all) > 1e-9 {
		return fmt.Errorf("got %g, want %g", got, all)
	}
	return nil
}
