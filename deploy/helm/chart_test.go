// Package helm contains no code, only tests of the chart. The tests in render_test.go need the helm
// binary and the build tag of the same name.
package helm

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v2"
)

const chart = "azure-secure-score-exporter"

// Rules and dashboards exist once. The chart links to them, and helm follows the link.
func TestDashboardsLink(t *testing.T) {
	link := filepath.Join(chart, "dashboards")
	target, err := os.Readlink(link)
	if err != nil && runtime.GOOS == "windows" {
		// Git for Windows checks a link out as a file that contains the target.
		var content []byte
		content, err = os.ReadFile(link)
		target = string(content)
	}
	if err != nil {
		t.Fatal(err)
	}
	if want := "../../../dashboards"; filepath.ToSlash(target) != want {
		t.Errorf("%s links to %s, want %s", link, target, want)
	}
}

// The README lists every value with its default, and no other. A map may be listed as a whole or
// key by key: the comments in values.yaml decide.
func TestReadmeListsValues(t *testing.T) {
	values := map[string]any{} // by path, maps included
	flatten("", values, readYAML(t, "values.yaml"))
	defaults := map[string]string{} // by path
	for line := range strings.Lines(read(t, "README.md")) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if len(cells) != 4 || !strings.HasPrefix(cells[2], "`") {
			continue
		}
		if strings.TrimSpace(cells[3]) == "" {
			t.Errorf("README.md has no description of %s", cells[0])
		}
		defaults[strings.TrimSpace(cells[0])] = strings.Trim(cells[2], "`")
	}
	for path, value := range values {
		if isLeaf(value) && !slices.ContainsFunc(prefixes(path), func(p string) bool { _, ok := defaults[p]; return ok }) {
			t.Errorf("README.md does not list %s: run make chart-docs", path)
		}
	}
	for path, got := range defaults {
		value, ok := values[path]
		if !ok {
			t.Errorf("README.md lists %s, which is not in values.yaml: run make chart-docs", path)
			continue
		}
		want, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("README.md has the default %s for %s, want %s: run make chart-docs", got, path, want)
		}
	}
}

// The schema has every value and no other. Helm itself adds "global".
func TestSchemaHasValues(t *testing.T) {
	type schema struct {
		AdditionalProperties any               `json:"additionalProperties"`
		Properties           map[string]schema `json:"properties"`
	}
	var root schema
	if err := json.Unmarshal([]byte(read(t, "values.schema.json")), &root); err != nil {
		t.Fatal(err)
	}
	var compare func(path string, values map[string]any, s schema)
	compare = func(path string, values map[string]any, s schema) {
		if s.AdditionalProperties != false {
			t.Errorf("the schema accepts unknown values in %q", path)
		}
		for key, value := range values {
			child, ok := s.Properties[key]
			if !ok {
				t.Errorf("the schema does not have %s%s", path, key)
			}
			if inner, isMap := value.(map[string]any); isMap && child.Properties != nil && path+key != "resources" {
				compare(path+key+".", inner, child)
			}
		}
		for key := range s.Properties {
			if _, ok := values[key]; !ok && path+key != "global" {
				t.Errorf("the schema has %s%s, which is not in values.yaml", path, key)
			}
		}
	}
	compare("", readYAML(t, "values.yaml"), root)
}

// Every value is set by at least one of the sets in ci, so that a golden file shows what it
// renders.
func TestEveryValueIsRendered(t *testing.T) {
	set := map[string]any{}
	files, err := filepath.Glob(filepath.Join(chart, "ci", "*-values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		flatten("", set, readYAML(t, filepath.Join("ci", filepath.Base(file))))
	}
	// A part of the map is as good as the whole of these.
	parts := []string{"dashboards.labels", "nodeSelector", "podSecurityContext", "resources", "securityContext"}
	values := map[string]any{}
	flatten("", values, readYAML(t, "values.yaml"))
	for path, value := range values {
		isPart := slices.ContainsFunc(parts, func(p string) bool { return strings.HasPrefix(path, p+".") })
		if _, ok := set[path]; !ok && isLeaf(value) && !isPart {
			t.Errorf("no values file in ci sets %s", path)
		}
	}
	for _, path := range parts {
		if _, ok := set[path]; !ok {
			t.Errorf("no values file in ci sets %s", path)
		}
	}
}

// flatten adds value and everything in it to values, by path.
func flatten(path string, values map[string]any, value any) {
	if path != "" {
		values[path] = value
	}
	inner, _ := value.(map[string]any)
	for key, v := range inner {
		flatten(strings.TrimPrefix(path+"."+key, "."), values, v)
	}
}

// isLeaf reports whether a value is anything but a map with keys.
func isLeaf(value any) bool {
	inner, isMap := value.(map[string]any)
	return !isMap || len(inner) == 0
}

// prefixes returns a.b.c, a.b and a for a.b.c.
func prefixes(path string) []string {
	all := []string{path}
	for i := strings.LastIndex(path, "."); i >= 0; i = strings.LastIndex(path, ".") {
		path = path[:i]
		all = append(all, path)
	}
	return all
}

func read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(chart, name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(content), "\r\n", "\n")
}

func readYAML(t *testing.T, name string) map[string]any {
	t.Helper()
	value := parseYAML(t, read(t, name))
	m, ok := value.(map[string]any)
	if !ok {
		t.Fatalf("%s is not a mapping", name)
	}
	return m
}

func parseYAML(t *testing.T, text string) any {
	t.Helper()
	var value any
	if err := yaml.Unmarshal([]byte(text), &value); err != nil {
		t.Fatal(err)
	}
	return stringKeys(value)
}

// stringKeys converts the maps that yaml returns into those of encoding/json.
func stringKeys(value any) any {
	switch value := value.(type) {
	case map[any]any:
		m := map[string]any{}
		for k, v := range value {
			m[k.(string)] = stringKeys(v)
		}
		return m
	case []any:
		s := make([]any, len(value))
		for i, v := range value {
			s[i] = stringKeys(v)
		}
		return s
	}
	return value
}
