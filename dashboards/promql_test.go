package dashboards

import (
	"context"
	"fmt"
	"maps"
	"net/http/httptest"
	"os"
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

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/exporter"
)

// Every expression parses, its series are exported or recorded, and the labels that it matches,
// groups by or joins on exist.
func TestExpressions(t *testing.T) {
	t.Parallel()
	p := newPromQL(t)
	for _, s := range expressions(t) {
		p.check(t, s)
	}
	if len(p.used) < 35 {
		t.Errorf("found only %d series in use: the search is broken", len(p.used))
	}
}

// targetLabels are added by Prometheus to every series it scrapes.
var targetLabels = []string{"job", "instance"}

// exported returns the labels of every series that rules and dashboards can use: those of the
// exporter, scraped over HTTP from a tenant with connectors and failures, and those that Prometheus
// adds.
var exported = sync.OnceValues(func() (map[string][]string, error) {
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
	exp, err := exporter.New(azure.NewResourceGraph(client), nil, api, exporter.Config{
		ScrapeTimeout: time.Minute, MaxStale: time.Hour, DiscoveryInterval: time.Hour, MaxRequests: 1, Logger: log.NewNopLogger(),
	})
	if err != nil {
		return nil, err
	}
	defer exp.Shutdown(context.Background()) //nolint:errcheck // no scrape is running
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
	all := maps.Clone(fromPrometheus)
	// Some series depend on flags, or appear only after a while. A test compares this table with the
	// program.
	table, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		return nil, err
	}
	for _, row := range regexp.MustCompile("(?m)^\\| `(azure_secure_score_\\w+)` \\| gauge \\|([^|]*)\\|").FindAllStringSubmatch(string(table), -1) {
		all[row[1]] = append(regexp.MustCompile(`\w+`).FindAllString(row[2], -1), "connector")
	}
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
		all[name] = append(own, all[name]...)
	}
	return all, nil
})

// fromPrometheus are series that Prometheus adds, with their labels.
var fromPrometheus = map[string][]string{
	"up": nil, "scrape_duration_seconds": nil,
	"ALERTS": {
		"alertname", "alertstate", "severity", "category", "control", "recommendation", "subscription_name", "subscription_owner",
	},
}

// source is an expression and its location.
type source struct {
	where, expr string
}

// expressions returns those of all rules, annotations, panels and variables.
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
					t.Errorf("%s: cannot parse the query in %s", r.Alert, name)
				}
				for _, q := range queries {
					all = append(all, source{r.Alert + ": " + name, strings.ReplaceAll(q[1], "%q", `"x"`)})
				}
			}
		}
	}
	inVariable := regexp.MustCompile(`^(?:label_values\((.+), \w+\)|query_result\((.+)\))$`)
	for file, d := range dashboards(t) {
		for _, a := range d.Annotations.List {
			all = append(all, source{fmt.Sprintf("%s: annotation %s", file, a.Name), a.Expr})
		}
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
				t.Errorf("%s: variable %s: cannot parse %q", file, v.Name, q)
				continue
			}
			all = append(all, source{fmt.Sprintf("%s: variable %s", file, v.Name), m[1] + m[2]})
		}
	}
	return all
}

// promQL determines the labels of an expression's result.
type promQL struct {
	parser parser.Parser
	known  map[string][]string // labels of exported and recorded series
	used   map[string]bool     // series found in expressions
}

// newPromQL starts with the exported series and adds the recorded ones rule by rule.
func newPromQL(t *testing.T) *promQL {
	t.Helper()
	all, err := exported()
	if err != nil {
		t.Fatal(err)
	}
	p := &promQL{parser: parser.NewParser(parser.Options{}), known: map[string][]string{}, used: map[string]bool{}}
	for name, own := range all {
		p.known[name] = slices.Concat(own, targetLabels)
		p.known[name] = slices.Compact(slices.Sorted(slices.Values(p.known[name])))
	}
	for _, g := range ruleGroups(t) {
		for _, r := range g.Rules {
			if r.Record != "" {
				p.known[r.Record] = recordedLabels(r) // a rule can read its previous result
				p.known[r.Record] = slices.Collect(maps.Keys(p.check(t, source{r.Record, r.Expr})))
			}
		}
	}
	return p
}

// recordedLabels returns the labels that a rule groups its result by last. topk keeps all labels.
func recordedLabels(r rule) []string {
	m := regexp.MustCompile(`\b(?:avg|count|group|max|min|sum) by \(([^)]*)\)`).FindStringSubmatch(r.Expr)
	if m == nil {
		return nil
	}
	return strings.Split(m[1], ", ")
}

// grafanaVariables replaces variables outside of strings; within strings any text parses.
var grafanaVariables = strings.NewReplacer("$__rate_interval", "1h", "$__interval", "1h", "$__range", "1h")

// check reports labels that an expression uses but cannot have, and returns those of its result.
func (p *promQL) check(t *testing.T, s source) map[string]bool {
	t.Helper()
	e, err := p.parser.ParseExpr(grafanaVariables.Replace(s.expr))
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
	c.t.Fatalf("%s: unsupported expression %T", c.where, e)
	return nil
}

func (c checker) selector(e *parser.VectorSelector) map[string]bool {
	known, ok := c.known[e.Name]
	if !ok {
		c.t.Errorf("%s: %q is neither exported nor recorded", c.where, e.Name)
		return nil
	}
	c.used[e.Name] = true
	for _, m := range e.LabelMatchers {
		// "filtered" is not a label: with it, panels choose between two queries by the variables.
		if m.Name != model.MetricNameLabel && m.Name != "filtered" && !slices.Contains(known, m.Name) {
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
	case "label_replace", "label_join":
		out[e.Args[1].(*parser.StringLiteral).Val] = true
		from := e.Args[3:4]
		if e.Func.Name == "label_join" {
			from = e.Args[3:]
		}
		for _, label := range from {
			if l := label.(*parser.StringLiteral).Val; l != "" {
				c.need(e, out, []string{l})
			}
		}
	case "histogram_quantile":
		delete(out, "le")
	case "time", "vector", "scalar":
		return nil
	}
	return out
}

func (c checker) binary(e *parser.BinaryExpr) map[string]bool {
	l, r := c.labels(e.LHS), c.labels(e.RHS)
	m := e.VectorMatching
	if m == nil { // one side is a scalar
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
		c.t.Errorf("%s: %s matches %v with %v: add on(…)", c.where, e, slices.Sorted(maps.Keys(l)), slices.Sorted(maps.Keys(r)))
	}
	return l
}

func (c checker) need(e parser.Expr, have map[string]bool, want []string) {
	for _, l := range want {
		if !have[l] {
			c.t.Errorf("%s: no label %s in %s", c.where, l, e)
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
