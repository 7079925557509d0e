//go:build e2e

package dashboards

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// wantRecorded computes recorded series from /metrics without PromQL, by Microsoft's formula:
// Σ(weight × current ÷ max) ÷ Σ weight, where a weight of 0 counts as 1, and a score with max 0 as
// 0.
func wantRecorded(t *testing.T, metrics []series) map[string]float64 {
	t.Helper()
	score := []string{"subscription_id", "environment", "initiative", "connector"}
	at := func(name string, like series) float64 {
		for _, s := range metrics {
			same := maps.Clone(s.Metric)
			same[model.MetricNameLabel] = like.Metric[model.MetricNameLabel]
			if s.Metric[model.MetricNameLabel] == name && maps.Equal(same, like.Metric) {
				return s.number
			}
		}
		t.Fatalf("/metrics has no %s with the labels of %v", name, like.Metric)
		return 0
	}
	want, weights := map[string]float64{}, map[string]float64{}
	for _, s := range metrics {
		if s.Metric[model.MetricNameLabel] == "azure_secure_score_max" {
			current, weight, ratio := at("azure_secure_score_current", s), at("azure_secure_score_weight", s), 0.0
			if s.number > 0 {
				ratio = current / s.number
			}
			if weight == 0 {
				weight = 1
			}
			want["subscription:azure_secure_score:ratio"+s.key(score...)] = ratio
			want["subscription:azure_secure_score:weighted_ratio"+s.key(score...)] = weight * ratio
			want["subscription:azure_secure_score_weight:max"+s.key(score...)] = weight
			want["subscription:azure_secure_score_max:max"+s.key(score...)] = s.number
			for _, aggregate := range []string{"initiative:azure_secure_score:ratio" + s.key("initiative"), "environment:azure_secure_score:ratio" + s.key("environment", "initiative")} {
				want[aggregate] += weight * ratio
				weights[aggregate] += weight
			}
		}
	}
	for aggregate, weight := range weights {
		want[aggregate] /= weight
	}
	return want
}

// compare reports any difference between the recorded series and those wanted.
func compare(p *prometheusServer, want map[string]float64) error {
	names := map[string]bool{}
	for key := range want {
		name, _, _ := strings.Cut(key, "{")
		names[name] = true
	}
	if len(names) != 6 {
		return fmt.Errorf("/metrics provides %d of 6 recorded series", len(names))
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
		return fmt.Errorf("got %d recorded series, want %d", len(got), len(want))
	}
	return nil
}

var errEmpty = errors.New("empty")

// alternatives are panels with one query for each case.
var alternatives = map[string]bool{
	"Change, week": true, "Change, month": true, "Scores by level over time": true, "What changed": true, "Failing subscriptions": true,
}

// variables replaces those of Grafana, with All selected.
func variables(expr, subscription string) string {
	return strings.NewReplacer(
		"$job", ".*", "$owner", ".*", "$instance", ".*", "$environment", ".*", "$control", ".*", "$recommendation", ".*",
		"$initiative", "ascScore", "$subscription", subscription,
		"$__range", "10m", "$__rate_interval", "15m", "$__interval", "15m",
	).Replace(expr)
}

var variable = regexp.MustCompile(`\$[a-z_{]`)

// queryPanel runs the queries of a panel and returns errEmpty if one of them has no result. Of
// alternatives, one result is enough.
func (p *prometheusServer) queryPanel(panel panel, subscription string) error {
	var all error
	empty := 0
	for _, target := range panel.Targets {
		expr := speedUp(variables(target.Expr, subscription))
		if variable.MatchString(expr) {
			return fmt.Errorf("%s: unknown variable in %s", target.RefID, expr)
		}
		ask := p.query
		if !target.Instant {
			ask = p.queryRange
		}
		answer, err := ask(expr)
		if err != nil {
			return fmt.Errorf("%s: %w", target.RefID, err)
		}
		if len(answer) == 0 {
			empty++
			all = errors.Join(all, fmt.Errorf("%s: %w", target.RefID, errEmpty))
		}
	}
	if alternatives[panel.Title] && empty < len(panel.Targets) {
		return nil
	}
	return all
}

// series is an element of Prometheus' API, or of /metrics, which sets only number.
type series struct {
	Metric map[string]string
	Value  [2]any // timestamp and value of an instant query
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

// key formats those of the labels that the series has, sorted.
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

// scrape returns the gauges of /metrics.
func scrape(t *testing.T, exporter *process) (all []series) {
	t.Helper()
	families := scrapeFamilies(t, exporter, "/metrics")
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

func scrapeFamilies(t *testing.T, exporter *process, path string) map[string]*dto.MetricFamily {
	t.Helper()
	resp, err := http.Get("http://" + exporter.address + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return families
}
