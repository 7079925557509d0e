package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kingpin/v2"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
)

// The tables in the documents say what the program does, all of it and nothing else.

func TestMetricsTable(t *testing.T) {
	t.Parallel()
	documented := map[string][]string{} // type and labels by name
	for _, row := range table(t, "docs/metrics.md", "Metric", "Type", "Labels") {
		labels := strings.FieldsFunc(row[2], func(r rune) bool { return strings.ContainsRune("`, ", r) })
		slices.Sort(labels)
		documented[code(row[0])] = append([]string{row[1]}, labels...)
	}

	// What the program shows: all it has, since the demo has every kind of outcome.
	shown := map[string][]string{}
	p := start(t, nil, "--demo")
	for metric, family := range p.scrape(t) {
		if !strings.HasPrefix(metric, "azure_secure_score_") {
			continue
		}
		var labels []string
		for _, l := range family.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		slices.Sort(labels)
		shown[metric] = append([]string{strings.ToLower(family.GetType().String())}, labels...)
		if family.GetHelp() == "" {
			t.Errorf("%s has no HELP", metric)
		}
	}

	for metric, want := range shown {
		if got, ok := documented[metric]; !ok {
			t.Errorf("docs/metrics.md does not tell of %s %v", metric, want)
		} else if !slices.Equal(got, want) {
			t.Errorf("docs/metrics.md says of %s %v, the program %v", metric, got, want)
		}
	}
	for metric := range documented {
		if shown[metric] == nil {
			t.Errorf("docs/metrics.md tells of %s, which --demo does not show", metric)
		}
	}
	// What the program could show but the demo does not would slip through above.
	for _, metric := range described(t) {
		if documented[metric] == nil {
			t.Errorf("docs/metrics.md does not tell of %s, which the exporter describes", metric)
		}
	}
}

var named = regexp.MustCompile(`(?:= gauge\(|Name: )"([a-z_]+)"`)

// described returns the names of all metrics that the exporter's code defines.
func described(t *testing.T) []string {
	t.Helper()
	source, err := os.ReadFile(filepath.Join("exporter", "metrics.go"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, match := range named.FindAllStringSubmatch(string(source), -1) {
		names = append(names, "azure_secure_score_"+match[1])
	}
	if len(names) < 20 {
		t.Errorf("only %d metrics found in the code", len(names))
	}
	return names
}

func TestReadmeFlags(t *testing.T) {
	t.Parallel()
	documented := map[string][]string{}
	for _, row := range table(t, "README.md", "Flag", "Environment", "Default") {
		documented[strings.TrimPrefix(code(row[0]), "--")] = []string{code(row[1]), code(row[2])}
	}
	exists := map[string]bool{}
	for _, f := range flags(t) {
		exists[f.Name] = true
		value := strings.Join(f.Default, ",")
		if f.IsBoolFlag() && value == "" {
			value = "false"
		}
		want := []string{f.Envar, value}
		if got, ok := documented[f.Name]; !ok {
			t.Errorf("the README does not tell of --%s %q", f.Name, want)
		} else if !slices.Equal(got, want) {
			t.Errorf("the README says of --%s %q, the program %q", f.Name, got, want)
		}
	}
	for flag := range documented {
		if !exists[flag] {
			t.Errorf("the README tells of --%s, which does not exist", flag)
		}
	}
}

// The chart takes the flags that exist, but for those that it sets itself.
func TestChartFlags(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("deploy/helm/azure-secure-score-exporter/values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Properties struct {
			Flags struct {
				PropertyNames struct {
					Enum []string `json:"enum"`
				} `json:"propertyNames"`
			} `json:"flags"`
		} `json:"properties"`
	}
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, f := range flags(t) {
		if !slices.Contains([]string{"web.listen-address", "web.config.file", "web.systemd-socket"}, f.Name) {
			want = append(want, f.Name)
		}
	}
	got := schema.Properties.Flags.PropertyNames.Enum
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the chart's schema has the flags %q, the program %q", got, want)
	}
}

func TestReadmeReasons(t *testing.T) {
	t.Parallel()
	var documented, reasons []string
	for _, row := range table(t, "README.md", "Reason", "Cause", "Cure") {
		documented = append(documented, code(row[0]))
	}
	for _, r := range azure.Reasons {
		reasons = append(reasons, string(r))
	}
	if !slices.Equal(documented, reasons) {
		t.Errorf("the README has the reasons %v, the program %v", documented, reasons)
	}
}

// flags returns the flags that configure the program.
func flags(t *testing.T) []*kingpin.FlagModel {
	t.Helper()
	app := newApp(&config{})
	if _, err := app.ParseContext(nil); err != nil { // fills in the names of the environment
		t.Fatal(err)
	}
	return slices.DeleteFunc(app.Model().Flags, func(f *kingpin.FlagModel) bool {
		return f.Hidden || f.Name == "help" || f.Name == "version"
	})
}

// table returns the rows of a document's table whose columns begin so.
func table(t *testing.T, path string, columns ...string) [][]string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]string
	head := "| " + strings.Join(columns, " | ") + " |"
	inside := false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, head):
			inside = true
		case !strings.HasPrefix(line, "|"):
			inside = false
		case inside && !strings.HasPrefix(line, "|--"):
			var cells []string
			for cell := range strings.SplitSeq(strings.Trim(line, "|"), "|") {
				cells = append(cells, strings.TrimSpace(cell))
			}
			if len(cells) < len(columns) {
				t.Fatalf("%s: a row with too few cells: %s", path, line)
			}
			rows = append(rows, cells)
		}
	}
	if len(rows) == 0 {
		t.Fatalf("%s has no table %s", path, head)
	}
	return rows
}

// code takes the backquotes off; none is the empty text.
func code(cell string) string {
	if cell == "none" {
		return ""
	}
	return strings.Trim(cell, "`")
}
