//go:build helm

package helm

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"flag"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "update the golden files")

// Helm built from source assumes a Kubernetes version of 2020.
const kubeVersion = "--kube-version=1.34.0"

// Golden files leave out rules and dashboards, which TestRulesAndDashboards compares.
func TestGolden(t *testing.T) {
	sets, err := filepath.Glob(filepath.Join(chart, "ci", "*-values.yaml"))
	if err != nil || len(sets) < 5 {
		t.Fatalf("found %d values files in ci: %v", len(sets), err)
	}
	for _, set := range sets {
		t.Run(strings.TrimSuffix(filepath.Base(set), "-values.yaml"), func(t *testing.T) {
			t.Parallel()
			if out, err := exec.Command("helm", "lint", "--strict", kubeVersion, "--values", set, chart).CombinedOutput(); err != nil {
				t.Errorf("helm lint: %v\n%s", err, out)
			}
			var got strings.Builder
			for source, text := range render(t, "--values", set) {
				if !strings.HasSuffix(source, "/prometheusrule.yaml") && !strings.HasSuffix(source, "/dashboards.yaml") {
					got.WriteString(text)
				}
			}
			golden := strings.TrimSuffix(set, "-values.yaml") + ".golden.yaml"
			if *update {
				if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got.String() != string(want) {
				t.Errorf("%s differs. To update it: go test -tags helm ./deploy/helm -update\n%s", golden, got.String())
			}
		})
	}
}

// The chart renders the rules and dashboards of the repository unchanged.
func TestRulesAndDashboards(t *testing.T) {
	rendered := map[string]any{} // rule groups or dashboard, by file
	for source, text := range render(t, "--set", "prometheusRule.enabled=true", "--set", "dashboards.enabled=true") {
		object := parseYAML(t, text).(map[string]any)
		name := strings.TrimPrefix(object["metadata"].(map[string]any)["name"].(string), "test-azure-secure-score-exporter-")
		switch filepath.Base(source) {
		case "prometheusrule.yaml":
			rendered["rules/"+name+".yaml"] = object["spec"]
		case "dashboards.yaml":
			rendered[name+".json"] = object["data"].(map[string]any)["azure-secure-score-"+name+".json"]
		}
	}
	files := packagedFiles(t)
	for _, file := range files {
		content := read(t, filepath.Join("dashboards", file))
		var want any = content
		if filepath.Ext(file) == ".yaml" {
			want = parseYAML(t, content)
		}
		if !reflect.DeepEqual(rendered[file], want) {
			t.Errorf("the chart renders %s as %v", file, rendered[file])
		}
	}
	for file := range rendered {
		if !slices.Contains(files, file) {
			t.Errorf("the chart renders %s, which does not exist", file)
		}
	}
}

func TestAlertOptions(t *testing.T) {
	const disabled = "AzureSecureScoreBelowTarget"
	alerts := func(args ...string) map[string]any { // labels by name
		all := map[string]any{}
		for source, text := range render(t, append([]string{"--set", "prometheusRule.enabled=true"}, args...)...) {
			if filepath.Base(source) != "prometheusrule.yaml" {
				continue
			}
			spec := parseYAML(t, text).(map[string]any)["spec"].(map[string]any)
			for _, group := range spec["groups"].([]any) {
				for _, rule := range group.(map[string]any)["rules"].([]any) {
					rule := rule.(map[string]any)
					if name, ok := rule["alert"].(string); ok {
						all[name] = rule["labels"]
					} else if rule["labels"] != nil {
						t.Errorf("recording rule %v has labels", rule["record"])
					}
				}
			}
		}
		return all
	}
	want := alerts()
	if _, ok := want[disabled]; !ok {
		t.Fatalf("%s does not exist", disabled)
	}
	delete(want, disabled)
	for _, labels := range want {
		labels.(map[string]any)["team"] = "security"
	}
	if got := alerts("--set", "prometheusRule.disabledAlerts={"+disabled+"},prometheusRule.alertLabels.team=security"); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// The package contains rules and dashboards byte for byte, and nothing else of their directory.
func TestPackage(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("helm", "package", "--version", "1.2.3", "--app-version", "1.2.3", "--destination", dir, chart).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	packed := map[string][]byte{}
	file, err := os.Open(filepath.Join(dir, chart+"-1.2.3.tgz"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	for archive := tar.NewReader(unzipped); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if name, ok := strings.CutPrefix(header.Name, chart+"/dashboards/"); ok {
			if packed[name], err = io.ReadAll(archive); err != nil {
				t.Fatal(err)
			}
		}
		if strings.Contains(header.Name, "/ci/") {
			t.Errorf("the package contains %s", header.Name)
		}
	}
	files := packagedFiles(t)
	if names := slices.Sorted(maps.Keys(packed)); !slices.Equal(names, files) {
		t.Errorf("the package contains %v, want %v", names, files)
	}
	for _, name := range files {
		if want := read(t, filepath.Join("dashboards", name)); !bytes.Equal(packed[name], []byte(want)) {
			t.Errorf("%s in the package differs", name)
		}
	}
}

// Values that cannot work fail before anything reaches the cluster.
func TestRejectedValues(t *testing.T) {
	const schema = "values don't meet the specifications of the schema"
	const principal = "credential.kind=clientSecret,credential.clientId=8b1d5e37-2c4f-4a90-b6e8-d07f93a5c214,credential.tenantId=contoso.com"
	for _, test := range []struct{ values, want string }{
		{"replicaCount=2", schema},
		{"image.digest=latest", schema},
		{"credential.kind=password", schema},
		{"credential.clientId=somebody", schema},
		{"credential.kind=clientSecret", schema},
		{principal, schema},
		{principal + ",credential.existingSecret=a,credential.clientSecret=b", schema},
		{"credential.clientSecret=forgotten", schema},
		{`flags.web\.listen-address=:80`, schema},
		{"flags.--demo=true", schema},
		{"webConfig.tls=true", schema},
		{"serviceMonitor.apiVersion=v1", schema},
		{"serviceMonitor.interval=often", schema},
		{"serviceMonitor.scrapeProtocols={HTTP}", schema},
		{"env[0].nme=A", schema},
		{`commonLabels.app\.kubernetes\.io/name=twice`, schema},
		{`podLabels.azure\.workload\.identity/use=never`, schema},
		{`service.labels.app\.kubernetes\.io/instance=other`, schema},
		{"service.port=0", schema},
		{"service.nodePort=30060", schema},
		{"podDisruptionBudget.minAvailable=half", schema},
		{"serviceMonitor.enabled=true,serviceMonitor.interval=30s", "scrapeTimeout (60s) must not be longer than serviceMonitor.interval (30s)"},
		{"serviceMonitor.enabled=true,serviceMonitor.scrapeTimeout=1h1m,serviceMonitor.interval=60m", "scrapeTimeout (1h1m) must not be longer than serviceMonitor.interval (60m)"},
		{`serviceMonitor.enabled=true,flags.scrape\.timeout=0.5m`, "scrapeTimeout (60s) must not be longer than flags.scrape.timeout (0.5m)"},
		{"resources.limits.memory=128MB", `resources.limits.memory: "128MB" is not a quantity`},
		{"prometheusRule.enabled=true,prometheusRule.disabledAlerts={AzureSecureScoreLow}", "there is no alert AzureSecureScoreLow"},
	} {
		out, err := exec.Command("helm", "template", "test", chart, kubeVersion, "--set", test.values).CombinedOutput()
		if err == nil || !strings.Contains(string(out), test.want) {
			t.Errorf("%s: got %v, want %q\n%s", test.values, err, test.want, out)
		}
	}
}

// The exporter responds by its own timeout, so a longer one of Prometheus must raise it.
func TestScrapeTimeout(t *testing.T) {
	for values, want := range map[string]string{
		"serviceMonitor.enabled=false,serviceMonitor.scrapeTimeout=90s":                               "",
		"serviceMonitor.enabled=true":                                                                 "",
		"serviceMonitor.enabled=true,serviceMonitor.scrapeTimeout=1m":                                 "",
		"serviceMonitor.enabled=true,serviceMonitor.scrapeTimeout=1m1s":                               "1m1s",
		`serviceMonitor.enabled=true,serviceMonitor.scrapeTimeout=90s,flags.scrape\.timeout=100000ms`: "100000ms",
		`serviceMonitor.enabled=true,flags.scrape\.timeout=1.0m`:                                      "1.0m",
	} {
		if got := first(t, `--scrape\.timeout=([^"\n]+)`, values); got != want {
			t.Errorf("%s: got --scrape.timeout=%q, want %q", values, got, want)
		}
	}
}

func TestMemoryLimit(t *testing.T) {
	for limit, want := range map[string]string{
		"null":      "",
		"131072Ki":  "120795955",
		"128Mi":     "120795955",
		"1.5Gi":     "1449551462",
		"1Ti":       "989560464998",
		"500000k":   "450000000",
		"100M":      "90000000",
		"1G":        "900000000",
		"134217728": "120795955",
		"1e9":       "900000000",
	} {
		if got := first(t, `name: GOMEMLIMIT\n +value: "(\d+)"`, "resources.limits.memory="+limit); got != want {
			t.Errorf("limit %s: got GOMEMLIMIT=%q, want %q", limit, got, want)
		}
	}
	for _, values := range []string{"resources.limits=null", "resources=null"} {
		if got := first(t, `name: (GOMEMLIMIT)`, values); got != "" {
			t.Errorf("%s: GOMEMLIMIT is set without a limit", values)
		}
	}
	if got := first(t, `(?s)name: GOMEMLIMIT\n +value: (.+?)\n.*name: metrics`, "env[0].name=GOMEMLIMIT,env[0].value=64MiB"); got != "64MiB" {
		t.Errorf("env sets GOMEMLIMIT to 64MiB, got %q", got)
	}
}

// Labels that a user sets to null are the same as empty ones.
func TestNullLabels(t *testing.T) {
	args := []string{"--set", "commonLabels=null,commonAnnotations=null,podLabels=null,service.labels=null"}
	for _, object := range []string{"serviceMonitor", "prometheusRule", "dashboards"} {
		args = append(args, "--set", object+".enabled=true,"+object+".labels=null")
	}
	args = append(args, "--set", "prometheusRule.alertLabels=null,prometheusRule.disabledAlerts=null")
	objects := 0
	for range render(t, args...) {
		objects++
	}
	if objects < 6 {
		t.Errorf("rendered %d objects", objects)
	}
}

// first returns what the group of pattern matches in the objects rendered with values, or nothing.
func first(t *testing.T, pattern, values string) string {
	t.Helper()
	var all strings.Builder
	for _, text := range render(t, "--set", values) {
		all.WriteString(text)
	}
	if match := regexp.MustCompile(pattern).FindStringSubmatch(all.String()); match != nil {
		return match[1]
	}
	return ""
}

// render yields the objects that the chart renders and the template of each.
func render(t *testing.T, args ...string) func(func(source, text string) bool) {
	t.Helper()
	return renderAs(t, "test", args...)
}

// renderAs renders a release of this name.
func renderAs(t *testing.T, release string, args ...string) func(func(source, text string) bool) {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command("helm", append([]string{"template", release, chart, kubeVersion, "--namespace", "monitoring"}, args...)...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	return func(yield func(source, text string) bool) {
		const head = "---\n# Source: "
		for _, text := range strings.Split(string(out), head)[1:] {
			if source, _, _ := strings.Cut(text, "\n"); !yield(source, head+text) {
				return
			}
		}
	}
}

// packagedFiles returns the rules and dashboards of the repository, sorted.
func packagedFiles(t *testing.T) []string {
	t.Helper()
	var files []string
	for _, pattern := range []string{"*.json", "rules/*.yaml"} {
		found, err := filepath.Glob(filepath.Join(chart, "dashboards", pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("no %s in dashboards: %v", pattern, err)
		}
		for _, file := range found {
			file, _ = filepath.Rel(filepath.Join(chart, "dashboards"), file)
			if !strings.HasSuffix(file, "_test.yaml") {
				files = append(files, filepath.ToSlash(file))
			}
		}
	}
	slices.Sort(files)
	return files
}
