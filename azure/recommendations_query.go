package azure

import (
	"fmt"
	"strings"
)

const (
	assessments = `securityresources
| where type =~ 'microsoft.security/assessments'
| where tostring(properties.scope) in~ ('', 'Subscription', 'MultiCloudAggregation')`

	// countAssessments counts the rows of each recommendation. Recommendations that Azure creates per
	// software, secret or finding are folded by category, because their number has no bound. Azure
	// spells resourceDetails.Source in both ways.
	countAssessments = `
| extend state = tostring(properties.status.code), cause = tostring(properties.status.cause),
  category = tostring(properties.metadata.recommendationCategory), severity = tostring(properties.metadata.severity),
  source = tolower(coalesce(tostring(properties.resourceDetails.Source), tostring(properties.resourceDetails.source))),
  connector = iff(id contains '/securityConnectors/', extract('/securityconnectors/([^/]+)', 1, tolower(id)), '')
| extend key = iff(tostring(properties.metadata.assessmentType) =~ 'DynamicBuiltIn' and isnotempty(category) and category !~ 'Unknown', strcat('category:', category), tolower(name))
| summarize u = countif(state =~ 'Unhealthy'), h = countif(state =~ 'Healthy'), x = countif(cause =~ 'Exempt'), n = countif(state =~ 'NotApplicable' and cause !~ 'Exempt'),
  s = max(iff(state =~ 'Unhealthy', ` + severityNumber + `, 0)), p = countif(tobool(properties.metadata.preview))
  by subscriptionId, key, source, connector`

	severityNumber = `case(severity =~ 'Critical', 4, severity =~ 'High', 3, severity =~ 'Medium', 2, severity =~ 'Low', 1, 0)`

	packedItem = `strcat(key, '|', source, '|', connector, '|', tostring(s), '|', tostring(u), '|', tostring(h), '|', tostring(n), '|', tostring(x), '|', tostring(p))`
)

// countsQuery returns one row per subscription, with a text per recommendation that is unhealthy or
// exempt. Without an assessment there is no row, which distinguishes "nothing is visible" from "all
// healthy".
func countsQuery(p part) string {
	item := `iff(u + x > 0, ` + packedItem + `, '')`
	if p.splitsKeys() {
		item = packedItem
	}
	return assessments + p.where() + countAssessments + `
| summarize assessments = sum(u + h + n + x), items = make_list(` + item + `) by subscriptionId`
}

// plainCountsQuery returns one row per subscription and recommendation. Resource Graph pages it,
// because it has a column id.
func plainCountsQuery(p part) string {
	filter := `
| where u + x > 0`
	if p.splitsKeys() {
		filter = ""
	}
	return assessments + p.where() + countAssessments + filter + `
| extend id = strcat(subscriptionId, '|', key, '|', source, '|', connector)
| order by id asc`
}

// namesQuery returns a row per recommendation that is not folded. Azure spells texts differently in
// some rows, so it returns sets of them: which one take_any returns would change.
func namesQuery(p part) string {
	return assessments + p.where() + `
| where tostring(properties.status.code) =~ 'Unhealthy' or tostring(properties.status.cause) =~ 'Exempt'
| extend folded = tostring(properties.metadata.recommendationCategory), severity = tostring(properties.metadata.severity)
| where not(tostring(properties.metadata.assessmentType) =~ 'DynamicBuiltIn' and isnotempty(folded) and folded !~ 'Unknown')
| summarize name = make_set(coalesce(tostring(properties.displayName), tostring(properties.metadata.displayName)), 16), severity = max(` + severityNumber + `),
  effort = make_set(tostring(properties.metadata.implementationEffort), 16), impact = make_set(tostring(properties.metadata.userImpact), 16),
  category = make_set(tostring(properties.metadata.categories[0]), 16), preview = min(iff(tobool(properties.metadata.preview), 1, 0))
  by id = tolower(name)
| order by id asc`
}

// controlsQuery returns the recommendations of each control: keys is a JSON text, because the limit
// of mv-expand is lower than the number of recommendations. A control has a row per variant.
func controlsQuery(p part) string {
	return `securityresources
| where type =~ 'microsoft.security/securescores/securescorecontrols'` + p.where() + `
| where isnotempty(properties.definition)
| summarize by control = tolower(name), keys = tostring(properties.definition.properties.assessmentDefinitions)
| extend id = strcat(control, tostring(hash(keys)))
| order by id asc`
}

// part is what one query covers: subscriptions, or a part of a single one that is too large. That
// is split by the hash of the recommendation, which keeps the rows of one together; if one alone is
// too large, by the hash of the row.
type part struct {
	subscriptions []string // by ID
	names, name   int      // modulus and remainder by recommendation; zero for all
	rows, row     int      // by row
}

const (
	splitFactor = 4
	maxParts    = 64 // by recommendation, and of these by row
)

// splitsKeys reports whether the rows of one recommendation are in several parts. Whether all of
// its rows are previews is then known only from those that are healthy, too.
func (p part) splitsKeys() bool { return p.rows > 1 }

// where returns the KQL that selects the part of the subscriptions.
func (p part) where() string {
	var clauses strings.Builder
	if p.names > 1 {
		fmt.Fprintf(&clauses, "\n| where hash(tolower(name)) %% %d == %d", p.names, p.name)
	}
	if p.rows > 1 {
		fmt.Fprintf(&clauses, "\n| where hash(tolower(id)) %% %d == %d", p.rows, p.row)
	}
	return clauses.String()
}

// split returns smaller parts, or nil.
func (p part) split() []part {
	if half := len(p.subscriptions) / 2; half > 0 {
		return []part{{subscriptions: p.subscriptions[:half]}, {subscriptions: p.subscriptions[half:]}}
	}
	var parts []part
	for i := range splitFactor {
		smaller := p
		switch names, rows := max(1, p.names), max(1, p.rows); {
		case names < maxParts: // x % 4n is one of r, r + n, r + 2n, r + 3n if x % n is r
			smaller.names, smaller.name = splitFactor*names, p.name+i*names
		case rows < maxParts:
			smaller.rows, smaller.row = splitFactor*rows, p.row+i*rows
		default:
			return nil
		}
		parts = append(parts, smaller)
	}
	return parts
}
