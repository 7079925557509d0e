package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
)

type outcome string

const (
	asAssumed   outcome = "as assumed"
	different   outcome = "different"
	notObserved outcome = "not observed"
)

// The points to verify, by the names that docs/limitations.md uses.
const (
	pointToken         = "token"
	pointList          = "subscription list"
	pointListPages     = "pages of the subscription list"
	pointScores        = "score list"
	pointControls      = "control list"
	pointHeaders       = "rate limit headers"
	pointUnregistered  = "unregistered provider"
	pointUnscored      = "subscription without a score"
	pointBagPack       = "query with bag_pack"
	pointPack          = "query with pack"
	pointPlain         = "pages of the plain query"
	pointConnectors    = "IDs of connectors"
	pointDynamicKeys   = "dynamic keys in the control map"
	pointGraphCoverage = "subscriptions in Resource Graph"
	pointAncestors     = "management groups in Resource Graph"
)

// assumptions are what the exporter relies on, in the order of the report.
var assumptions = []struct{ point, assumption string }{
	{pointToken, "The credential gets a token."},
	{pointList, "The list has the subscriptions on which the identity has the role."},
	{pointListPages, "A longer list has pages, linked by nextLink on ARM's host."},
	{pointScores, "A scored subscription has one item, ascScore, with current, max and a percentage from 0 to 1."},
	{pointControls, "A scored subscription has controls, each with a GUID as its name."},
	{pointHeaders, "Microsoft.Security reports its remaining quota as an integer in x-ms-ratelimit-remaining-* headers."},
	{pointUnregistered, "A subscription without Microsoft.Security fails as not_registered, or has no score."},
	{pointUnscored, "A registered subscription without a score has an empty list, or 404 ResourceNotFound."},
	{pointBagPack, "Resource Graph accepts bag_pack in make_list; each row has an array of objects."},
	{pointPack, "Resource Graph accepts pack in make_list; each row has an array of objects."},
	{pointPlain, "A plain query with a column id has pages that do not overlap, linked by $skipToken."},
	{pointConnectors, "The ID of a score outside Azure has the segment securityConnectors."},
	{pointDynamicKeys, "No security control maps a dynamic recommendation."},
	{pointGraphCoverage, "Resource Graph has a row for each subscription that ARM lists."},
	{pointAncestors, "A subscription has its management groups in managementGroupAncestorsChain."},
}

// report is what a person sends back. Everything in it is this program's own text or has passed the
// anonymizer.
type report struct {
	Tool       string   `json:"tool"`
	Credential string   `json:"credential"` // AZURE_TOKEN_CREDENTIALS
	Role       string   `json:"role"`
	Points     []*point `json:"points"`

	anonymizer *anonymizer
}

// point is the result of verifying one assumption.
type point struct {
	Name       string  `json:"name"`
	Assumption string  `json:"assumption"`
	Outcome    outcome `json:"outcome"`
	Detail     string  `json:"detail"`
	Observed   any     `json:"observed,omitempty"`
}

func newReport(role string, a *anonymizer) *report {
	r := &report{Tool: "verify-on-azure 1", Credential: credentialType(), Role: role, anonymizer: a}
	for _, known := range assumptions {
		r.Points = append(r.Points, &point{Name: known.point, Assumption: known.assumption, Outcome: notObserved, Detail: "not reached"})
	}
	return r
}

// credentialType returns the type of credential if it is one of azidentity's names.
func credentialType() string {
	known := []string{
		"EnvironmentCredential", "WorkloadIdentityCredential", "ManagedIdentityCredential",
		"AzureCLICredential", "AzureDeveloperCLICredential", "AzurePowerShellCredential", "prod", "dev",
	}
	if value := os.Getenv("AZURE_TOKEN_CREDENTIALS"); slices.Contains(known, value) {
		return value
	}
	return "not set"
}

// set records the result of a point.
func (r *report) set(name string, o outcome, observed any, detail string, args ...any) {
	for _, p := range r.Points {
		if p.Name == name {
			p.Outcome, p.Observed, p.Detail = o, observed, fmt.Sprintf(detail, args...)
		}
	}
}

// encode returns the report as JSON. It fails if the report contains anything that must not leave
// the tenant.
func (r *report) encode() ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(r); err != nil {
		return nil, err
	}
	if err := r.anonymizer.verify(text.Bytes()); err != nil {
		return nil, fmt.Errorf("the report is not written: %w", err)
	}
	return text.Bytes(), nil
}

// summary is a table for the terminal.
func (r *report) summary() string {
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, p := range r.Points {
		fmt.Fprintf(table, "%s\t%s\t%s\n", p.Outcome, p.Name, p.Detail)
	}
	_ = table.Flush() // a strings.Builder does not fail
	return text.String()
}
