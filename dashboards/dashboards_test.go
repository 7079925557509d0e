// Package dashboards contains no code, only tests of the rules, dashboards and example
// configuration. The tests of what the rules do are in rules/*_test.yaml, for promtool.
package dashboards

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestDashboards(t *testing.T) {
	t.Parallel()
	uids := map[string]string{}
	for file, d := range dashboards(t) {
		if other, taken := uids[d.UID]; taken || d.UID == "" {
			t.Errorf("%s: uid %q is empty or also used by %s", file, d.UID, other)
		}
		uids[d.UID] = file
		if d.Description == "" || !slices.Contains(d.Tags, "azure-secure-score") {
			t.Errorf("%s: no description, or no tag azure-secure-score, which links the dashboards", file)
		}
		if len(d.Links) != 1 || !d.Links[0].IncludeVars || !d.Links[0].KeepTime {
			t.Errorf("%s: the link to the other dashboards must keep time and variables", file)
		}
		text := string(read(t, file))
		if strings.Contains(text, `"palette-`) {
			t.Errorf("%s: Grafana's palettes contain colors that color-blind people cannot distinguish", file)
		}
		names := []string{"datasource", "job"}
		for _, v := range d.Templating.List {
			names = slices.DeleteFunc(names, func(n string) bool { return n == v.Name })
			if v.Type == "query" && v.Datasource != (datasource{"prometheus", "${datasource}"}) {
				t.Errorf("%s: variable %s does not use ${datasource}", file, v.Name)
			}
			if !strings.Contains(text, "$"+v.Name) && !strings.Contains(text, "${"+v.Name) {
				t.Errorf("%s: variable %s is unused", file, v.Name)
			}
			// By default, Grafana lists every value in the query, which is too long with 1,000
			// subscriptions.
			if file == "subscription.json" && v.Name == "subscription" && (v.IncludeAll || v.Multi) {
				t.Errorf("%s shows one subscription: with 1,000, its panels take seconds", file)
			}
			if v.IncludeAll && v.AllValue != ".*" {
				t.Errorf("%s: variable %s: the value of All must be .*", file, v.Name)
			}
		}
		if len(names) > 0 {
			t.Errorf("%s: missing variables %v", file, names)
		}
		ids := map[int]bool{}
		for i, p := range d.Panels {
			where := fmt.Sprintf("%s: panel %d %q", file, p.ID, p.Title)
			if ids[p.ID] || p.ID == 0 {
				t.Errorf("%s: duplicate id", where)
			}
			ids[p.ID] = true
			if p.Title == "" || p.Description == "" || p.FieldConfig.Defaults.Unit == "" || p.FieldConfig.Defaults.NoValue == "" {
				t.Errorf("%s: missing title, description, unit or noValue", where)
			}
			if p.Datasource != (datasource{"prometheus", "${datasource}"}) {
				t.Errorf("%s does not use ${datasource}", where)
			}
			refs := map[string]bool{}
			for _, q := range p.Targets {
				if q.Datasource != nil {
					t.Errorf("%s: target %s has its own data source", where, q.RefID)
				}
				if refs[q.RefID] {
					t.Errorf("%s: duplicate target %s", where, q.RefID)
				}
				refs[q.RefID] = true
				// It is four times 15 s by default, which is empty at a scrape interval of 5 minutes.
				if strings.Contains(q.Expr, "$__rate_interval") {
					t.Errorf("%s: $__rate_interval depends on a setting of the data source", where)
				}
			}
			if len(p.Targets) == 0 {
				t.Errorf("%s has no targets", where)
			}
			g := p.GridPos
			if g.W < 1 || g.H < 1 || g.X < 0 || g.X+g.W > 24 {
				t.Errorf("%s is outside of the grid", where)
			}
			for _, o := range d.Panels[:i] {
				if g.X < o.GridPos.X+o.GridPos.W && o.GridPos.X < g.X+g.W && g.Y < o.GridPos.Y+o.GridPos.H && o.GridPos.Y < g.Y+g.H {
					t.Errorf("%s overlaps panel %d %q", where, o.ID, o.Title)
				}
			}
		}
	}
}

var (
	score    = regexp.MustCompile(`\b(?:subscription|environment|initiative):azure_secure_score(?:_max|_weight|_ratio)?:[a-z0-9_]+(?:\{([^}]*)\})?|\bazure_secure_score_(?:current|max|ratio|weight|control_[a-z]+|recommendation_max_increase)\{([^}]*)\}`)
	dataLink = regexp.MustCompile(`"url": "(/d/[^"?]+)\?([^"]*)"`)
)

// Dashboards never combine scores of different initiatives, and links keep the selected variables.
func TestVariables(t *testing.T) {
	t.Parallel()
	uids := map[string]bool{}
	for _, d := range dashboards(t) {
		uids["/d/"+d.UID] = true
	}
	selectors, links := 0, 0
	for file, d := range dashboards(t) {
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				for _, m := range score.FindAllStringSubmatch(q.Expr, -1) {
					selectors++
					// The name of a control does not depend on the initiative.
					if !strings.Contains(m[1]+m[2], `initiative="$initiative"`) && !strings.Contains(q.Expr, "group_left (control) (max by (control_id, control) ("+"last_over_time("+m[0]) {
						t.Errorf("%s: panel %q combines initiatives: %s", file, p.Title, m[0])
					}
				}
			}
		}
		for _, m := range dataLink.FindAllStringSubmatch(string(read(t, file)), -1) {
			links++
			if !uids[m[1]] {
				t.Errorf("%s: broken link to %s", file, m[1])
			}
			for _, want := range []string{"${datasource:queryparam}", "${job:queryparam}", "${__url_time_range}"} {
				if !strings.Contains(m[2], want) {
					t.Errorf("%s: the link to %s drops %s", file, m[1], want)
				}
			}
			if file != "exporter.json" && !strings.Contains(m[2], "${initiative:queryparam}") {
				t.Errorf("%s: the link to %s drops the initiative", file, m[1])
			}
		}
		if text := string(read(t, file)); strings.Contains(strings.ReplaceAll(text, `"https://portal.azure.com"`, ""), "portal.azure.com/") {
			t.Errorf("%s: links to the Azure portal must begin with ${portal}, which other clouds change", file)
		}
	}
	if selectors < 50 || links == 0 {
		t.Errorf("found %d selectors and %d links: the search is broken", selectors, links)
	}
}

// Every label in a legend or a display name is one of the expression.
func TestLegends(t *testing.T) {
	t.Parallel()
	p := newPromQL(t)
	in := regexp.MustCompile(`\{\{\s*(\w+)\s*\}\}|__field\.labels\.(\w+)`)
	for file, d := range dashboards(t) {
		for _, pan := range d.Panels {
			for _, q := range pan.Targets {
				have := p.check(t, source{fmt.Sprintf("%s: %s %s", file, pan.Title, q.RefID), q.Expr})
				for _, m := range in.FindAllStringSubmatch(q.LegendFormat+pan.FieldConfig.Defaults.DisplayName, -1) {
					if l := m[1] + m[2]; !have[l] {
						t.Errorf("%s: panel %q: target %s has no label %s", file, pan.Title, q.RefID, l)
					}
				}
			}
		}
	}
}

// Text that has a color has one of Grafana's own, which differ by theme and pass WCAG AA on a panel
// (4.5:1): red and blue, which color-blind people can distinguish. Lines and areas have 3:1 in both
// themes.
func TestColors(t *testing.T) {
	t.Parallel()
	const dark, light = "#181b1f", "#ffffff"
	named := []string{"text", "red", "blue"}
	colors := regexp.MustCompile(`"(?:color|fixedColor|iconColor)": ?"([^"]+)"`)
	found := 0
	for file := range dashboards(t) {
		text := read(t, file)
		for _, m := range colors.FindAllStringSubmatch(string(text), -1) {
			found++
			if c := m[1]; !slices.Contains(named, c) && (contrast(t, c, dark) < 3 || contrast(t, c, light) < 3) {
				t.Errorf("%s: %s has %.1f:1 in the dark theme and %.1f:1 in the light one", file, c, contrast(t, c, dark), contrast(t, c, light))
			}
		}
		var d struct {
			Panels []struct {
				Type, Title string
				FieldConfig json.RawMessage
			}
		}
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatal(err)
		}
		for _, p := range d.Panels {
			for _, m := range colors.FindAllStringSubmatch(string(p.FieldConfig), -1) {
				if p.Type == "stat" && !slices.Contains(named, m[1]) {
					t.Errorf("%s: panel %q has text in %s", file, p.Title, m[1])
				}
			}
		}
	}
	if found < 100 {
		t.Errorf("found %d colors: the search is broken", found)
	}
}

// contrast is the ratio of two colors by WCAG 2.1.
func contrast(t *testing.T, a, b string) float64 {
	t.Helper()
	luminance := func(color string) float64 {
		var rgb [3]uint8
		if _, err := fmt.Sscanf(color, "#%02x%02x%02x", &rgb[0], &rgb[1], &rgb[2]); err != nil {
			t.Fatalf("%q is neither a known name nor #RRGGBB", color)
		}
		sum := 0.0
		for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
			c := float64(rgb[i]) / 255
			if c <= 0.04045 {
				c /= 12.92
			} else {
				c = math.Pow((c+0.055)/1.055, 2.4)
			}
			sum += weight * c
		}
		return sum + 0.05
	}
	x, y := luminance(a), luminance(b)
	return max(x, y) / min(x, y)
}

type panel struct {
	ID                       int
	Type, Title, Description string
	Interval                 string
	GridPos                  struct{ X, Y, W, H int }
	Datasource               datasource
	Targets                  []struct {
		RefID, Expr, LegendFormat string
		Instant                   bool
		Datasource                *datasource
	}
	FieldConfig struct {
		Defaults struct {
			Unit, NoValue, DisplayName string
		}
	}
}

type datasource struct{ Type, UID string }

type dashboard struct {
	UID, Title, Description string
	Tags                    []string
	Links                   []struct{ IncludeVars, KeepTime bool }
	Templating              struct {
		List []struct {
			Name, Type, AllValue string
			Query                any
			Datasource           datasource
			IncludeAll, Multi    bool
		}
	}
	Panels      []panel
	Annotations struct {
		List []struct{ Name, Expr string }
	}
}

func dashboards(t *testing.T) map[string]dashboard {
	t.Helper()
	files, err := filepath.Glob("*.json")
	if err != nil || len(files) != 3 {
		t.Fatalf("found %d dashboards, want 3 (%v)", len(files), err)
	}
	all := map[string]dashboard{}
	for _, f := range files {
		var d dashboard
		if err := json.Unmarshal(read(t, f), &d); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		all[f] = d
	}
	return all
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
