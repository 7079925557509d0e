// Package dashboards holds no code, only what an operator loads into Prometheus, Alertmanager and Grafana; these tests keep it right.
// What the rules do is tested by promtool (rules/*_test.yaml).
package dashboards

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-kit/log"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v2"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/exporter"
)

// target are the labels that Prometheus adds to everything it scrapes.
var target = []string{"job", "instance"}

// served are the series that rules and dashboards may build on, with their own labels: all that an exporter serves, asked over HTTP, and
// what Prometheus adds for a target. The simulated tenant has connectors to other clouds and a subscription that cannot be read.
var served = sync.OnceValues(func() (map[string][]string, error) {
	tenant, err := simulator.Start(simulator.Demo())
	if err != nil {
		return nil, err
	}
	defer tenant.Close()
	api := exporter.NewAPIMetrics()
	client, err := azure.New(azure.Config{
		Cloud: tenant.Cloud(), RootCAs: tenant.RootCAs(), Credential: tenant.Credential, Observe: api.Observe, Logger: log.NewNopLogger(),
	})
	if err != nil {
		return nil, err
	}
	defer client.Close()
	exp, err := exporter.New(azure.NewResourceGraph(client), api, exporter.Config{
		ScrapeTimeout: time.Minute, MaxStale: time.Hour, DiscoveryInterval: time.Hour, MaxRequests: 1, Logger: log.NewNopLogger(),
	})
	if err != nil {
		return nil, err
	}
	defer exp.Shutdown(context.Background()) //nolint:errcheck // nothing is in flight
	server := httptest.NewServer(exp.Handler())
	defer server.Close()
	resp, err := server.Client().Get(server.URL + "/metrics")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil {
		return nil, err
	}
	all := map[string][]string{"up": nil, "scrape_duration_seconds": nil}
	for name, family := range families {
		own := []string{}
		if family.GetType() == dto.MetricType_HISTOGRAM {
			name, own = name+"_bucket", []string{"le"}
		}
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if !slices.Contains(own, l.GetName()) {
					own = append(own, l.GetName())
				}
			}
		}
		all[name] = own
	}
	return all, nil
})

// source is an expression and where it stands.
type source struct {
	where, expr string
}

// Every expression parses, every series in it is served or recorded, and every label that it matches, groups by or joins on is there where it
// is used.
func TestExpressions(t *testing.T) {
	t.Parallel()
	p := newPromQL(t)
	for _, s := range expressions(t) {
		p.check(t, s)
	}
	if len(p.used) < 35 {
		t.Errorf("only %d series are in use: the search for them is broken", len(p.used))
	}
}

// A recorded series that nothing reads costs every user memory. These four are made for people.
func TestRecordedSeriesAreRead(t *testing.T) {
	t.Parallel()
	forPeople := []string{
		"environment:azure_secure_score:ratio", "initiative:azure_secure_score:ratio",
		"control:azure_secure_score_control_potential:sum", "control:azure_secure_score_control_resources:sum",
	}
	var all strings.Builder
	for _, s := range expressions(t) {
		all.WriteString(s.expr)
	}
	for _, g := range ruleGroups(t) {
		for _, r := range g.Rules {
			if r.Record != "" && !slices.Contains(forPeople, r.Record) && !strings.Contains(all.String(), r.Record) {
				t.Errorf("nothing reads %s", r.Record)
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

// ruleGroups reads the rule files as Prometheus does: an unknown key is an error.
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

func TestAlerts(t *testing.T) {
	t.Parallel()
	headings := map[string]bool{} // by anchor; true once an alert leads there
	for _, h := range regexp.MustCompile(`(?m)^### (\S+)$`).FindAllStringSubmatch(string(read(t, "runbook.md")), -1) {
		headings[strings.ToLower(h[1])] = false
	}
	tests := alertTests(t)
	for _, g := range ruleGroups(t) {
		if g.Interval != "1m" {
			t.Errorf("group %s: interval %q; a longer one leaves holes in what it records, none leaves that to chance", g.Name, g.Interval)
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
					t.Errorf("%s: an alert on data needs keep_firing_for to bridge a gap", r.Alert)
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
				t.Errorf("%s: runbook_url %q leads nowhere", r.Alert, r.Annotations["runbook_url"])
			}
			headings[anchor] = true
			if anchor != strings.ToLower(r.Alert) {
				t.Errorf("%s leads to the runbook of %s", r.Alert, anchor)
			}
			if tests[r.Alert] != (alertTest{fires: true, silent: true}) {
				t.Errorf("%s is not tested both ways by alerting-rules_test.yaml: %+v", r.Alert, tests[r.Alert])
			}
		}
	}
	for h, used := range headings {
		if !used {
			t.Errorf("runbook.md: no alert leads to %s", h)
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
			IncludeAll           bool
		}
	}
	Panels []panel
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

func TestDashboards(t *testing.T) {
	t.Parallel()
	uids := map[string]string{}
	for file, d := range dashboards(t) {
		if other, taken := uids[d.UID]; taken || d.UID == "" {
			t.Errorf("%s: uid %q is empty or that of %s", file, d.UID, other)
		}
		uids[d.UID] = file
		if d.Description == "" || !slices.Contains(d.Tags, "azure-secure-score") {
			t.Errorf("%s: no description, or not tagged azure-secure-score, by which the dashboards find each other", file)
		}
		if len(d.Links) != 1 || !d.Links[0].IncludeVars || !d.Links[0].KeepTime {
			t.Errorf("%s: the link to the other dashboards must keep time and variables", file)
		}
		text := string(read(t, file))
		if strings.Contains(text, `"palette-`) {
			t.Errorf("%s: Grafana's palettes hold colours that a colour-blind person cannot tell apart", file)
		}
		names := []string{"datasource", "environment", "subscription", "initiative"}
		for _, v := range d.Templating.List {
			names = slices.DeleteFunc(names, func(n string) bool { return n == v.Name })
			if v.Type != "datasource" && v.Datasource != (datasource{"prometheus", "${datasource}"}) {
				t.Errorf("%s: variable %s names a data source other than ${datasource}", file, v.Name)
			}
			if !strings.Contains(text, "$"+v.Name) && !strings.Contains(text, "${"+v.Name) {
				t.Errorf("%s: nothing uses the variable %s", file, v.Name)
			}
			// Without it, Grafana lists every value in the query, which a thousand subscriptions make too long.
			if v.IncludeAll && v.AllValue != ".*" {
				t.Errorf("%s: variable %s: All must be the regular expression .*", file, v.Name)
			}
		}
		if len(names) > 0 {
			t.Errorf("%s: no variable %v", file, names)
		}
		ids := map[int]bool{}
		for i, p := range d.Panels {
			where := fmt.Sprintf("%s: panel %d %q", file, p.ID, p.Title)
			if ids[p.ID] || p.ID == 0 {
				t.Errorf("%s: the id is not unique", where)
			}
			ids[p.ID] = true
			if p.Title == "" || p.Description == "" || p.FieldConfig.Defaults.Unit == "" || p.FieldConfig.Defaults.NoValue == "" {
				t.Errorf("%s: title, description, unit or noValue is missing", where)
			}
			if p.Datasource != (datasource{"prometheus", "${datasource}"}) {
				t.Errorf("%s names a data source other than ${datasource}", where)
			}
			refs := map[string]bool{}
			for _, q := range p.Targets {
				if q.Datasource != nil {
					t.Errorf("%s: target %s has a data source of its own", where, q.RefID)
				}
				if refs[q.RefID] {
					t.Errorf("%s: target %s stands twice", where, q.RefID)
				}
				refs[q.RefID] = true
				// The default scrape interval of a Grafana data source is 15 s: a rate over four of them is empty at 5 minutes.
				if strings.Contains(q.Expr, "$__rate_interval") && p.Interval != "15m" {
					t.Errorf("%s: $__rate_interval needs an interval of 15m", where)
				}
			}
			if len(p.Targets) == 0 {
				t.Errorf("%s asks nothing", where)
			}
			g := p.GridPos
			if g.W < 1 || g.H < 1 || g.X < 0 || g.X+g.W > 24 {
				t.Errorf("%s lies outside of the grid", where)
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
	recordedScore = regexp.MustCompile(`\bsubscription(?:_control)?:azure_secure_score(?:_current|_max|_weight|_control_[a-z]+|_control)?:[a-z_]+(?:\{([^}]*)\})?`)
	dataLink      = regexp.MustCompile(`"url": "(/d/[^"?]+)\?([^"]*)"`)
)

// Scores of different initiatives are never mixed, and who follows a link keeps what was chosen.
func TestChoices(t *testing.T) {
	t.Parallel()
	uids := map[string]bool{}
	for _, d := range dashboards(t) {
		uids["/d/"+d.UID] = true
	}
	selectors, links := 0, 0
	for file, d := range dashboards(t) {
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				for _, m := range recordedScore.FindAllStringSubmatch(q.Expr, -1) {
					selectors++
					if !strings.Contains(m[1], `initiative="$initiative"`) {
						t.Errorf("%s: panel %q mixes initiatives: %s", file, p.Title, m[0])
					}
				}
			}
		}
		for _, m := range dataLink.FindAllStringSubmatch(string(read(t, file)), -1) {
			links++
			if !uids[m[1]] {
				t.Errorf("%s: a link to %s, which is none of these dashboards", file, m[1])
			}
			for _, want := range []string{"${datasource:queryparam}", "${environment:queryparam}", "${initiative:queryparam}", "var-subscription=", "${__url_time_range}"} {
				if !strings.Contains(m[2], want) {
					t.Errorf("%s: the link to %s forgets %s", file, m[1], want)
				}
			}
		}
	}
	if selectors < 50 || links == 0 {
		t.Errorf("%d selectors and %d links were found: the search for them is broken", selectors, links)
	}
}

// Every {{label}} in a legend and every label in a display name is one that the expression has.
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
						t.Errorf("%s: panel %q: the expression of %s has no label %s", file, pan.Title, q.RefID, l)
					}
				}
			}
		}
	}
}

// expressions are those of all rules, panels and variables.
func expressions(t *testing.T) []source {
	t.Helper()
	var all []source
	inAnnotation := regexp.MustCompile(`printf "([^"]+)"[^|}]*\| query\b`)
	for _, g := range ruleGroups(t) {
		for _, r := range g.Rules {
			all = append(all, source{r.Record + r.Alert, r.Expr})
			for name, text := range r.Annotations {
				queries := inAnnotation.FindAllStringSubmatch(text, -1)
				if len(queries) != len(regexp.MustCompile(`\bquery\b`).FindAllString(text, -1)) {
					t.Errorf("%s: a query in %s is not understood", r.Alert, name)
				}
				for _, q := range queries {
					all = append(all, source{r.Alert + ": " + name, strings.ReplaceAll(q[1], "%q", `"x"`)})
				}
			}
		}
	}
	inVariable := regexp.MustCompile(`^(?:label_values\((.+), \w+\)|query_result\((.+)\))$`)
	for file, d := range dashboards(t) {
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				all = append(all, source{fmt.Sprintf("%s: panel %d %q, %s", file, p.ID, p.Title, q.RefID), q.Expr})
			}
		}
		for _, v := range d.Templating.List {
			if v.Type != "query" {
				continue
			}
			q, _ := v.Query.(map[string]any)["query"].(string)
			m := inVariable.FindStringSubmatch(q)
			if m == nil {
				t.Errorf("%s: variable %s: %q is not understood", file, v.Name, q)
				continue
			}
			all = append(all, source{fmt.Sprintf("%s: variable %s", file, v.Name), m[1] + m[2]})
		}
	}
	return all
}

// promQL knows which labels an expression's result can have.
type promQL struct {
	parser parser.Parser
	known  map[string][]string // the labels of every series: served or recorded
	used   map[string]bool     // the series that were met
}

// newPromQL knows what is served and, rule by rule, what is recorded from it.
func newPromQL(t *testing.T) *promQL {
	t.Helper()
	all, err := served()
	if err != nil {
		t.Fatal(err)
	}
	p := &promQL{parser: parser.NewParser(parser.Options{}), known: map[string][]string{}, used: map[string]bool{}}
	for name, own := range all {
		p.known[name] = slices.Concat(own, target)
	}
	for _, g := range ruleGroups(t) {
		for _, r := range g.Rules {
			if r.Record != "" {
				p.known[r.Record] = slices.Collect(maps.Keys(p.check(t, source{r.Record, r.Expr})))
			}
		}
	}
	return p
}

// What Grafana fills in outside of strings; inside of them a variable is as good as any text.
var grafana = strings.NewReplacer("$__rate_interval", "1h", "$__interval", "1h", "$__range", "1h")

// check parses an expression, reports every label that it uses and cannot have, and returns those of its result.
func (p *promQL) check(t *testing.T, s source) map[string]bool {
	t.Helper()
	e, err := p.parser.ParseExpr(grafana.Replace(s.expr))
	if err != nil {
		t.Errorf("%s: %v", s.where, err)
		return nil
	}
	c := checker{t, s.where, p}
	return c.labels(e)
}

type checker struct {
	t     *testing.T
	where string
	*promQL
}

func (c checker) labels(e parser.Expr) map[string]bool {
	switch e := e.(type) {
	case *parser.VectorSelector:
		return c.selector(e)
	case *parser.MatrixSelector:
		return c.labels(e.VectorSelector)
	case *parser.SubqueryExpr:
		return c.labels(e.Expr)
	case *parser.ParenExpr:
		return c.labels(e.Expr)
	case *parser.StepInvariantExpr:
		return c.labels(e.Expr)
	case *parser.UnaryExpr:
		return c.labels(e.Expr)
	case *parser.NumberLiteral, *parser.StringLiteral:
		return nil
	case *parser.AggregateExpr:
		in := c.labels(e.Expr)
		c.need(e, in, e.Grouping)
		switch {
		case e.Op == parser.TOPK || e.Op == parser.BOTTOMK:
			return in
		case e.Without:
			out := maps.Clone(in)
			for _, l := range e.Grouping {
				delete(out, l)
			}
			return out
		}
		return set(e.Grouping)
	case *parser.Call:
		return c.call(e)
	case *parser.BinaryExpr:
		return c.binary(e)
	}
	c.t.Fatalf("%s: this test does not know %T", c.where, e)
	return nil
}

func (c checker) selector(e *parser.VectorSelector) map[string]bool {
	known, ok := c.known[e.Name]
	if !ok {
		c.t.Errorf("%s: nobody serves or records %q", c.where, e.Name)
		return nil
	}
	c.used[e.Name] = true
	for _, m := range e.LabelMatchers {
		if m.Name != model.MetricNameLabel && !slices.Contains(known, m.Name) {
			c.t.Errorf("%s: %s has no label %s", c.where, e.Name, m.Name)
		}
	}
	return set(known)
}

func (c checker) call(e *parser.Call) map[string]bool {
	out := map[string]bool{}
	for _, a := range e.Args {
		maps.Copy(out, c.labels(a))
	}
	switch e.Func.Name {
	case "label_replace":
		out[e.Args[1].(*parser.StringLiteral).Val] = true
		if from := e.Args[3].(*parser.StringLiteral).Val; from != "" {
			c.need(e, out, []string{from})
		}
	case "histogram_quantile":
		delete(out, "le")
	case "time", "vector", "scalar":
		return nil
	case "absent_over_time":
		return map[string]bool{"job": true}
	}
	return out
}

func (c checker) binary(e *parser.BinaryExpr) map[string]bool {
	l, r := c.labels(e.LHS), c.labels(e.RHS)
	m := e.VectorMatching
	if m == nil { // a scalar on one side
		if e.LHS.Type() == parser.ValueTypeScalar {
			return r
		}
		return l
	}
	if m.On {
		c.need(e, l, m.MatchingLabels)
		c.need(e, r, m.MatchingLabels)
	}
	switch {
	case e.Op == parser.LOR:
		out := maps.Clone(l)
		maps.Copy(out, r)
		return out
	case e.Op == parser.LAND, e.Op == parser.LUNLESS:
		return l
	case m.Card == parser.CardManyToOne, m.Card == parser.CardOneToMany:
		many, one := l, r
		if m.Card == parser.CardOneToMany {
			many, one = r, l
		}
		c.need(e, one, m.Include)
		out := maps.Clone(many)
		maps.Copy(out, set(m.Include))
		return out
	case m.On:
		return set(m.MatchingLabels)
	}
	if !maps.Equal(l, r) {
		c.t.Errorf("%s: %s matches %v with %v: name the labels with on", c.where, e, slices.Sorted(maps.Keys(l)), slices.Sorted(maps.Keys(r)))
	}
	return l
}

func (c checker) need(e parser.Expr, have map[string]bool, want []string) {
	for _, l := range want {
		if !have[l] {
			c.t.Errorf("%s: there is no label %s in %s", c.where, l, e)
		}
	}
}

// The alert that an exporter is down looks at the job azure-secure-score. Were subscriptions targets of it, each would be an exporter that is down.
func TestExampleJobs(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("prometheus*.yml")
	if err != nil || len(files) < 3 {
		t.Fatalf("found %v (%v)", files, err)
	}
	for _, file := range files {
		var config struct {
			Jobs []struct {
				Name          string `yaml:"job_name"`
				Interval      string `yaml:"scrape_interval"`
				Path          string `yaml:"metrics_path"`
				MetricRelabel []struct {
					Target      string `yaml:"target_label"`
					Replacement string
				} `yaml:"metric_relabel_configs"`
			} `yaml:"scrape_configs"`
		}
		if err := yaml.Unmarshal(read(t, file), &config); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		exporters := 0
		for _, job := range config.Jobs {
			if job.Interval != "2m" {
				t.Errorf("%s: %s is scraped every %q", file, job.Name, job.Interval)
			}
			probes := job.Path == "/probe"
			if (job.Name == "azure-secure-score") == probes {
				t.Errorf("%s: %s must be the exporters' job, and theirs alone", file, job.Name)
			}
			if !probes {
				exporters++
			} else if m := job.MetricRelabel; len(m) != 1 || m[0].Target != "job" || m[0].Replacement != "azure-secure-score" {
				t.Errorf("%s: the series of %s do not get into the job azure-secure-score: %v", file, job.Name, m)
			}
		}
		if exporters != 1 {
			t.Errorf("%s has %d jobs for exporters", file, exporters)
		}
	}
}

// compose.yaml mounts files that exist, and the dashboards where Grafana is told to look for them.
func TestCompose(t *testing.T) {
	t.Parallel()
	var compose struct {
		Services map[string]struct {
			Image   string
			Volumes []string
		}
	}
	if err := yaml.Unmarshal(read(t, "../compose.yaml"), &compose); err != nil {
		t.Fatal(err)
	}
	var provisioned struct {
		Providers []struct{ Options struct{ Path string } }
	}
	if err := yaml.Unmarshal(read(t, "grafana/dashboards.yaml"), &provisioned); err != nil || len(provisioned.Providers) != 1 {
		t.Fatalf("grafana/dashboards.yaml: %+v (%v)", provisioned, err)
	}
	mounted := map[string]bool{} // targets
	for name, service := range compose.Services {
		if service.Image != "" && !regexp.MustCompile(`:v?\d+\.\d+\.\d+$`).MatchString(service.Image) {
			t.Errorf("%s: the image %s is not pinned", name, service.Image)
		}
		for _, volume := range service.Volumes {
			parts := strings.Split(volume, ":")
			mounted[parts[1]] = true
			if !strings.HasPrefix(parts[0], "./") {
				continue // not of the repository
			}
			if _, err := os.Stat(filepath.Join("..", parts[0])); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	for file := range dashboards(t) {
		if path := provisioned.Providers[0].Options.Path + "/" + file; !mounted[path] {
			t.Errorf("no dashboard is mounted at %s", path)
		}
	}
}

func set(list []string) map[string]bool {
	s := map[string]bool{}
	for _, l := range list {
		s[l] = true
	}
	return s
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
