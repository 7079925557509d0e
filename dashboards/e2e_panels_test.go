//go:build e2e

package dashboards

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The change of the score is like for like, and goes back as far as the history does: an old
// subscription gained 2 percentage points 9 days ago, and a new one has 30 %.
func TestPanels_Change(t *testing.T) {
	t.Parallel()
	var input []string
	for id, ratio := range map[string]string{"old": "0.5x863 0.52x2700", "new": "_x3168 0.3x400"} {
		score := fmt.Sprintf(`{subscription_id="%s", environment="Azure", initiative="ascScore"}`, id)
		input = append(input,
			"subscription:azure_secure_score:ratio"+score+" "+ratio,
			"subscription:azure_secure_score_weight:max"+score+" 10x3600",
			`azure_secure_score_subscription_info{subscription_id="`+id+`", job="any"} 1x3600`,
		)
	}
	week, month := `{since="pp in 7 days"} 0`, `{since="pp in 10 days"} 2`
	testPanels(t, input, "12d", map[string]string{
		"overview.json/Change, week":      week,
		"overview.json/Change, month":     month,
		"subscription.json/Change, week":  week,
		"subscription.json/Change, month": month,
	})
}

// Without the rules, the dashboards show the score and what the exporter reports, and say that the
// rules are missing: -1 is the text No rules, and 0 is Missing.
func TestPanels_NoRules(t *testing.T) {
	t.Parallel()
	const target = `job="any", instance="a:10060"`
	score := `{subscription_id="old", environment="Azure", initiative="ascScore", ` + target + "}"
	subscription := `{subscription_id="old", ` + target + "}"
	testPanels(t, []string{
		"up{" + target + "} 1x20",
		"azure_secure_score_up{" + target + "} 1x20",
		`azure_secure_score_exporter_build_info{version="1.0.0", ` + target + "} 1x20",
		`azure_secure_score_subscription_info{subscription_id="old", subscription_name="Old", ` + target + "} 1x20",
		"azure_secure_score_subscription_scrape_success" + subscription + " 1x20",
		"azure_secure_score_subscription_last_success_timestamp_seconds" + subscription + " 0+300x20",
		"azure_secure_score_ratio" + score + " 0.6x20",
		"azure_secure_score_weight" + score + " 10x20",
	}, "1h", map[string]string{
		"overview.json/Secure score":     "{} 0.6",
		"overview.json/Failing":          "{} 0",
		"overview.json/Alerts":           "{} -1",
		"subscription.json/Secure score": "{} 0.6",
		"subscription.json/Age":          "{} 0",
		"exporter.json/Exporters":        "{} 1",
		"exporter.json/Azure":            "{} 1",
		"exporter.json/Subscriptions":    "{} 1",
		"exporter.json/Oldest values":    "{} 0",
		"exporter.json/Rules":            "{} 0",
		"exporter.json/Version":          `{version="1.0.0"} 1`,
	})
}

// Grafana draws an annotation where its query has a value above 0: when a score falls or a maximum
// changes, and when a version is new, in the interval up to the time of the query.
func TestPanels_Annotations(t *testing.T) {
	t.Parallel()
	const target = `job="any", instance="a:10060"`
	const labels = `{subscription_id="old", environment="Azure", initiative="ascScore"}`
	input := []string{
		`initiative:azure_secure_score:ratio{initiative="ascScore"} 0.6x11 0.55x20`,
		"subscription:azure_secure_score:ratio" + labels + " 0.6x11 0.55x20",
		"subscription:azure_secure_score_max:max" + labels + " 50x11 40x20",
		`azure_secure_score_exporter_build_info{version="1.0.0", ` + target + "} 1x11",
		`azure_secure_score_exporter_build_info{version="1.1.0", ` + target + "} _x12 1x20",
	}
	changed := map[string]string{
		"overview.json/Drops of the estate":   `{initiative="ascScore"} 5`,
		"overview.json/Exporter versions":     `{version="1.1.0"} 1`,
		"subscription.json/Drops":             labels + " 5",
		"subscription.json/Maximum changed":   labels + " 10",
		"subscription.json/Exporter versions": `{version="1.1.0"} 1`,
		"exporter.json/Exporter versions":     `{version="1.1.0"} 1`,
	}
	testPanels(t, input, "65m", changed)
	for where := range changed {
		changed[where] = ""
	}
	testPanels(t, input, "55m", changed)
	testPanels(t, input, "1h50m", changed)
}

// testPanels evaluates annotations and the first query of panels on series that have a sample every
// 5 minutes. The keys of want are the file and the title, the values a series, or "".
func testPanels(t *testing.T, input []string, at string, want map[string]string) {
	t.Helper()
	var text strings.Builder
	text.WriteString("tests:\n- interval: 5m\n  input_series:\n")
	for _, s := range input {
		series, values, _ := strings.Cut(s, "} ")
		fmt.Fprintf(&text, "  - {series: '%s}', values: '%s'}\n", series, values)
	}
	text.WriteString("  promql_expr_test:\n")
	for where, sample := range want {
		expr, err := json.Marshal("round(" + variables(exprOf(t, where), "old") + ", 0.001)")
		if err != nil {
			t.Fatal(err)
		}
		if labels, value, ok := strings.Cut(sample, "} "); ok {
			sample = fmt.Sprintf("{labels: '%s}', value: %s}", labels, value)
		}
		fmt.Fprintf(&text, "  - {expr: %s, eval_time: %s, exp_samples: [%s]}\n", expr, at, sample)
	}
	file := filepath.Join(t.TempDir(), "test.yaml")
	writeFile(t, file, text.String())
	if out, err := exec.Command("promtool", "test", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// exprOf returns the first query of a panel, or that of an annotation.
func exprOf(t *testing.T, where string) string {
	t.Helper()
	file, title, _ := strings.Cut(where, "/")
	d := dashboards(t)[file]
	for _, p := range d.Panels {
		if p.Title == title {
			return p.Targets[0].Expr
		}
	}
	for _, a := range d.Annotations.List {
		if a.Name == title {
			return a.Expr
		}
	}
	t.Fatalf("%s: there is neither a panel nor an annotation %s", file, title)
	return ""
}
