package dashboards

import (
	"regexp"
	"slices"
	"strings"
	"testing"

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
		if g.Interval != "1m" {
			t.Errorf("group %s: interval %q, want 1m: a longer one leaves gaps in recorded series", g.Name, g.Interval)
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
					t.Errorf("%s: a score alert needs keep_firing_for to bridge gaps", r.Alert)
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

// A recorded series that nothing reads only costs memory. Four of them are for ad-hoc queries.
func TestRecordedSeriesAreRead(t *testing.T) {
	t.Parallel()
	adHoc := []string{
		"environment:azure_secure_score:ratio", "initiative:azure_secure_score:ratio",
		"control:azure_secure_score_control_potential:sum", "control:azure_secure_score_control_resources:sum",
	}
	var all strings.Builder
	for _, s := range expressions(t) {
		all.WriteString(s.expr)
	}
	for _, g := range ruleGroups(t) {
		for _, r := range g.Rules {
			if r.Record != "" && !slices.Contains(adHoc, r.Record) && !strings.Contains(all.String(), r.Record) {
				t.Errorf("nothing uses %s", r.Record)
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
