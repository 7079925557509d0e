package simulator

// The part of the Kusto language that the simulator's Resource Graph understands:
//
//	TABLE | where type in~ ('TYPE', …) | project NAME = COLUMN, … | order by id asc
//	TABLE | where type in~ ('TYPE', …)
//	  | summarize LIST = make_list(bag_pack('NAME', COLUMN, …)) by subscriptionId
//
// with =~ or == for a single type, pack for bag_pack, and PART = hash(subscriptionId, N) to group
// by.

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// graphPlan is a parsed query.
type graphPlan struct {
	table   *graphTable
	types   []string // in lower case
	columns []graphColumn
	packing string // bag_pack or pack; empty for plain rows
	list    string // the column of packed items
	group   string // the column that packed items are grouped by
	parts   uint32 // the hash buckets to group by; 0 groups by subscription

	assessments *assessmentPlan // of a query about recommendations; nil for others
}

// graphColumn is a column of a plain row, or a key of a packed item.
type graphColumn struct {
	name   string
	key    string // in JSON, with a colon
	append columnFunc
}

// pages reports whether the rows can be paged. Resource Graph needs a column called id to do that.
func (p *graphPlan) pages() bool {
	return p.packing == "" &&
		slices.ContainsFunc(p.columns, func(c graphColumn) bool { return c.name == "id" })
}

var (
	whereType = regexp.MustCompile(`^where type ?(?:(?:=~|==) ?('[^']*')|in~ ?\(([^)]*)\))$`)
	summarize = regexp.MustCompile(`^summarize (\w+) ?= ?make_list ?\( ?(bag_pack|pack) ?` +
		`\((.*)\) ?\) by (.*)$`)
	hashed    = regexp.MustCompile(`^(\w+) ?= ?hash ?\( ?subscriptionId ?, ?([1-9][0-9]{0,3}) ?\)$`)
	orderByID = regexp.MustCompile(`^(?:order|sort) by id(?: asc)?$`)
	quoted    = regexp.MustCompile(`^'([^']*)'$`)
	renamed   = regexp.MustCompile(`^(\w+) ?= ?(.*)$`)
)

// parseGraphQuery parses a query. White space does not matter.
func parseGraphQuery(query string) (*graphPlan, error) {
	if plan := parseAssessmentQuery(query); plan != nil {
		return plan, nil
	}
	stages := strings.Split(strings.Join(strings.Fields(query), " "), "|")
	for i := range stages {
		stages[i] = strings.TrimSpace(stages[i])
	}
	table, ok := graphTables[stages[0]]
	if !ok {
		return nil, fmt.Errorf("unknown table %q", stages[0])
	}
	plan := &graphPlan{table: table}
	for _, stage := range stages[1:] {
		if err := plan.parseStage(stage); err != nil {
			return nil, err
		}
	}
	if len(plan.types) == 0 || len(plan.columns) == 0 {
		return nil, fmt.Errorf("the query names no type or no column")
	}
	return plan, nil
}

func (p *graphPlan) parseStage(stage string) error {
	if m := whereType.FindStringSubmatch(stage); m != nil && len(p.types) == 0 {
		return p.parseTypes(m[1] + m[2])
	}
	if list, ok := strings.CutPrefix(stage, "project "); ok && len(p.columns) == 0 {
		return p.parseColumns(list)
	}
	if m := summarize.FindStringSubmatch(stage); m != nil && len(p.columns) == 0 {
		p.list, p.packing = m[1], m[2]
		if err := p.parseGroup(m[4]); err != nil {
			return err
		}
		return p.parseItem(m[3])
	}
	if orderByID.MatchString(stage) && p.pages() {
		return nil
	}
	return fmt.Errorf("cannot parse %q", stage)
}

func (p *graphPlan) parseTypes(list string) error {
	for _, item := range splitTop(list, ',') {
		m := quoted.FindStringSubmatch(item)
		if m == nil || !slices.Contains(p.table.types, strings.ToLower(m[1])) {
			return fmt.Errorf("unknown type %s of table %s", item, p.table.name)
		}
		p.types = append(p.types, strings.ToLower(m[1]))
	}
	return nil
}

// parseColumns parses the columns of a plain row: "id" or "state = properties.state".
func (p *graphPlan) parseColumns(list string) error {
	for _, item := range splitTop(list, ',') {
		name, column := item, item
		if m := renamed.FindStringSubmatch(item); m != nil {
			name, column = m[1], m[2]
		}
		if err := p.addColumn(name, column); err != nil {
			return err
		}
	}
	return nil
}

// parseItem parses the keys and columns of a packed item.
func (p *graphPlan) parseItem(list string) error {
	items := splitTop(list, ',')
	if len(items)%2 != 0 {
		return fmt.Errorf("%s needs keys and values", p.packing)
	}
	for pair := range slices.Chunk(items, 2) {
		m := quoted.FindStringSubmatch(pair[0])
		if m == nil {
			return fmt.Errorf("cannot parse the key %s", pair[0])
		}
		if err := p.addColumn(m[1], pair[1]); err != nil {
			return err
		}
	}
	return nil
}

func (p *graphPlan) parseGroup(group string) error {
	if group == "subscriptionId" {
		p.group = group
		return nil
	}
	m := hashed.FindStringSubmatch(group)
	if m == nil {
		return fmt.Errorf("cannot group by %q", group)
	}
	parts, err := strconv.ParseUint(m[2], 10, 32)
	p.group, p.parts = m[1], uint32(parts)
	return err
}

func (p *graphPlan) addColumn(name, column string) error {
	value, ok := p.table.columns[column]
	if !ok {
		return fmt.Errorf("unknown column %q of table %s", column, p.table.name)
	}
	p.columns = append(p.columns, graphColumn{name, string(marshal(name)) + ":", value})
	return nil
}
