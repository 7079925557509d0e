package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v2"
)

// These tests keep the documentation in line with the program: its flags, commands, metrics and
// reasons are those of the built binary, and links, queries and YAML are well-formed. Shell
// commands are not run: most of them need Azure, Docker or a cluster.

func TestDocs_MatchProgram(t *testing.T) {
	t.Parallel()
	p := readProgram(t)

	t.Run("flags", func(t *testing.T) {
		documented := map[string]flag{}
		for _, row := range tableRows(t, "docs/configuration.md", "Flag", "Environment variable", "Default") {
			name := strings.TrimPrefix(row[0], "--")
			documented[name] = flag{env: row[1], value: row[2]}
		}
		compare(t, "docs/configuration.md", documented, p.flags)
	})

	t.Run("commands", func(t *testing.T) {
		documented := map[string]bool{}
		for _, row := range tableRows(t, "docs/configuration.md", "Command") {
			documented[row[0]] = true
		}
		compare(t, "docs/configuration.md", documented, p.commands)
	})

	t.Run("metrics", func(t *testing.T) {
		documented := map[string]string{}
		for _, row := range tableRows(t, "docs/metrics.md", "Metric", "Type", "Labels") {
			documented[row[0]] = row[1] + " " + strings.Join(sortedWords(row[2]), " ")
		}
		exposed := map[string]string{}
		for name, metric := range p.metrics {
			if strings.HasPrefix(name, "azure_secure_score_") {
				// Connectors have one more label, as the page says.
				labels := slices.DeleteFunc(slices.Clone(metric.labels), func(l string) bool { return l == "connector" })
				for i, label := range labels {
					if strings.HasPrefix(label, "tag_") {
						labels[i] = "tag_NAME"
					}
				}
				exposed[name] = metric.kind + " " + strings.Join(labels, " ")
			}
		}
		compare(t, "docs/metrics.md", documented, exposed)
	})

	t.Run("reasons", func(t *testing.T) {
		var documented []string
		for _, row := range tableRows(t, "docs/troubleshooting.md", "Reason", "Cause", "How to fix") {
			documented = append(documented, row[0])
		}
		slices.Sort(documented)
		if want := p.labelValues("azure_secure_score_scrape_failures_total", "reason"); !slices.Equal(documented, want) {
			t.Errorf("docs/troubleshooting.md has the reasons %q, the program %q", documented, want)
		}
	})

	t.Run("operations", func(t *testing.T) {
		text := readFile(t, "docs/metrics.md")
		for _, operation := range p.labelValues("azure_secure_score_api_requests_total", "operation") {
			if !strings.Contains(text, "`"+operation+"`") {
				t.Errorf("docs/metrics.md lacks the operation %s", operation)
			}
		}
	})

	t.Run("names in text", func(t *testing.T) {
		flagName := regexp.MustCompile(`--((?:azure|cache|log|scrape|web)\.[a-z]+(?:[.-][a-z]+)*)`)
		// Not the part of a recording rule or of a service discovery label.
		metricName := regexp.MustCompile(`(?:^|[^:_a-z])(azure_secure_score_[a-z_]*[a-z])\b`)
		for path, text := range documents(t) {
			for _, match := range flagName.FindAllStringSubmatch(text, -1) {
				if _, ok := p.flags[match[1]]; !ok {
					t.Errorf("%s: there is no flag --%s", path, match[1])
				}
			}
			for _, match := range metricName.FindAllStringSubmatch(text, -1) {
				name := histogramSuffix.ReplaceAllString(match[1], "")
				if _, ok := p.metrics[name]; !ok {
					t.Errorf("%s: there is no metric %s", path, match[1])
				}
			}
		}
	})

	t.Run("output in the README", func(t *testing.T) {
		shown := 0
		for _, block := range codeBlocks(readFile(t, "README.md"), "console") {
			for line := range strings.Lines(block) {
				if !strings.HasPrefix(line, "azure_secure_score_") {
					continue
				}
				shown++
				series := line[:strings.LastIndex(line, "} ")+1]
				if !strings.Contains(p.exposition, "\n"+series+" ") {
					t.Errorf("the demo does not expose %s", series)
				}
			}
		}
		if shown < 5 {
			t.Errorf("the README shows %d series, want at least 5", shown)
		}
	})

	t.Run("series per subscription", func(t *testing.T) {
		const sample, controls = `subscription_id="20ff7fc3-e762-44dd-bd96-b71116dcdc23"`, 15
		got := 0
		for line := range strings.Lines(p.exposition) {
			if strings.Contains(line, sample) && !strings.Contains(line, "recommendation") && !strings.Contains(line, "management_group") && !strings.Contains(line, "subscription_tags") {
				got++
			}
		}
		if want := 8 + 6*controls; got != want {
			t.Errorf("a subscription with %d controls has %d series, the documentation says %d", controls, got, want)
		}
	})

	t.Run("flags of the chart", func(t *testing.T) {
		var schema struct {
			Properties struct {
				Flags struct {
					PropertyNames struct {
						Enum []string `json:"enum"`
					} `json:"propertyNames"`
				} `json:"flags"`
			} `json:"properties"`
		}
		if err := json.Unmarshal([]byte(readFile(t, "deploy/helm/azure-secure-score-exporter/values.schema.json")), &schema); err != nil {
			t.Fatal(err)
		}
		accepted := map[string]bool{}
		for _, name := range schema.Properties.Flags.PropertyNames.Enum {
			accepted[name] = true
		}
		want := map[string]bool{}
		for name := range p.flags {
			// The chart sets the others itself.
			if !slices.Contains([]string{"web.listen-address", "web.config.file", "web.systemd-socket"}, name) {
				want[name] = true
			}
		}
		compare(t, "values.schema.json", accepted, want)
	})
}

// Every relative link leads to a file, and its fragment to a heading.
func TestDocs_Links(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	texts := documents(t)
	links := 0
	for path, text := range texts {
		for _, match := range link.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
			if strings.Contains(match[1], "://") {
				continue
			}
			links++
			file, anchor, _ := strings.Cut(match[1], "#")
			target := path
			if file != "" {
				target = filepath.ToSlash(filepath.Join(filepath.Dir(path), file))
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: broken link %s", path, match[1])
			} else if anchor != "" && !slices.Contains(anchors(texts[target]), anchor) {
				t.Errorf("%s: %s has no such heading", path, match[1])
			}
		}
	}
	if links < 50 {
		t.Errorf("only %d links were found", links)
	}
}

// Every alert that a page names exists.
func TestDocs_Alerts(t *testing.T) {
	t.Parallel()
	exists := map[string]bool{"AzureSecureScoreControls": true, "AzureSecureScoreRecommendations": true} // files of export
	for _, match := range regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(readFile(t, "dashboards/rules/alerting-rules.yaml"), -1) {
		exists[match[1]] = true
	}
	alert := regexp.MustCompile(`AzureSecureScore[A-Z]\w+`)
	for path, text := range documents(t) {
		for _, name := range alert.FindAllString(text, -1) {
			if !exists[name] {
				t.Errorf("%s: there is no alert %s", path, name)
			}
		}
	}
}

// Every query parses, selects metrics that exist, and uses labels that they have.
func TestDocs_Queries(t *testing.T) {
	t.Parallel()
	labels := map[string][]string{} // by metric
	for _, row := range tableRows(t, "docs/metrics.md", "Metric", "Type", "Labels") {
		labels[row[0]] = append(sortedWords(row[2]), "connector")
	}
	recorded := regexp.MustCompile(`(?m)record: (\S+)$`)
	for _, match := range recorded.FindAllStringSubmatch(readFile(t, "dashboards/rules/recording-rules.yaml"), -1) {
		labels[match[1]] = []string{"subscription_id", "subscription_name", "subscription_owner", "environment", "initiative", "connector"}
	}

	promQL := parser.NewParser(parser.Options{})
	queries := 0
	for path, text := range documents(t) {
		for _, query := range append(codeBlocks(text, "promql"), ruleExpressions(t, text)...) {
			queries++
			expr, err := promQL.ParseExpr(query)
			if err != nil {
				t.Errorf("%s: %v\n%s", path, err, query)
				continue
			}
			available := []string{"le", "job", "instance"}
			parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
				if selector, ok := node.(*parser.VectorSelector); ok {
					known, ok := labels[histogramSuffix.ReplaceAllString(selector.Name, "")]
					if !ok {
						t.Errorf("%s: there is no metric %s", path, selector.Name)
					}
					available = append(available, known...)
				}
				return nil
			})
			for _, label := range usedLabels(expr) {
				if !slices.Contains(available, label) {
					t.Errorf("%s: no metric has the label %s in\n%s", path, label, query)
				}
			}
		}
	}
	if queries < 20 {
		t.Errorf("only %d queries were found", queries)
	}
}

// Every code block names its language, and YAML parses.
func TestDocs_CodeBlocks(t *testing.T) {
	t.Parallel()
	languages := []string{"console", "ini", "promql", "sh", "text", "yaml"}
	for path, text := range documents(t) {
		for _, match := range fence.FindAllStringSubmatch(text, -1) {
			if !slices.Contains(languages, match[1]) {
				t.Errorf("%s: a code block has the language %q, want one of %q", path, match[1], languages)
			}
		}
		for _, block := range codeBlocks(text, "yaml") {
			var content any
			if err := yaml.UnmarshalStrict([]byte(block), &content); err != nil {
				t.Errorf("%s: %v\n%s", path, err, block)
			}
		}
	}
}

// compare reports what is only in one of the two maps, or different.
func compare[V comparable](t *testing.T, document string, documented, actual map[string]V) {
	t.Helper()
	for name, want := range actual {
		if got, ok := documented[name]; !ok {
			t.Errorf("%s lacks %s", document, name)
		} else if got != want {
			t.Errorf("%s: %s is %+v, the program has %+v", document, name, got, want)
		}
	}
	for name := range documented {
		if _, ok := actual[name]; !ok {
			t.Errorf("%s has %s, the program does not", document, name)
		}
	}
}

// program is what the built binary shows of itself.
type program struct {
	flags      map[string]flag
	commands   map[string]bool
	metrics    map[string]metric // of the demo
	exposition string
}

type flag struct{ env, value string }

type metric struct {
	kind   string
	labels []string            // sorted
	values map[string][]string // by label, sorted
}

func (p *program) labelValues(name, label string) []string { return p.metrics[name].values[label] }

func readProgram(t *testing.T) *program {
	t.Helper()
	p := &program{}
	p.readHelp(t)
	p.scrapeDemo(t)
	return p
}

var (
	flagInHelp    = regexp.MustCompile(`(?m)^ +(?:-\w, )?--(\[no-\])?([a-z][a-z.-]+)(?:=(\S*))?`)
	envInHelp     = regexp.MustCompile(`\(\$(\w+)\)`)
	commandInHelp = regexp.MustCompile(`(?m)^([a-z]+(?: [a-z]+)?)\*?(?: .*)?\n    `)
	placeholder   = regexp.MustCompile(`^(?:[A-Z]+|https://…|"")$`)
)

func (p *program) readHelp(t *testing.T) {
	t.Helper()
	_, out, _ := runToEnd(t, nil, "--help")
	flags, commands, _ := strings.Cut(out, "\nCommands:\n")
	p.flags = map[string]flag{}
	starts := flagInHelp.FindAllStringSubmatchIndex(flags, -1)
	for i, at := range starts {
		end := len(flags)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		env := envInHelp.FindStringSubmatch(flags[at[0]:end])
		if env == nil {
			continue // --help and --version
		}
		f := flag{env: env[1]}
		switch {
		case at[2] >= 0:
			f.value = "false"
		case at[6] >= 0 && !placeholder.MatchString(flags[at[6]:at[7]]):
			f.value = flags[at[6]:at[7]]
		}
		p.flags[flags[at[4]:at[5]]] = f
	}
	p.commands = map[string]bool{}
	for _, match := range commandInHelp.FindAllStringSubmatch(commands, -1) {
		p.commands[match[1]] = true
	}
	if len(p.flags) < 15 || len(p.commands) < 3 {
		t.Fatalf("found %d flags and %d commands in\n%s", len(p.flags), len(p.commands), out)
	}
}

// scrapeDemo reads the metrics of the demo. Recommendations follow in the background of the first
// scrape.
func (p *program) scrapeDemo(t *testing.T) {
	t.Helper()
	demo := start(t, nil, "--demo")
	waitFor(t, "the demo's recommendations", func() bool {
		_, p.exposition = demo.get(t, "/metrics")
		return strings.Contains(p.exposition, "azure_secure_score_recommendation_info{")
	})
	p.metrics = map[string]metric{}
	for name, family := range parse(t, p.exposition) {
		m := metric{kind: strings.ToLower(family.GetType().String()), values: map[string][]string{}}
		for _, series := range family.GetMetric() {
			for _, label := range series.GetLabel() {
				m.values[label.GetName()] = append(m.values[label.GetName()], label.GetValue())
			}
		}
		for label, values := range m.values {
			slices.Sort(values)
			m.values[label] = slices.Compact(values)
			m.labels = append(m.labels, label)
		}
		slices.Sort(m.labels)
		p.metrics[name] = m
	}
}

// documents returns the Markdown files of the repository, by path.
func documents(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md", "dashboards/*.md", "deploy/*/*.md", "deploy/*/*/*.md"} {
		paths, err := filepath.Glob(pattern)
		if err != nil || len(paths) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(paths), err)
		}
		for _, path := range paths {
			texts[filepath.ToSlash(path)] = readFile(t, path)
		}
	}
	return texts
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var (
	fence           = regexp.MustCompile("(?ms)^ *```(\\w*)\n(.*?)^ *```$")
	heading         = regexp.MustCompile(`(?m)^#+ (.*)$`)
	notInAnchor     = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	histogramSuffix = regexp.MustCompile(`_(?:bucket|sum|count)$`)
)

// codeBlocks returns the fenced blocks of one language.
func codeBlocks(text, language string) []string {
	var blocks []string
	for _, match := range fence.FindAllStringSubmatch(text, -1) {
		if match[1] == language {
			blocks = append(blocks, match[2])
		}
	}
	return blocks
}

// anchors returns the fragments that GitHub gives to the headings.
func anchors(text string) []string {
	var anchors []string
	for _, match := range heading.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		anchor := notInAnchor.ReplaceAllString(strings.ToLower(match[1]), "")
		anchors = append(anchors, strings.ReplaceAll(anchor, " ", "-"))
	}
	return anchors
}

// tableRows returns the cells of the table whose header starts with these columns, without
// backquotes; "none" is empty.
func tableRows(t *testing.T, path string, columns ...string) [][]string {
	t.Helper()
	header := "| " + strings.Join(columns, " | ") + " |"
	var rows [][]string
	inside := false
	for line := range strings.Lines(readFile(t, path)) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, header):
			inside = true
		case !strings.HasPrefix(line, "|"):
			inside = false
		case inside && !strings.HasPrefix(line, "|--"):
			var cells []string
			for cell := range strings.SplitSeq(strings.Trim(line, "|"), "|") {
				cell = strings.TrimSpace(cell)
				if cell == "none" {
					cell = ""
				}
				cells = append(cells, strings.ReplaceAll(cell, "`", ""))
			}
			if len(cells) < len(columns) {
				t.Fatalf("%s: too few cells in %s", path, line)
			}
			rows = append(rows, cells)
		}
	}
	if len(rows) == 0 {
		t.Fatalf("%s has no table %s", path, header)
	}
	return rows
}

// sortedWords splits a cell at commas and blanks.
func sortedWords(cell string) []string {
	words := strings.FieldsFunc(cell, func(r rune) bool { return r == ',' || r == ' ' })
	slices.Sort(words)
	return words
}

// ruleExpressions returns the expressions of the Prometheus rules in YAML blocks.
func ruleExpressions(t *testing.T, text string) []string {
	t.Helper()
	var expressions []string
	for _, block := range codeBlocks(text, "yaml") {
		var file struct {
			Groups []struct {
				Rules []struct {
					Expr string `yaml:"expr"`
				} `yaml:"rules"`
			} `yaml:"groups"`
		}
		if err := yaml.Unmarshal([]byte(block), &file); err != nil {
			continue // TestDocs_CodeBlocks reports it
		}
		for _, group := range file.Groups {
			for _, rule := range group.Rules {
				expressions = append(expressions, rule.Expr)
			}
		}
	}
	return expressions
}

// usedLabels returns the labels that a query selects, groups or joins by.
func usedLabels(expr parser.Expr) []string {
	var labels []string
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		switch n := node.(type) {
		case *parser.VectorSelector:
			for _, matcher := range n.LabelMatchers {
				if matcher.Name != model.MetricNameLabel {
					labels = append(labels, matcher.Name)
				}
			}
		case *parser.AggregateExpr:
			labels = append(labels, n.Grouping...)
		case *parser.BinaryExpr:
			if n.VectorMatching != nil {
				labels = append(labels, n.VectorMatching.MatchingLabels...)
				labels = append(labels, n.VectorMatching.Include...)
			}
		}
		return nil
	})
	return labels
}
