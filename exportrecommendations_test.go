package main

import (
	"encoding/csv"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// Both formats have a row for each subscription and recommendation. The subscription that cannot be
// read is reported.
func TestExportRecommendations(t *testing.T) {
	t.Parallel()
	server := startAzure(t, simulator.Demo())
	env := secretEnv(t, server)
	dir := t.TempDir()
	rows := map[string]int{}
	for _, name := range []string{"r.json", "r.CSV"} {
		path := filepath.Join(dir, name)
		code, _, stderr := runToEnd(t, env, append(server.Flags(), "export", "recommendations", "-o", path)...)
		if code != 1 || strings.Count(stderr, "error: ") != 1 || !strings.Contains(stderr, simulator.DemoForbiddenID) {
			t.Errorf("%s: exit code %d, standard error %q", name, code, stderr)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if name == "r.json" {
			var file struct{ Value []struct{ Severity string } }
			if err := json.Unmarshal(text, &file); err != nil || !strings.Contains("critical high medium low", file.Value[0].Severity) {
				t.Fatalf("%v: %.200s", err, text)
			}
			if strings.Contains(string(text), "null") { // also a recommendation without a control has a list
				t.Errorf("%.500s", text)
			}
			rows[name] = len(file.Value)
			continue
		}
		records, err := csv.NewReader(strings.NewReader(string(text))).ReadAll()
		if err != nil || len(records) < 2 || records[0][0] != "subscription_id" {
			t.Fatalf("%v: %.200s", err, text)
		}
		rows[name] = len(records) - 1
	}
	if rows["r.json"] < 100 || rows["r.json"] != rows["r.CSV"] {
		t.Errorf("rows: %v", rows)
	}
}

// No cell starts a formula.
func TestRecommendationsCSV_Formulas(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"=1+1", "+1", "-1", "@SUM(A1)", "\tx", `=HYPERLINK("https://evil.example","x")`} {
		text, err := recommendationsCSV([]azure.RecommendationRow{{SubscriptionID: "s", Recommendation: name, Category: name, Connector: name}})
		if err != nil {
			t.Fatal(err)
		}
		records, err := csv.NewReader(strings.NewReader(string(text))).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		for _, cell := range records[1] {
			if cell != "" && strings.ContainsAny(cell[:1], "=+-@\t\r") {
				t.Errorf("cell %q starts a formula", cell)
			}
		}
	}
}
