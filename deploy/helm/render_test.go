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
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The version of Kubernetes that is rendered for: helm built from source would take
// one of 2020.
const kubeVersion = "--kube-version=1.34.0"

// Every set of values renders what its golden file says. The rules and dashboards in
// it are compared with their sources by TestRulesAndDashboards instead.
func TestGolden(t *testing.T) {
	sets, err := filepath.Glob(filepath.Join(chart, "ci", "*-values.yaml"))
	if err != nil || len(sets) < 5 {
		t.Fatalf("only %d sets of values: %v", len(sets), err)
	}
	for _, set := range sets {
		t.Run(strings.TrimSuffix(filepath.Base(set), "-values.yaml"), func(t *testing.T) {
			t.Parallel()
			if out, err := exec.Command("helm", "lint", "--strict", kubeVersion, "--values", set, chart).CombinedOutput(); err != nil {
				t.Errorf("helm lint: %v\n%s", err, out)
			}
			var got strings.Builder
			for source, text := range documents(t, "--values", set) {
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
				t.Errorf("%s does not hold what is rendered. If it should, run: go test -tags helm ./deploy/helm -update\n%s", golden, got.String())
			}
		})
	}
}

// The very rules and dashboards of the repository get into the cluster.
func TestRulesAndDashboards(t *testing.T) {
	rendered := map[string]any{} // groups of rules, or the text of a dashboard, by file
	for source, text := range documents(t, "--set", "prometheusRule.enabled=true", "--set", "dashboards.enabled=true") {
		object := parseYAML(t, text).(map[string]any)
		name := strings.TrimPrefix(object["metadata"].(map[string]any)["name"].(string), "test-azure-secure-score-exporter-")
		switch filepath.Base(source) {
		case "prometheusrule.yaml":
			rendered["rules/"+name+".yaml"] = object["spec"]
		case "dashboards.yaml":
			rendered[name+".json"] = object["data"].(map[string]any)["azure-secure-score-"+name+".json"]
		}
	}
	var files []string
	for _, file := range shipped(t) {
		content := read(t, filepath.Join("dashboards", file))
		var want any = content
		if filepath.Ext(file) == ".yaml" {
			want = parseYAML(t, content)
		}
		if !reflect.DeepEqual(rendered[file], want) {
			t.Errorf("the chart renders %s as %v", file, rendered[file])
		}
		files = append(files, file)
	}
	for file := range rendered {
		if !slices.Contains(files, file) {
			t.Errorf("the chart renders %s, which is not there", file)
		}
	}
}

// The package has the rules and dashboards byte for byte, although the chart has but a
// link, and nothing else of their directory.
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
			t.Errorf("the package holds %s", header.Name)
		}
	}
	files := shipped(t)
	if names := slices.Sorted(maps.Keys(packed)); !slices.Equal(names, files) {
		t.Errorf("the package holds %v, the repository %v", names, files)
	}
	for _, name := range files {
		if want := read(t, filepath.Join("dashboards", name)); !bytes.Equal(packed[name], []byte(want)) {
			t.Errorf("the package holds another %s", name)
		}
	}
}

// Values that cannot work are refused before anything reaches the cluster.
func TestRefused(t *testing.T) {
	for _, values := range [][]string{
		{"replicaCount=2"},
		{"image.digest=latest"},
		{"credential.kind=password"},
		{"credential.clientId=somebody"},
		{"credential.kind=clientSecret"},
		{"credential.kind=clientSecret", "credential.clientId=8b1d5e37-2c4f-4a90-b6e8-d07f93a5c214", "credential.tenantId=contoso.com"},
		{"credential.kind=clientSecret", "credential.clientId=8b1d5e37-2c4f-4a90-b6e8-d07f93a5c214", "credential.tenantId=contoso.com", "credential.existingSecret=a", "credential.clientSecret=b"},
		{"credential.clientSecret=forgotten"},
		{"flags.web\\.listen-address=:80"},
		{"flags.--demo=true"},
		{"webConfig.tls=true"},
		{"serviceMonitor.apiVersion=v1"},
		{"serviceMonitor.interval=often"},
		{"env[0].nme=A"},
		{`commonLabels.app\.kubernetes\.io/name=twice`},
		{`podLabels.azure\.workload\.identity/use=never`},
		{"service.port=0"},
	} {
		args := []string{"template", "test", chart, kubeVersion}
		for _, value := range values {
			args = append(args, "--set", value)
		}
		if out, err := exec.Command("helm", args...).CombinedOutput(); err == nil || !strings.Contains(string(out), "values don't meet the specifications of the schema") {
			t.Errorf("%v is not refused by the schema: %v", values, err)
		}
	}
}

// A map of labels that a user's values take away is as good as an empty one.
func TestNoLabels(t *testing.T) {
	args := []string{"--set", "commonLabels=null,podLabels=null"}
	for _, object := range []string{"serviceMonitor", "prometheusRule", "dashboards"} {
		args = append(args, "--set", object+".enabled=true,"+object+".labels=null")
	}
	kinds := 0
	for range documents(t, args...) {
		kinds++
	}
	if kinds < 6 {
		t.Errorf("%d objects were rendered", kinds)
	}
}

// documents yields the objects that the chart renders, each with the template that it
// comes from.
func documents(t *testing.T, args ...string) func(func(source, text string) bool) {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command("helm", append([]string{"template", "test", chart, kubeVersion, "--namespace", "monitoring"}, args...)...)
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

// shipped returns the rules and dashboards of the repository, sorted.
func shipped(t *testing.T) []string {
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
