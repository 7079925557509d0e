package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// The generated files belong to the rules as they are.
func TestGeneratedFiles(t *testing.T) {
	groups, err := readGroups(rulesDir)
	if err != nil {
		t.Fatal(err)
	}
	template, err := renderTemplate(groups)
	if err != nil {
		t.Fatal(err)
	}
	doc := readFile(t, docFile)
	updated, err := updateDoc(doc, groups)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(template, readFile(t, templateFile)) || !bytes.Equal(updated, doc) {
		t.Error("run: go generate ./deploy/azure")
	}
}

// A rule in the template is the rule in the file, with the same expression, labels and annotations.
func TestTemplate_EqualsRules(t *testing.T) {
	groups, err := readGroups(rulesDir)
	if err != nil {
		t.Fatal(err)
	}
	var want []rule
	for _, g := range groups {
		want = append(want, g.Rules...)
	}
	var got []azureRule
	for _, g := range readTemplate(t).Resources {
		got = append(got, g.Properties.Rules...)
	}
	if len(got) != len(want) {
		t.Fatalf("the template has %d rules, the files %d", len(got), len(want))
	}
	for i, w := range want {
		g := got[i]
		if g.Record != w.Record || g.Alert != w.Alert || g.Expression != strings.TrimSpace(w.Expr) {
			t.Errorf("rule %d is %s%s with\n%s\nwant %s%s with\n%s", i, g.Record, g.Alert, g.Expression, w.Record, w.Alert, w.Expr)
		}
		for name, text := range w.Labels {
			if g.Labels[name] != text {
				t.Errorf("%s%s: label %s is %q, want %q", w.Record, w.Alert, name, g.Labels[name], text)
			}
		}
		for name, text := range annotations(w) {
			if g.Annotations[name] != text {
				t.Errorf("%s: annotation %s is %q, want %q", w.Alert, name, g.Annotations[name], text)
			}
		}
	}
}

// Documented limits:
//   - 20 rules in a group, 500 groups in a workspace: "Azure Monitor service limits", section
//     "Alert and recording rules";
//   - interval and timeToResolve from 1 to 15 minutes, durations in ISO 8601, the pattern of names:
//     REST reference "Prometheus Rule Groups - Create Or Update", api-version 2023-03-01. (The page
//     on service limits has intervals of up to 24 hours.);
//   - severity from 0 to 4, 10 labels, names of labels and annotations, 1,024 characters in their
//     values: JSON schema of Microsoft's az-prom-rules-converter, which is in the repository
//     Azure/prometheus-collector.
func TestTemplate_Limits(t *testing.T) {
	name := regexp.MustCompile(`^[^:@/#{}%&+*<>?]+$`)
	labelName := regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)
	texts := func(owner string, values map[string]string) {
		for label, text := range values {
			if !labelName.MatchString(label) || strings.HasPrefix(label, "__") || len(label) > 1024 {
				t.Errorf("%s: invalid name %q", owner, label)
			}
			if n := len([]rune(text)); n > 1024 {
				t.Errorf("%s: %s has %d characters", owner, label, n)
			}
		}
	}
	groups := readTemplate(t).Resources
	if len(groups) == 0 || len(groups) > 500 {
		t.Errorf("%d groups", len(groups))
	}
	names := map[string]bool{}
	for _, g := range groups {
		if !name.MatchString(g.Name) || len(g.Name) > 260 || names[g.Name] {
			t.Errorf("the group's name %q is invalid or used twice", g.Name)
		}
		names[g.Name] = true
		if n := len(g.Properties.Rules); n < 1 || n > 20 {
			t.Errorf("%s has %d rules", g.Name, n)
		}
		if d := parseISO8601(t, g.Properties.Interval); d < time.Minute || d > 15*time.Minute {
			t.Errorf("%s: interval %s", g.Name, g.Properties.Interval)
		}
		for _, r := range g.Properties.Rules {
			owner := r.Record + r.Alert
			if (r.Record == "") == (r.Alert == "") || r.Expression == "" {
				t.Errorf("%s: %+v is neither a recording nor an alerting rule", g.Name, r)
			}
			if len(r.Labels) > 10 {
				t.Errorf("%s has %d labels", owner, len(r.Labels))
			}
			texts(owner, r.Labels)
			texts(owner, r.Annotations)
			if r.For != "" {
				parseISO8601(t, r.For)
			}
			if r.Alert == "" {
				continue
			}
			if r.Severity == nil || *r.Severity < 0 || *r.Severity > 4 {
				t.Errorf("%s: severity %v", owner, r.Severity)
			}
			if resolve := r.ResolveConfiguration; resolve != nil {
				if d := parseISO8601(t, resolve.TimeToResolve); d < time.Minute || d > 15*time.Minute {
					t.Errorf("%s: timeToResolve %s", owner, resolve.TimeToResolve)
				}
			}
		}
	}
}

func TestRenderTemplate(t *testing.T) {
	many := group{Name: "many", Interval: duration(time.Hour)}
	for range 21 {
		many.Rules = append(many.Rules, rule{Record: "a:b:c", Expr: "up\n"})
	}
	alert := rule{
		Alert: "A", Expr: "up == 0", For: duration(90 * time.Second), KeepFiringFor: duration(9 * time.Hour),
		Labels: map[string]string{"severity": "warning"}, Annotations: map[string]string{"summary": "[text]", "description": "[text] and more"},
	}
	text, err := renderTemplate([]group{many, {Name: "alerts", Rules: []rule{alert}}})
	if err != nil {
		t.Fatal(err)
	}
	got := decodeTemplate(t, text).Resources
	if len(got) != 3 || got[0].Name != "many" || got[1].Name != "many-2" || len(got[1].Properties.Rules) != 1 {
		t.Fatalf("a group of 21 rules became %+v", got[:len(got)-1])
	}
	if interval := got[0].Properties.Interval; interval != "PT15M" {
		t.Errorf("an interval of an hour became %s", interval)
	}
	if interval := got[2].Properties.Interval; interval != "PT1M" {
		t.Errorf("a group without an interval has %s", interval)
	}
	a := got[2].Properties.Rules[0]
	if a.For != "PT1M30S" || a.ResolveConfiguration.TimeToResolve != "PT15M" || *a.Severity != 2 {
		t.Errorf("the alert became %+v", a)
	}
	if a.Actions != "[variables('actions')]" {
		t.Errorf("the alert has the actions %q", a.Actions)
	}
	// ARM evaluates a text in brackets, unless it starts with two.
	if a.Annotations["summary"] != "[[text]" || a.Annotations["description"] != "[text] and more" {
		t.Errorf("the annotations became %q", a.Annotations)
	}
}

func TestRenderTemplate_LongDescription(t *testing.T) {
	long := rule{Alert: "A", Expr: "up", Labels: map[string]string{"severity": "warning"}}
	long.Annotations = map[string]string{"summary": "short", "description": strings.Repeat("ü", 1025)}
	exact := rule{Alert: "B", Expr: "up", Labels: long.Labels}
	exact.Annotations = map[string]string{"summary": "short", "description": strings.Repeat("ü", 1024)}
	text, err := renderTemplate([]group{{Name: "g", Rules: []rule{long, exact}}})
	if err != nil {
		t.Fatal(err)
	}
	rules := decodeTemplate(t, text).Resources[0].Properties.Rules
	if got := rules[0].Annotations["description"]; got != "short" {
		t.Errorf("a description of 1,025 characters became %q", got)
	}
	if got := rules[1].Annotations["description"]; got != exact.Annotations["description"] {
		t.Errorf("a description of 1,024 characters became %q", got)
	}
}

// Only alerts that need a response notify the action group.
func TestRenderTemplate_InfoHasNoActions(t *testing.T) {
	text, err := renderTemplate([]group{{Name: "g", Rules: []rule{{Alert: "A", Expr: "up", Labels: map[string]string{"severity": "info"}}}}})
	if err != nil {
		t.Fatal(err)
	}
	if a := decodeTemplate(t, text).Resources[0].Properties.Rules[0]; a.Actions != "" || *a.Severity != 3 {
		t.Errorf("the alert became %+v", a)
	}
}

func TestRenderTemplate_UnknownSeverity(t *testing.T) {
	_, err := renderTemplate([]group{{Name: "g", Rules: []rule{{Alert: "A", Expr: "up", Labels: map[string]string{"severity": "page"}}}}})
	if err == nil || !strings.Contains(err.Error(), `group g: A: unknown severity "page"`) {
		t.Errorf("got %v", err)
	}
}

// A field of Prometheus that Azure lacks is an error: dropping it would change what a rule does.
func TestReadGroups_UnknownField(t *testing.T) {
	dir := t.TempDir()
	const file = "groups: [{name: g, query_offset: 1m, rules: [{record: 'a:b:c', expr: up}]}]\n"
	if err := os.WriteFile(filepath.Join(dir, "rules.yaml"), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readGroups(dir); err == nil || !strings.Contains(err.Error(), "query_offset") {
		t.Errorf("got %v", err)
	}
}

func TestISO8601(t *testing.T) {
	for d, want := range map[time.Duration]string{
		30 * time.Second: "PT30S", time.Minute: "PT1M", 90 * time.Second: "PT1M30S", time.Hour: "PT1H",
		10 * time.Minute: "PT10M", 20 * time.Hour: "PT20H", 24 * time.Hour: "PT24H", time.Hour + time.Second: "PT1H0M1S",
	} {
		if got := iso8601(d); got != want || parseISO8601(t, got) != d {
			t.Errorf("%s became %s, want %s", d, got, want)
		}
	}
}

func parseISO8601(t *testing.T, text string) time.Duration {
	t.Helper()
	if !regexp.MustCompile(`^PT(\d+H)?(\d+M)?(\d+S)?$`).MatchString(text) || text == "PT" {
		t.Errorf("%q is not a duration in ISO 8601", text)
		return 0
	}
	d, err := time.ParseDuration(strings.ToLower(strings.TrimPrefix(text, "PT")))
	if err != nil {
		t.Error(err)
	}
	return d
}

func readTemplate(t *testing.T) template {
	t.Helper()
	return decodeTemplate(t, readFile(t, templateFile))
}

func decodeTemplate(t *testing.T, text []byte) template {
	t.Helper()
	var decoded template
	if err := json.Unmarshal(text, &decoded); err != nil {
		t.Fatal(err)
	}
	return decoded
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}
