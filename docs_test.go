package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// documents are all texts for people, by path.
func documents(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md", "dashboards/*.md", "deploy/*/*.md", "deploy/*/*/*.md"} {
		paths, err := filepath.Glob(pattern)
		if err != nil || len(paths) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(paths), err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			texts[path] = string(text)
		}
	}
	return texts
}

var fence = regexp.MustCompile("(?ms)^ *```(\\w*)\n(.*?)^ *```$")

// blocks returns the fenced blocks of one language.
func blocks(text, language string) []string {
	var found []string
	for _, match := range fence.FindAllStringSubmatch(text, -1) {
		if match[1] == language {
			found = append(found, match[2])
		}
	}
	return found
}

var (
	mdLink  = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	noSlug  = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// Every link inside the repository leads to a file, and to a heading in it.
func TestLinks(t *testing.T) {
	t.Parallel()
	texts := documents(t)
	anchors := map[string][]string{}
	for path, text := range texts {
		for _, match := range heading.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
			anchors[path] = append(anchors[path], strings.ReplaceAll(noSlug.ReplaceAllString(strings.ToLower(match[1]), ""), " ", "-"))
		}
	}
	links := 0
	for path, text := range texts {
		for _, match := range mdLink.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
			if strings.Contains(match[1], "://") {
				continue
			}
			links++
			file, anchor, _ := strings.Cut(match[1], "#")
			target := path
			if file != "" {
				target = filepath.Join(filepath.Dir(path), file)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: the link %s leads nowhere", path, match[1])
			} else if anchor != "" && !slices.Contains(anchors[target], anchor) {
				t.Errorf("%s: the link %s leads to none of the headings %q", path, match[1], anchors[target])
			}
		}
	}
	if links < 20 {
		t.Errorf("only %d links were found", links)
	}
}

var (
	inline  = regexp.MustCompile("`([^`]+)`")
	program = regexp.MustCompile(`^(?:amtool|apt-get|az|bash|cat|cosign|curl|docker|gh|git|go|helm|journalctl|kubectl|make|promtool|sh|sudo|systemctl|systemd-analyze|(?:\./)?` + name + `) \S`)
	notRun  = regexp.MustCompile("(?s)The tests run every command [^:]+:(.+?)\\.\n")
)

// inText returns the commands that stand in running text.
func inText(text string) []string {
	var found []string
	for _, match := range inline.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		if command := strings.Join(strings.Fields(match[1]), " "); program.MatchString(command) {
			found = append(found, command)
		}
	}
	return found
}

// Every command in a document is run here. If not, its block begins by saying so or,
// in running text, the README does.
func TestCommands(t *testing.T) {
	t.Parallel()
	sim := startAzure(t, simulator.Demo())
	real := slices.Clip(append(secretEnv(), trust(t, sim), "AZURE_SECURE_SCORE_EXPORTER_AZURE_CLOUD=custom",
		"AZURE_SECURE_SCORE_EXPORTER_AZURE_AUTHORITY_HOST="+sim.URL(), "AZURE_SECURE_SCORE_EXPORTER_AZURE_ARM_ENDPOINT="+sim.URL()))
	checks, err := os.ReadFile(".ci/run")
	if err != nil {
		t.Fatal(err)
	}

	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	said := notRun.FindStringSubmatch(string(readme))
	if said == nil {
		t.Fatal("the README does not say which commands nothing runs")
	}
	var excused []string
	for _, match := range inline.FindAllStringSubmatch(said[1], -1) {
		excused = append(excused, match[1])
	}
	used := map[string]bool{}

	ran := 0
	for path, text := range documents(t) {
		for _, match := range fence.FindAllStringSubmatch(text, -1) {
			if !slices.Contains([]string{"sh", "promql", "text", "yaml", "ini"}, match[1]) {
				t.Errorf("%s: nobody looks at blocks of %q", path, match[1])
			}
		}
		commands := blocks(text, "sh")
		for _, command := range inText(text) {
			i := slices.IndexFunc(excused, func(e string) bool { return strings.HasPrefix(command, e+" ") || command == e })
			if i < 0 {
				commands = append(commands, command)
			} else {
				used[excused[i]] = true
			}
		}
		for _, block := range commands {
			if strings.HasPrefix(strings.TrimSpace(block), "# Not run by the tests") {
				continue
			}
			var demo *process
			for line := range strings.Lines(strings.ReplaceAll(block, "\\\n", " ")) {
				line, comment, _ := strings.Cut(strings.TrimSpace(line), "#")
				line = strings.TrimPrefix(strings.TrimSpace(line), "./")
				address, isCurl := strings.CutPrefix(line, "curl http://localhost:10060")
				switch {
				case line == "", strings.HasPrefix(line, "docker build "): // the block says that nobody builds the image
					continue
				case line == "go run . --demo":
					demo = start(t, nil, "--demo")
				case isCurl:
					if demo == nil {
						demo = start(t, nil, "--demo")
					}
					if status, body := demo.get(t, address); status != 200 {
						t.Errorf("%s: %s answered %d %s", path, line, status, body)
					}
				case line == "go build .": // as TestMain does
				case line == "go run ./dashboards/history": // an hour of it instead of a month
					out, err := exec.CommandContext(t.Context(), "go", "run", "./dashboards/history", "-days=0.04").Output()
					if err != nil || !strings.HasSuffix(string(out), "\n# EOF\n") {
						t.Errorf("%s: %s: %v, and %d bytes", path, line, err, len(out))
					}
				case strings.HasPrefix(line, "go "), line == "bash .ci/run":
					// What checks every change runs this very test.
					if line != "bash .ci/run" && !strings.Contains(string(checks), "\n"+line+"\n") {
						t.Errorf("%s: %s is not among what checks every change", path, line)
					}
				case strings.HasPrefix(line, name+" "):
					cmd := exec.CommandContext(t.Context(), "sh", "-c", line)
					cmd.Dir = t.TempDir()
					cmd.Env = []string{"PATH=" + filepath.Dir(binary) + ":/usr/bin:/bin", "HOME=" + t.TempDir()}
					if !strings.Contains(line, "--demo") {
						cmd.Env = append(cmd.Env, real...)
					}
					out, err := cmd.CombinedOutput()
					// What the demo's tenant cannot show without a failure fails here, too.
					bare := []string{name + " check", name + " export scores", name + " export controls"}
					failing := strings.Contains(comment, "exit code 1") || slices.Contains(bare, line)
					if (err != nil) != failing || failing && cmd.ProcessState.ExitCode() != 1 {
						t.Errorf("%s: %s: %v\n%.2000s", path, line, err, out)
					}
				default:
					t.Errorf("%s: nothing runs %q, and its block does not say so", path, line)
				}
				ran++
			}
			if demo != nil {
				demo.stop(t, syscall.SIGTERM)
			}
		}
	}
	if ran < 20 {
		t.Errorf("only %d commands were found", ran)
	}
	for _, e := range excused {
		if !used[e] {
			t.Errorf("the README excuses %q, and no text has it", e)
		}
	}
}

// ruleExpr is the expression of a rule that stands on one line.
var ruleExpr = regexp.MustCompile(`(?m)^ *expr: (.+)$`)

// Every query in a document, those of rules too, parses and selects what the exporter has, by labels
// that it has.
func TestQueries(t *testing.T) {
	t.Parallel()
	labels := map[string][]string{}
	for _, row := range table(t, "docs/metrics.md", "Metric", "Type", "Labels") {
		metric := code(row[0])
		own := strings.FieldsFunc(row[2], func(r rune) bool { return strings.ContainsRune("`, ", r) })
		if slices.Contains(own, "environment") {
			own = append(own, "connector")
		}
		labels[metric] = own
		if row[1] == "histogram" {
			labels[metric+"_bucket"] = append(slices.Clone(own), "le")
		}
	}
	rules, err := os.ReadFile(filepath.Join("dashboards", "rules", "recording-rules.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	promQL := parser.NewParser(parser.Options{})
	queries := 0
	for path, text := range documents(t) {
		exprs := blocks(text, "promql")
		for _, block := range blocks(text, "yaml") {
			for _, match := range ruleExpr.FindAllStringSubmatch(block, -1) {
				exprs = append(exprs, match[1])
			}
		}
		for _, query := range exprs {
			queries++
			expr, err := promQL.ParseExpr(query)
			if err != nil {
				t.Errorf("%s: %s: %v", path, query, err)
				continue
			}
			var all []string
			parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
				if v, ok := node.(*parser.VectorSelector); ok {
					known, ok := labels[v.Name]
					if strings.Contains(string(rules), "record: "+v.Name+"\n") {
						known, ok = []string{"subscription_id", "subscription_name"}, true
					}
					if !ok {
						t.Errorf("%s: there is no metric %q", path, v.Name)
					}
					all = append(all, known...)
					for _, m := range v.LabelMatchers {
						if m.Name != model.MetricNameLabel && !slices.Contains(known, m.Name) {
							t.Errorf("%s: %s has no label %s", path, v.Name, m.Name)
						}
					}
				}
				return nil
			})
			for _, name := range joined(expr) {
				if !slices.Contains(all, name) {
					t.Errorf("%s: nothing in %s has the label %s", path, query, name)
				}
			}
		}
	}
	if queries < 30 {
		t.Errorf("only %d queries were found", queries)
	}
}

// joined are the labels that a query groups and joins by.
func joined(expr parser.Expr) []string {
	var names []string
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		switch n := node.(type) {
		case *parser.AggregateExpr:
			names = append(names, n.Grouping...)
		case *parser.BinaryExpr:
			if n.VectorMatching != nil {
				names = append(append(names, n.VectorMatching.MatchingLabels...), n.VectorMatching.Include...)
			}
		}
		return nil
	})
	return names
}

// Every metric of the table has a heading, an example as it is exposed, and a
// query that uses it.
func TestMetricsOneByOne(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := start(t, nil, "--demo").scrape(t)
	for _, row := range table(t, "docs/metrics.md", "Metric", "Type", "Labels") {
		metric := code(row[0])
		_, section, ok := strings.Cut(string(text), "\n### `"+metric+"`\n")
		if !ok {
			t.Errorf("%s has no heading of its own", metric)
			continue
		}
		section, _, _ = strings.Cut(section, "\n### ")
		examples, queries := blocks(section, "text"), blocks(section, "promql")
		if len(examples) != 1 || len(queries) != 1 || !strings.Contains(queries[0], metric) {
			t.Errorf("%s has the examples %q and the queries %q", metric, examples, queries)
			continue
		}
		// The example has the labels that the program has.
		var want, got []string
		for _, l := range shown[metric].GetMetric()[0].GetLabel() {
			want = append(want, l.GetName())
		}
		for _, match := range regexp.MustCompile(`(\w+)="`).FindAllStringSubmatch(examples[0], -1) {
			got = append(got, match[1])
		}
		slices.Sort(want)
		slices.Sort(got)
		if !strings.HasPrefix(examples[0], metric) || !slices.Equal(want, got) {
			t.Errorf("the example %s has other labels than %q", examples[0], want)
		}
	}
}

// The commands of the README are those of the program.
func TestReadmeCommands(t *testing.T) {
	t.Parallel()
	var documented, commands []string
	for _, row := range table(t, "README.md", "Command", "What it does") {
		documented = append(documented, code(row[0]))
	}
	app := newApp(&config{})
	if _, err := app.ParseContext(nil); err != nil { // adds help
		t.Fatal(err)
	}
	for _, c := range app.Model().FlattenedCommands() {
		commands = append(commands, c.FullCommand)
	}
	slices.Sort(documented)
	slices.Sort(commands)
	if !slices.Equal(documented, commands) {
		t.Errorf("the README has the commands %q, the program %q", documented, commands)
	}
}
