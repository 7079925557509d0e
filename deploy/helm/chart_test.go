// Package helm holds no code, only the chart; these tests keep it right. Those in
// render_test.go need the program helm and the build tag of that name.
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

// Rules and dashboards exist once: the chart has a link to them, which helm follows.
func TestDashboardsAreALink(t *testing.T) {
	link := filepath.Join(chart, "dashboards")
	target, err := os.Readlink(link)
	if err != nil && runtime.GOOS == "windows" {
		// Git for Windows writes a link as a file with its target in it.
		var content []byte
		content, err = os.ReadFile(link)
		target = string(content)
	}
	if err != nil {
		t.Fatal(err)
	}
	if want := "../../../dashboards"; filepath.ToSlash(target) != want {
		t.Errorf("%s leads to %s, want %s", link, target, want)
	}
}

// Every value is in the README with its default, and the README has no other. How
// finely it tells them is up to the comments of values.yaml.
func TestReadmeTellsValues(t *testing.T) {
	values := map[string]any{} // by path, inner ones included
	flatten("", values, readYAML(t, "values.yaml"))
	rows := map[string]string{} // default by path
	readme := read(t, "README.md")
	for line := range strings.Lines(readme) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if len(cells) != 4 || !strings.HasPrefix(cells[2], "`") {
			continue
		}
		if strings.TrimSpace(cells[3]) == "" {
			t.Errorf("the README does not say what %s means", cells[0])
		}
		rows[strings.TrimSpace(cells[0])] = strings.Trim(cells[2], "`")
	}
	for path, value := range values {
		if _, isMap := value.(map[string]any); !isMap || len(value.(map[string]any)) == 0 {
			if !slices.ContainsFunc(prefixes(path), func(p string) bool { _, ok := rows[p]; return ok }) {
				t.Errorf("the README does not tell of %s: run make chart-docs", path)
			}
		}
	}
	for path, told := range rows {
		value, ok := values[path]
		if !ok {
			t.Errorf("the README tells of %s, which values.yaml does not have: run make chart-docs", path)
			continue
		}
		want, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		if told != string(want) {
			t.Errorf("the README says of %s %s, values.yaml %s: run make chart-docs", path, told, want)
		}
	}
}

// The schema knows every value, and no value that is not there: helm adds "global".
func TestSchemaKnowsValues(t *testing.T) {
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
			t.Errorf("the schema lets anything pass in %q", path)
		}
		for key, value := range values {
			child, ok := s.Properties[key]
			if !ok {
				t.Errorf("the schema does not know %s%s", path, key)
			}
			if inner, isMap := value.(map[string]any); isMap && child.Properties != nil && path+key != "resources" {
				compare(path+key+".", inner, child)
			}
		}
		for key := range s.Properties {
			if _, ok := values[key]; !ok && path+key != "global" {
				t.Errorf("the schema knows %s%s, which values.yaml does not have", path, key)
			}
		}
	}
	compare("", readYAML(t, "values.yaml"), root)
}

// flatten puts value and what is in it into values, by path.
func flatten(path string, values map[string]any, value any) {
	if path != "" {
		values[path] = value
	}
	inner, _ := value.(map[string]any)
	for key, v := range inner {
		flatten(strings.TrimPrefix(path+"."+key, "."), values, v)
	}
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
		t.Fatalf("%s is no mapping", name)
	}
	return m
}

func parseYAML(t *testing.T, text string) any {
	t.Helper()
	var value any
	if err := yaml.Unmarshal([]byte(text), &value); err != nil {
		t.Fatal(err)
	}
	return plain(value)
}

// plain makes of yaml's maps such as encoding/json knows.
func plain(value any) any {
	switch value := value.(type) {
	case map[any]any:
		m := map[string]any{}
		for k, v := range value {
			m[k.(string)] = plain(v)
		}
		return m
	case []any:
		s := make([]any, len(value))
		for i, v := range value {
			s[i] = plain(v)
		}
		return s
	}
	return value
}
