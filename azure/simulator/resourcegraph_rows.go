package simulator

// The tables of Resource Graph and the rows that a query makes of them. Rendered rows are cached
// for each subscription and query, because measurements share the machine with the simulator.

import (
	"cmp"
	"encoding/json"
	"hash/crc32"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// graphTable is a table with the types and columns that the simulator knows.
type graphTable struct {
	name    string
	types   []string
	columns map[string]columnFunc
	// rows returns the rows of a subscription, ordered by ID.
	rows func(*graphSubscription, time.Time) []graphRow
	// listed tables have the rows of every subscription that ARM lists, NoAccess or not.
	listed bool
}

// columnFunc appends the column's JSON value in a row.
type columnFunc func(dst []byte, r *graphRow) []byte

// graphRow is a resource: a score, a control or a subscription.
type graphRow struct {
	sub            *graphSubscription
	id, name, kind string

	displayName string
	score       Score
	weight      int
	environment string
	control     *Control // nil for a score
}

const (
	typeScore        = "microsoft.security/securescores"
	typeControl      = "microsoft.security/securescores/securescorecontrols"
	typeSubscription = "microsoft.resources/subscriptions"
)

var graphTables = map[string]*graphTable{
	"securityresources": {
		name:  "securityresources",
		types: []string{typeScore, typeControl},
		rows:  scoreRows,
		columns: map[string]columnFunc{
			"id":                          text(func(r *graphRow) string { return r.id }),
			"name":                        text(func(r *graphRow) string { return r.name }),
			"type":                        text(func(r *graphRow) string { return r.kind }),
			"subscriptionId":              text(func(r *graphRow) string { return r.sub.id }),
			"tenantId":                    text(func(*graphRow) string { return TenantID }),
			"properties.displayName":      text(func(r *graphRow) string { return r.displayName }),
			"properties.environment":      text(func(r *graphRow) string { return r.environment }),
			"properties.score":            appendScore,
			"properties.score.max":        number(func(r *graphRow) float64 { return r.score.Max }),
			"properties.score.current":    number(func(r *graphRow) float64 { return r.score.Current }),
			"properties.score.percentage": number(func(r *graphRow) float64 { return r.score.Ratio }),
			"properties.weight":           number(func(r *graphRow) float64 { return float64(r.weight) }),

			"properties.healthyResourceCount":       count(func(c *Control) int { return c.Healthy }),
			"properties.unhealthyResourceCount":     count(func(c *Control) int { return c.Unhealthy }),
			"properties.notApplicableResourceCount": count(func(c *Control) int { return c.NotApplicable }),
		},
	},
	"resourcecontainers": {
		name:   "resourcecontainers",
		types:  []string{typeSubscription},
		rows:   subscriptionRows,
		listed: true,
		columns: map[string]columnFunc{
			"id":               text(func(r *graphRow) string { return r.id }),
			"name":             text(func(r *graphRow) string { return r.name }),
			"type":             text(func(r *graphRow) string { return r.kind }),
			"subscriptionId":   text(func(r *graphRow) string { return r.sub.id }),
			"tenantId":         text(func(*graphRow) string { return TenantID }),
			"properties.state": text(func(r *graphRow) string { return r.sub.state() }),
			"tags":             appendTags,

			"properties.managementGroupAncestorsChain": appendAncestors,
		},
	},
}

func text(value func(*graphRow) string) columnFunc {
	return func(dst []byte, r *graphRow) []byte { return appendString(dst, value(r)) }
}

func number(value func(*graphRow) float64) columnFunc {
	return func(dst []byte, r *graphRow) []byte {
		return strconv.AppendFloat(dst, value(r), 'f', -1, 64)
	}
}

// count is null for a score.
func count(value func(*Control) int) columnFunc {
	return func(dst []byte, r *graphRow) []byte {
		if r.control == nil {
			return append(dst, "null"...)
		}
		return strconv.AppendInt(dst, int64(value(r.control)), 10)
	}
}

func appendScore(dst []byte, r *graphRow) []byte {
	dst = strconv.AppendFloat(append(dst, `{"max":`...), r.score.Max, 'f', -1, 64)
	dst = appendDouble(append(dst, `,"current":`...), r.score.Current)
	dst = appendDouble(append(dst, `,"percentage":`...), r.score.Ratio)
	return append(dst, '}')
}

// appendTags is null without tags.
func appendTags(dst []byte, r *graphRow) []byte { return append(dst, marshal(r.sub.Tags)...) }

// appendAncestors is null in a tenant without management groups.
func appendAncestors(dst []byte, r *graphRow) []byte {
	type ancestor struct {
		Name        string `json:"name"`
		DisplayName string `json:"displayName"`
	}
	var chain []ancestor
	for _, group := range r.sub.ancestors {
		chain = append(chain, ancestor{group.id, group.name})
	}
	return append(dst, marshal(chain)...)
}

// appendDouble always writes a decimal point, as Azure's doubles have: 37.0.
func appendDouble(dst []byte, f float64) []byte {
	dst = strconv.AppendFloat(dst, f, 'f', -1, 64)
	if f == math.Trunc(f) {
		dst = append(dst, ".0"...)
	}
	return dst
}

// appendString spares encoding/json for strings that need no escapes, which nearly all are.
func appendString(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return append(dst, marshal(s)...)
		}
	}
	return append(append(append(dst, '"'), s...), '"')
}

// marshal encodes strings and what consists of them, which cannot fail.
func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// graphSubscription is a subscription with its rendered rows.
type graphSubscription struct {
	Subscription
	id        string            // in lower case
	ancestors []managementGroup // the parent first
	rendered  sync.Map          // [][]byte by *graphPlan
	derived   atomic.Pointer[derivedAssessments]
}

// render returns the rows of the subscription, or its comma-separated items if the query packs
// those of several subscriptions into a row.
func (g *graphSubscription) render(p *graphPlan, now time.Time) [][]byte {
	if rows, ok := g.rendered.Load(p); ok {
		return rows.([][]byte)
	}
	rows := g.renderAt(p, now)
	if p.table.listed || !g.drifts() {
		g.rendered.Store(p, rows)
	}
	return rows
}

func (g *graphSubscription) renderAt(p *graphPlan, now time.Time) [][]byte {
	resources := p.table.rows(g, now)
	buffer := make([]byte, 0, 512*len(resources))
	var rows [][]byte
	for _, r := range resources {
		if !slices.Contains(p.types, r.kind) {
			continue
		}
		if p.packing != "" && len(buffer) > 0 {
			buffer = append(buffer, ',')
		}
		buffer = p.appendRow(buffer, &r)
		if p.packing == "" {
			rows = append(rows, slices.Clone(buffer))
			buffer = buffer[:0]
		}
	}
	switch {
	case len(buffer) == 0:
		return rows
	case p.parts == 0:
		return [][]byte{p.packedRow(marshal(g.id), [][]byte{buffer})}
	default:
		return [][]byte{slices.Clone(buffer)}
	}
}

func (p *graphPlan) appendRow(dst []byte, r *graphRow) []byte {
	for i, c := range p.columns {
		dst = append(dst, "{,"[min(i, 1)])
		dst = c.append(append(dst, c.key...), r)
	}
	return append(dst, '}')
}

// rows returns all rows of the query.
func (p *graphPlan) rows(scope []*graphSubscription, now time.Time) [][]byte {
	if p.assessments != nil {
		return p.assessments.rows(scope, now)
	}
	var rows [][]byte
	if p.parts == 0 {
		for _, sub := range scope {
			rows = append(rows, sub.render(p, now)...)
		}
		return rows
	}
	parts := make([][][]byte, p.parts)
	for _, sub := range scope {
		// Kusto has a hash of its own, which no client can depend on.
		part := crc32.ChecksumIEEE([]byte(sub.id)) % p.parts
		parts[part] = append(parts[part], sub.render(p, now)...)
	}
	for part, items := range parts {
		if len(items) > 0 {
			rows = append(rows, p.packedRow(strconv.AppendInt(nil, int64(part), 10), items))
		}
	}
	return rows
}

// packedRow is the row of a group, whose key is a JSON value.
func (p *graphPlan) packedRow(key []byte, items [][]byte) []byte {
	size := len(p.group) + len(p.list) + len(key) + 16
	for _, item := range items {
		size += len(item) + 1
	}
	row := append(make([]byte, 0, size), '{')
	row = append(append(appendString(row, p.group), ':'), key...)
	row = append(appendString(append(row, ','), p.list), ":["...)
	for i, item := range items {
		if i > 0 {
			row = append(row, ',')
		}
		row = append(row, item...)
	}
	return append(row, "]}"...)
}

// subscriptionRows is the row of the subscription itself.
func subscriptionRows(g *graphSubscription, _ time.Time) []graphRow {
	return []graphRow{{sub: g, id: g.path(), name: g.Name, kind: typeSubscription}}
}

// scoreRows are the scores and controls of the subscription and its connectors. A disabled
// subscription has none.
func scoreRows(g *graphSubscription, now time.Time) []graphRow {
	if g.state() == "Disabled" || g.state() == "Deleted" {
		return nil
	}
	sub := g.At(now)
	var rows []graphRow
	if !g.NoScore {
		rows = appendScoreRows(rows, g, sub.path(), "Azure", sub.Controls)
	}
	for _, c := range sub.Connectors {
		rows = appendScoreRows(rows, g, sub.path()+connectorPath+c.Name, c.Environment, c.Controls)
	}
	if g.lowercaseIDs() {
		for i := range rows {
			rows[i].id = strings.ToLower(rows[i].id)
		}
	}
	slices.SortFunc(rows, func(a, b graphRow) int { return cmp.Compare(a.id, b.id) })
	return rows
}

const connectorPath = "/resourceGroups/security-connectors" +
	"/providers/Microsoft.Security/securityConnectors/"

// appendScoreRows appends the score of a subscription or connector, and its controls.
func appendScoreRows(
	rows []graphRow, g *graphSubscription, scope, environment string, controls []Control,
) []graphRow {
	id := scope + "/providers/Microsoft.Security/secureScores/ascScore"
	rows = append(slices.Grow(rows, 1+len(controls)), graphRow{
		sub: g, id: id, name: "ascScore", kind: typeScore,
		displayName: "ASC score",
		score:       totalScore(controls),
		weight:      totalWeight(controls),
		environment: environment,
	})
	for i := range controls {
		c := &controls[i]
		rows = append(rows, graphRow{
			sub: g, id: id + "/secureScoreControls/" + c.ID, name: c.ID, kind: typeControl,
			displayName: c.DisplayName,
			score:       c.Score(),
			weight:      c.Weight(),
			environment: environment,
			control:     c,
		})
	}
	return rows
}
