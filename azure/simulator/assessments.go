package simulator

// Assessments: what Defender for Cloud says about one resource and one recommendation. Every answer
// about recommendations is computed from these rows.

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Recommendation is the metadata of an assessment, which Resource Graph repeats in every row.
type Recommendation struct {
	Key        string // a GUID
	Name       string
	Severity   string // Low, Medium, High or Critical
	Effort     string // Low, Moderate or High
	UserImpact string
	Categories []string
	Preview    bool // does not count towards the score
	// Dynamic is the recommendationCategory of a recommendation that Azure creates per software,
	// secret or finding. No definition of a control names it, although its resources count.
	Dynamic string
	// Unmapped belongs to no control, as a recommendation of another standard.
	Unmapped bool
}

// counts reports whether an unhealthy resource costs points.
func (r *Recommendation) counts() bool { return !r.Preview && !r.Unmapped }

// mapped reports whether the definitions of controls name the recommendation.
func (r *Recommendation) mapped() bool { return r.Dynamic == "" && !r.Unmapped }

// Assessment is a row of Resource Graph: one resource in one recommendation.
type Assessment struct {
	*Recommendation

	Resource  string // its path below the subscription or connector
	Connector string // the name of a connector as its ID spells it; empty for the subscription itself
	Source    string // Azure, OnPremise, Aws, Gcp, …
	CamelCase bool   // resourceDetails.source instead of .Source
	State     string // Healthy, Unhealthy or NotApplicable
	Cause     string // Exempt, OffByPolicy, …
	Scope     string // properties.scope; only "", Subscription and MultiCloudAggregation are the portal's
}

// id is the ID below the subscription, in lower case.
func (a *Assessment) id() string {
	scope := ""
	if a.Connector != "" {
		scope = connectorPath + a.Connector
	}
	return strings.ToLower(scope + a.Resource + "/providers/Microsoft.Security/assessments/" + a.Key)
}

// AssessmentsAt are the subscription's assessments at that time: Assessments if there are any, and
// otherwise rows that agree with the controls and their recommendations. Of those, the unhealthy
// resources of a control are the union of those of its recommendations, without the ones that do
// not count. Resources have the same name in all controls of a subscription or connector.
func (s Subscription) AssessmentsAt(t time.Time) []Assessment {
	if s.Assessments != nil {
		return s.Assessments
	}
	s = s.At(t)
	rows := deriveAssessments(nil, s.Controls, "", "Azure")
	for _, c := range s.Connectors {
		source := c.Environment[:1] + strings.ToLower(c.Environment[1:])
		rows = deriveAssessments(rows, c.Controls, c.Name, source)
	}
	return rows
}

// deriveAssessments appends the assessments of a subscription or connector.
func deriveAssessments(rows []Assessment, controls []Control, connector, source string) []Assessment {
	shared := map[*Recommendation][]Control{}
	for _, c := range controls {
		for _, r := range c.Recommendations {
			shared[r] = append(shared[r], c)
		}
	}
	add := func(r *Recommendation, resource int, state string) {
		rows = append(rows, newAssessment(r, resource, state, connector, source))
	}
	for _, c := range controls {
		var own []*Recommendation // of no other control: each unhealthy resource is so in one of these
		for _, r := range c.Recommendations {
			switch others := shared[r]; {
			case !r.counts():
				for i := 0; i < c.Weight() && others[0].ID == c.ID; i += 2 {
					add(r, i, state(i%4 == 0))
				}
			case len(others) == 1:
				own = append(own, r)
			case others[0].ID == c.ID:
				unhealthy, all := c.Unhealthy, c.Weight()
				for _, o := range others {
					unhealthy, all = min(unhealthy, o.Unhealthy), min(all, o.Weight())
				}
				for i := 0; i < all; i += 4 {
					add(r, i, state(i < unhealthy && i%8 == 0))
				}
			}
		}
		for i := 0; i < c.Weight()+c.NotApplicable && len(own) > 0; i++ {
			first, second := own[i%len(own)], own[(i+1)%len(own)]
			switch {
			case i >= c.Weight():
				add(first, i, "NotApplicable")
			default:
				add(first, i, state(i < c.Unhealthy))
				if i%3 == 0 && first != second {
					add(second, i, state(i < c.Unhealthy && i%6 == 0))
				}
			}
		}
	}
	return rows
}

func state(unhealthy bool) string {
	if unhealthy {
		return "Unhealthy"
	}
	return "Healthy"
}

// newAssessment varies what Azure varies: the spelling, the source and the cause. A resource of
// another cloud without a connector is an Arc machine.
func newAssessment(r *Recommendation, resource int, state, connector, source string) Assessment {
	a := Assessment{
		Recommendation: r,
		Resource: fmt.Sprintf("/resourceGroups/rg-%d/providers/Microsoft.Compute/virtualMachines/vm-%04d",
			resource%7, resource),
		Connector: connector, Source: source, CamelCase: resource%2 == 1, State: state,
	}
	if connector == "" {
		switch {
		case resource%11 == 5:
			a.Source = "OnPremise"
		case resource%17 == 9:
			a.Source = "Aws"
		}
	}
	if state == "NotApplicable" {
		a.Cause = []string{"Exempt", "OffByPolicy"}[resource%2]
	}
	return a
}

// ofPortal reports whether the portal shows the row.
func (a *Assessment) ofPortal() bool {
	return slices.ContainsFunc([]string{"", "Subscription", "MultiCloudAggregation"}, func(scope string) bool {
		return strings.EqualFold(scope, a.Scope)
	})
}
