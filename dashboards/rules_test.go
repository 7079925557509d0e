package dashboards

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v2"
)

func TestAlerts(t *testing.T) {
	t.Parallel()
	headings := map[string]bool{} // by anchor; true if an alert links to it
	for _, h := range regexp.MustCompile(`(?m)^### (\S+)$`).FindAllStringSubmatch(string(read(t, "runbook.md")), -1) {
		headings[strings.ToLower(h[1])] = false
	}
	tests := alertTests(t)
	for _, g := range ruleGroups(t) {
		if g.Interval == "" {
			t.Errorf("group %s: no interval: the default of a Prometheus can be too short or too long", g.Name)
		}
		for _, r := range g.Rules {
			if r.Alert == "" {
				continue
			}
			if !slices.Contains([]string{"critical", "warning", "info"}, r.Labels["severity"]) {
				t.Errorf("%s: severity %q", r.Alert, r.Labels["severity"])
			}
			switch r.Labels["category"] {
			case "score":
				if r.KeepFiringFor == "" {
					t.Errorf("%s: a score alert needs keep_firing_for, because scores fluctuate", r.Alert)
				}
			case "collection":
			default:
				t.Errorf("%s: category %q", r.Alert, r.Labels["category"])
			}
			for _, a := range []string{"summary", "description"} {
				if r.Annotations[a] == "" {
					t.Errorf("%s has no %s", r.Alert, a)
				}
			}
			if r.For == "" {
				t.Errorf("%s has no for", r.Alert)
			}
			anchor, ok := strings.CutPrefix(r.Annotations["runbook_url"], runbook)
			if _, known := headings[anchor]; !ok || !known {
				t.Errorf("%s: broken runbook_url %q", r.Alert, r.Annotations["runbook_url"])
			}
			headings[anchor] = true
			if anchor != strings.ToLower(r.Alert) {
				t.Errorf("%s links to the runbook of %s", r.Alert, anchor)
			}
			if tests[r.Alert] != (alertTest{fires: true, silent: true}) {
				t.Errorf("alerting-rules_test.yaml must test %s firing and silent: %+v", r.Alert, tests[r.Alert])
			}
		}
	}
	for h, used := range headings {
		if !used {
			t.Errorf("runbook.md: no alert links to %s", h)
		}
	}
}

type alertTest struct{ fires, silent bool }

func alertTests(t *testing.T) map[string]alertTest {
	t.Helper()
	var file struct {
		Tests []struct {
			Rules []struct {
				Name   string `yaml:"alertname"`
				Alerts []any  `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	if err := yaml.Unmarshal(read(t, "rules/alerting-rules_test.yaml"), &file); err != nil {
		t.Fatal(err)
	}
	tests := map[string]alertTest{}
	for _, test := range file.Tests {
		for _, r := range test.Rules {
			a := tests[r.Name]
			a.fires = a.fires || len(r.Alerts) > 0
			a.silent = a.silent || len(r.Alerts) == 0
			tests[r.Name] = a
		}
	}
	return tests
}

// The queries of the documentation that read recorded series are tested by promtool.
func TestDocumentedQueries(t *testing.T) {
	t.Parallel()
	var file struct {
		Tests []struct {
			Exprs []struct{ Expr string } `yaml:"promql_expr_test"`
		}
	}
	if err := yaml.Unmarshal(read(t, "rules/queries_test.yaml"), &file); err != nil {
		t.Fatal(err)
	}
	tested := map[string]bool{}
	for _, test := range file.Tests {
		for _, e := range test.Exprs {
			query := strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(e.Expr), "round(\n"), "\n, 0.001)")
			tested[strings.TrimSpace(query)] = true
		}
	}
	withRules, _, _ := strings.Cut(string(read(t, "../docs/queries.md")), "\n## Without rules\n")
	queries := regexp.MustCompile("(?s)```promql\n(.*?)```").FindAllStringSubmatch(withRules, -1)
	for _, q := range queries {
		if !tested[strings.TrimSpace(q[1])] {
			t.Errorf("queries_test.yaml does not test\n%s", q[1])
		}
	}
	if len(queries) < 10 || len(queries) != len(tested) {
		t.Errorf("the page has %d queries, queries_test.yaml tests %d", len(queries), len(tested))
	}
}

// A recorded series that no alert, dashboard or documented query reads only costs memory.
func TestRecordedSeriesAreRead(t *testing.T) {
	t.Parallel()
	all := string(read(t, "../docs/queries.md"))
	for _, s := range expressions(t) {
		all += s.expr
	}
	for _, g := range ruleGroups(t) {
		for _, r := range g.Rules {
			if r.Record != "" && !strings.Contains(strings.ReplaceAll(all, r.Expr, ""), r.Record) {
				t.Errorf("nothing uses %s", r.Record)
			}
		}
	}
}

// A group that is evaluated every 5 minutes or less often leaves gaps, because Prometheus considers
// a sample stale after 5 minutes. What it records is read over a time that bridges two evaluations.
func TestSlowGroupsAreReadOverTime(t *testing.T) {
	t.Parallel()
	type reader struct{ where, text string }
	var readers []reader
	for _, s := range expressions(t) {
		readers = append(readers, reader{s.where, s.expr})
	}
	for _, g := range ruleGroups(t) {
		interval, err := model.ParseDuration(g.Interval)
		if err != nil {
			t.Errorf("group %s: %v", g.Name, err)
		}
		if interval < model.Duration(5*time.Minute) {
			continue
		}
		own := map[string]bool{}
		for _, r := range g.Rules {
			own[r.Record] = true
		}
		for _, r := range g.Rules {
			if r.Record == "" {
				t.Errorf("%s: an alert needs a shorter interval than %s", r.Alert, g.Interval)
				continue
			}
			selector := regexp.MustCompile(regexp.QuoteMeta(r.Record) + `(?:\{[^}]*\})?(\[\w+)?`)
			for _, reader := range readers {
				for _, m := range selector.FindAllStringSubmatch(reader.text, -1) {
					if m[1] == "" && !own[reader.where] {
						t.Errorf("%s reads %s without a range", reader.where, r.Record)
					}
				}
			}
		}
	}
}

type rule struct {
	Record, Alert, Expr string
	For                 string
	KeepFiringFor       string `yaml:"keep_firing_for"`
	Labels, Annotations map[string]string
}

type group struct {
	Name, Interval string
	Rules          []rule
}

// ruleGroups parses the rule files strictly, as Prometheus does.
func ruleGroups(t *testing.T) []group {
	t.Helper()
	var all []group
	for _, f := range []string{"rules/recording-rules.yaml", "rules/alerting-rules.yaml"} {
		var file struct{ Groups []group }
		if err := yaml.UnmarshalStrict(read(t, f), &file); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		all = append(all, file.Groups...)
	}
	return all
}

const runbook = "https://github.com/azure-secure-score-exporter/azure-secure-score-exporter/blob/main/dashboards/runbook.md#"
