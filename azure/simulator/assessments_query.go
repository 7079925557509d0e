package simulator

// The queries about assessments. Their Kusto is more than the simulator parses, so it recognizes a
// query by the columns of its result:
//
//	subscriptionId, assessments, items                                packed counts
//	subscriptionId, key, source, connector, u, h, x, n, s, p, id      plain counts
//	id, name, severity, effort, impact, category, preview             texts of recommendations
//	control, keys                                                     recommendations of controls
//
// Of the rest it only looks for what changes the rows: the filter of properties.scope, the two
// spellings of resourceDetails, the folding of categories, blanks for healthy recommendations, and
// "hash(tolower(name)) % N == I".

import (
	"cmp"
	"fmt"
	"hash/crc32"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const typeAssessment = "microsoft.security/assessments"

// assessmentPlan is a parsed query about assessments.
type assessmentPlan struct {
	kind             string // packed, plain, names or controls
	scoped, folded   bool   // has the filter, folds or leaves out categories
	pascal, camel    bool   // reads resourceDetails.Source, .source
	onlyUnhealthy    bool
	byName, byID     hashFilter
	counted          sync.Map // *countedAssessments by *Assessment, the first of those that several subscriptions share
	assessmentsTable bool
}

type hashFilter struct{ modulus, remainder uint32 }

func (f hashFilter) matches(text string) bool {
	return f.modulus == 0 || crc32.ChecksumIEEE([]byte(text))%f.modulus == f.remainder
}

var hashStage = regexp.MustCompile(`^where hash\(tolower\((name|id)\)\) % (\d+) == (\d+)$`)

var assessmentResults = map[string]string{
	"assessments,items,subscriptionId":                   "packed",
	"connector,h,id,key,n,p,s,source,subscriptionId,u,x": "plain",
	"category,effort,id,impact,name,preview,severity":    "names",
	"control,keys":    "controls",
	"control,id,keys": "controls",
}

// parseAssessmentQuery returns nil for a query about anything else.
func parseAssessmentQuery(query string) *graphPlan {
	stages := splitTop(strings.Join(strings.Fields(query), " "), '|')
	columns := resultColumns(stages)
	slices.Sort(columns)
	kind, ok := assessmentResults[strings.Join(columns, ",")]
	wanted := typeAssessment
	if kind == "controls" {
		wanted = typeControl
	}
	if !ok || stages[0] != "securityresources" || !strings.Contains(strings.ToLower(query), "'"+wanted+"'") {
		return nil
	}
	p := &assessmentPlan{
		kind: kind, assessmentsTable: kind != "controls",
		scoped: strings.Contains(query, "properties.scope"), folded: strings.Contains(query, "DynamicBuiltIn"),
		pascal: strings.Contains(query, "resourceDetails.Source"), camel: strings.Contains(query, "resourceDetails.source"),
		onlyUnhealthy: strings.Contains(query, "u + x > 0"),
	}
	for _, stage := range stages {
		if m := hashStage.FindStringSubmatch(stage); m != nil {
			modulus, _ := strconv.ParseUint(m[2], 10, 32) // digits
			remainder, _ := strconv.ParseUint(m[3], 10, 32)
			f := hashFilter{uint32(modulus), uint32(remainder)}
			if m[1] == "name" {
				p.byName = f
			} else {
				p.byID = f
			}
		}
	}
	plan := &graphPlan{table: graphTables["securityresources"], assessments: p}
	if slices.Contains(columns, "id") {
		plan.columns = []graphColumn{{name: "id"}} // a page has a token for the next one
	}
	if kind == "packed" {
		plan.packing = "make_list"
	}
	return plan
}

// splitTop splits at a separator outside quotes and parentheses.
func splitTop(text string, separator byte) []string {
	var parts []string
	depth, start, quoted := 0, 0, false
	for i := range len(text) {
		switch c := text[i]; {
		case c == '\'':
			quoted = !quoted
		case quoted:
		case c == '(' || c == '[':
			depth++
		case c == ')' || c == ']':
			depth--
		case c == separator && depth == 0:
			parts = append(parts, strings.TrimSpace(text[start:i]))
			start = i + 1
		}
	}
	return append(parts, strings.TrimSpace(text[start:]))
}

// resultColumns are the names of the columns after the last summarize or project.
func resultColumns(stages []string) []string {
	var columns []string
	for _, stage := range stages {
		operator, list, _ := strings.Cut(stage, " ")
		switch operator {
		case "summarize", "project":
			columns = nil
			if by, ok := strings.CutPrefix(list, "by "); ok {
				list = by
			}
			list = strings.Replace(list, ") by ", "), ", 1) // the last aggregate ends before the groups
		case "extend":
		default:
			continue
		}
		for _, column := range splitTop(list, ',') {
			name, _, _ := strings.Cut(column, "=")
			if name = strings.TrimSpace(name); !slices.Contains(columns, name) {
				columns = append(columns, name)
			}
		}
	}
	return columns
}

// rows are the rows of the query.
func (p *assessmentPlan) rows(scope []*graphSubscription, now time.Time) [][]byte {
	switch p.kind {
	case "names":
		return p.nameRows(scope, now)
	case "controls":
		return controlRows(scope)
	}
	var rows [][]byte
	for _, sub := range scope {
		counted := p.count(sub, now)
		switch {
		case counted.assessments == 0:
		case p.kind == "packed":
			row := fmt.Appendf(make([]byte, 0, len(counted.items)+100),
				`{"subscriptionId":%q,"assessments":%d,"items":[`, sub.id, counted.assessments)
			rows = append(rows, append(append(row, counted.items...), "]}"...))
		default:
			for _, c := range counted.counts {
				rows = append(rows, c.plain(sub.id))
			}
		}
	}
	if p.kind == "plain" {
		slices.SortFunc(rows, slices.Compare)
	}
	return rows
}

// assessmentCount is the result of the summarize.
type assessmentCount struct {
	key, source, connector string
	s, u, h, x, n, p       int
}

func (c *assessmentCount) plain(subscription string) []byte {
	id := strings.Join([]string{subscription, c.key, c.source, c.connector}, "|")
	return fmt.Appendf(nil,
		`{"id":%s,"subscriptionId":%q,"key":%s,"source":%s,"connector":%s,"u":%d,"h":%d,"x":%d,"n":%d,"s":%d,"p":%d}`,
		marshal(id), subscription, marshal(c.key), marshal(c.source), marshal(c.connector), c.u, c.h, c.x, c.n, c.s, c.p)
}

type countedAssessments struct {
	assessments int
	counts      []*assessmentCount
	items       []byte // of a packed row
}

// count counts the subscription's assessments. Those that several subscriptions share are counted
// once.
func (p *assessmentPlan) count(sub *graphSubscription, now time.Time) *countedAssessments {
	rows := sub.assessmentsAt(now)
	if len(rows) == 0 {
		return &countedAssessments{}
	}
	if counted, ok := p.counted.Load(&rows[0]); ok {
		return counted.(*countedAssessments)
	}
	counted := p.countRows(rows)
	if sub.Assessments != nil {
		p.counted.Store(&rows[0], counted)
	}
	return counted
}

func (p *assessmentPlan) countRows(rows []Assessment) *countedAssessments {
	type group struct{ key, source, connector string }
	groups := map[group]*assessmentCount{}
	counted := &countedAssessments{}
	for i := range rows {
		a := &rows[i]
		if !p.selects(a) {
			continue
		}
		g := group{strings.ToLower(a.Key), "", strings.ToLower(a.Connector)}
		if a.folds() && p.folded {
			g.key = "category:" + a.Dynamic
		}
		if a.CamelCase && p.camel || !a.CamelCase && p.pascal {
			g.source = strings.ToLower(a.Source)
		}
		c := groups[g]
		if c == nil {
			c = &assessmentCount{key: g.key, source: g.source, connector: g.connector}
			groups[g] = c
			counted.counts = append(counted.counts, c)
		}
		c.add(a)
		counted.assessments++
	}
	for i, c := range counted.counts {
		if i > 0 {
			counted.items = append(counted.items, ',')
		}
		item := ""
		if c.u+c.x > 0 || !p.onlyUnhealthy {
			item = fmt.Sprintf("%s|%s|%s|%d|%d|%d|%d|%d|%d", c.key, c.source, c.connector, c.s, c.u, c.h, c.n, c.x, c.p)
		}
		counted.items = appendString(counted.items, item)
	}
	if p.onlyUnhealthy {
		counted.counts = slices.DeleteFunc(counted.counts, func(c *assessmentCount) bool { return c.u+c.x == 0 })
	}
	return counted
}

func (p *assessmentPlan) selects(a *Assessment) bool {
	return (!p.scoped || a.ofPortal()) && p.byName.matches(strings.ToLower(a.Key)) && (p.byID.modulus == 0 || p.byID.matches(a.id()))
}

// size is the number of rows that the query reads.
func (p *assessmentPlan) size(scope []*graphSubscription, now time.Time) int {
	if !p.assessmentsTable {
		return 0
	}
	size := 0
	for _, sub := range scope {
		rows := sub.assessmentsAt(now)
		for i := range rows {
			if p.selects(&rows[i]) {
				size++
			}
		}
	}
	return size
}

// folds reports whether queries fold the recommendation into its category.
func (r *Recommendation) folds() bool {
	return r.Dynamic != "" && !strings.EqualFold(r.Dynamic, "Unknown")
}

func (c *assessmentCount) add(a *Assessment) {
	switch {
	case strings.EqualFold(a.State, "Unhealthy"):
		c.u++
		c.s = max(c.s, a.severity())
	case strings.EqualFold(a.State, "Healthy"):
		c.h++
	case strings.EqualFold(a.State, "NotApplicable") && !strings.EqualFold(a.Cause, "Exempt"):
		c.n++
	}
	if strings.EqualFold(a.Cause, "Exempt") {
		c.x++
	}
	if a.Preview {
		c.p++
	}
}

func (r *Recommendation) severity() int {
	return slices.Index([]string{"", "low", "medium", "high", "critical"}, strings.ToLower(r.Severity))
}

// nameRows are the texts of all recommendations that are unhealthy or exempt, as sets.
func (p *assessmentPlan) nameRows(scope []*graphSubscription, now time.Time) [][]byte {
	type texts struct {
		ID       string   `json:"id"`
		Name     []string `json:"name"`
		Severity int      `json:"severity"`
		Effort   []string `json:"effort"`
		Impact   []string `json:"impact"`
		Category []string `json:"category"`
		Preview  int      `json:"preview"`
	}
	add := func(set []string, text string) []string {
		if text == "" || slices.Contains(set, text) || len(set) == 16 {
			return set
		}
		return append(set, text)
	}
	byID := map[string]*texts{}
	done := map[*Assessment]bool{}
	for _, sub := range scope {
		rows := sub.assessmentsAt(now)
		if len(rows) == 0 || done[&rows[0]] {
			continue
		}
		done[&rows[0]] = true
		for i := range rows {
			a := &rows[i]
			unhealthy := strings.EqualFold(a.State, "Unhealthy") || strings.EqualFold(a.Cause, "Exempt")
			if !unhealthy || a.folds() && p.folded || p.scoped && !a.ofPortal() {
				continue
			}
			id := strings.ToLower(a.Key)
			t := byID[id]
			if t == nil {
				t = &texts{ID: id, Name: []string{}, Effort: []string{}, Impact: []string{}, Category: []string{}, Preview: 1}
				byID[id] = t
			}
			t.Name, t.Effort, t.Impact = add(t.Name, a.Name), add(t.Effort, a.Effort), add(t.Impact, a.UserImpact)
			if len(a.Categories) > 0 {
				t.Category = add(t.Category, a.Categories[0])
			}
			t.Severity = max(t.Severity, a.severity())
			if !a.Preview {
				t.Preview = 0
			}
		}
	}
	ordered := make([]*texts, 0, len(byID))
	for _, t := range byID {
		ordered = append(ordered, t)
	}
	slices.SortFunc(ordered, func(a, b *texts) int { return cmp.Compare(a.ID, b.ID) })
	rows := make([][]byte, len(ordered))
	for i, t := range ordered {
		rows[i] = marshal(t)
	}
	return rows
}

// controlRows are the definitions of the controls, once per variant.
func controlRows(scope []*graphSubscription) [][]byte {
	variants := map[string][]byte{}
	add := func(controls []Control) {
		for _, c := range controls {
			definitions := []map[string]string{}
			for _, r := range c.Recommendations {
				if r.mapped() {
					definitions = append(definitions, map[string]string{"id": "/providers/Microsoft.Security/assessmentMetadata/" + r.Key})
				}
			}
			if len(definitions) == 0 {
				continue
			}
			keys := string(marshal(definitions))
			id := fmt.Sprintf("%s%d", strings.ToLower(c.ID), crc32.ChecksumIEEE([]byte(keys)))
			variants[id] = marshal(map[string]string{"control": strings.ToLower(c.ID), "keys": keys, "id": id})
		}
	}
	for _, sub := range scope {
		if sub.state() == "Disabled" || sub.state() == "Deleted" {
			continue
		}
		add(sub.Controls)
		for _, c := range sub.Connectors {
			add(c.Controls)
		}
	}
	ids := make([]string, 0, len(variants))
	for id := range variants {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	rows := make([][]byte, len(ids))
	for i, id := range ids {
		rows[i] = variants[id]
	}
	return rows
}

// derivedAssessments are those of a subscription at a time. A client that splits a query asks
// often.
type derivedAssessments struct {
	at   time.Time
	rows []Assessment
}

// assessmentsAt are the rows that Resource Graph has of the subscription.
func (g *graphSubscription) assessmentsAt(now time.Time) []Assessment {
	if g.state() == "Disabled" || g.state() == "Deleted" {
		return nil
	}
	if last := g.derived.Load(); last != nil && last.at.Equal(now) {
		return last.rows
	}
	rows := g.AssessmentsAt(now)
	g.derived.Store(&derivedAssessments{now, rows})
	return rows
}
