package simulator

import (
	"hash/fnv"
	"math"
	"slices"
	"strings"
	"time"
)

// Tenant is what the simulator serves at its start, and how.
type Tenant struct {
	Subscriptions []Subscription
	// Faults by subscription ID, as SetFault takes them.
	Faults map[string]Fault
	// ManagementGroups are, by group ID, the IDs of the subscriptions and of the other groups right below.
	ManagementGroups map[string][]string
	ResourceGraph    ResourceGraph
	// PageSize is the greatest number of items a page; 0 puts every list on one page.
	PageSize int
	// Latency is how long every ARM or Resource Graph request takes at least.
	Latency time.Duration
	// TokenLifetime is how long an access token lives, in whole seconds; 0 is an hour.
	TokenLifetime time.Duration
	// Now is the clock of drift, token expiry and quotas; nil is time.Now.
	Now func() time.Time
}

// Subscription is an Azure subscription with the security controls that make up its secure score.
type Subscription struct {
	ID    string
	Name  string
	State string // Enabled, Warned, PastDue, Disabled or Deleted; empty is Enabled
	// NoScore is a subscription without a secure score, as one is whose Defender plan for posture management is off.
	NoScore bool
	// NoAccess is a subscription that is listed, but whose scores the principal may not read: ARM answers 403 AuthorizationFailed,
	// Resource Graph leaves it out. A subscription that the principal does not even see is one that the tenant does not have.
	NoAccess bool
	Controls []Control
	// Connectors have scores of their own, which Resource Graph shows and ARM's lists do not.
	Connectors []Connector
}

// Connector is an account of another cloud that is connected to a subscription.
type Connector struct {
	Name        string
	Environment string // AWS, GCP, GitHub and so on
	Controls    []Control
}

// connectorGroup is the resource group of every connector.
const connectorGroup = "security-connectors"

// Control is a security control: a group of recommendations that earns points for each resource that follows them all.
type Control struct {
	ID          string // a GUID
	DisplayName string
	Max         float64 // the nominal points of its definition
	Healthy     int
	Unhealthy   int
	// NotApplicable resources have no part in the score.
	NotApplicable int
	// Drift is how many resources at most move from healthy to unhealthy, or back, as time passes; 0 stands still.
	Drift int
	// Published, if set, stands in for the score that the formula gives: published samples do not all follow it.
	Published *Score
}

// Score is what Azure shows of a score, of a subscription or a control. Ratio is Azure's "percentage", which is 0–1 for all its name.
type Score struct {
	Max     float64
	Current float64
	Ratio   float64
}

// Weight is the number of resources that count: the healthy and the unhealthy ones.
func (c Control) Weight() int { return c.Healthy + c.Unhealthy }

// Score follows the published formula, max ÷ (healthy + unhealthy) × healthy, with two decimals. A control without a resource that
// counts has 0 of 0 points, whatever its definition says.
func (c Control) Score() Score {
	if c.Published != nil {
		return *c.Published
	}
	if c.Weight() == 0 {
		return Score{}
	}
	return newScore(c.Max, c.Max/float64(c.Weight())*float64(c.Healthy))
}

// Weight is the sum of the controls' weights.
func (s Subscription) Weight() int { return totalWeight(s.Controls) }

// Weight is the sum of the controls' weights.
func (c Connector) Weight() int { return totalWeight(c.Controls) }

func totalWeight(controls []Control) int {
	sum := 0
	for _, c := range controls {
		sum += c.Weight()
	}
	return sum
}

// Score is the sum of the controls' scores, as they are shown, so that the numbers add up for whoever compares them.
func (s Subscription) Score() Score { return totalScore(s.Controls) }

// Score is the sum of the controls' scores, as a subscription's is.
func (c Connector) Score() Score { return totalScore(c.Controls) }

func totalScore(controls []Control) Score {
	var maximum, current float64
	for _, c := range controls {
		maximum += c.Score().Max
		current += c.Score().Current
	}
	return newScore(maximum, current)
}

// At is the subscription at that time: drift has moved resources. It depends on nothing but the time, so that two simulators agree.
func (s Subscription) At(t time.Time) Subscription {
	s.Controls = driftedControls(s.Controls, t, s.ID)
	connectors := make([]Connector, len(s.Connectors))
	for i, c := range s.Connectors {
		c.Controls = driftedControls(c.Controls, t, s.ID+c.Name)
		connectors[i] = c
	}
	s.Connectors = connectors
	return s
}

func driftedControls(controls []Control, t time.Time, owner string) []Control {
	drifted := make([]Control, len(controls))
	for i, c := range controls {
		if c.Drift > 0 {
			phase := fnv.New64a()
			phase.Write([]byte(owner + c.ID))
			c = c.drifted(t, phase.Sum64())
		}
		drifted[i] = c
	}
	return drifted
}

func (s Subscription) drifts() bool {
	moves := func(c Control) bool { return c.Drift > 0 }
	return slices.ContainsFunc(s.Controls, moves) ||
		slices.ContainsFunc(s.Connectors, func(c Connector) bool { return slices.ContainsFunc(c.Controls, moves) })
}

// drifted swings around the control's own counts with a period of 20 to 50 minutes; the seed keeps the controls out of step.
func (c Control) drifted(t time.Time, seed uint64) Control {
	period := 20*time.Minute + time.Duration(seed%31)*time.Minute
	turn := float64(t.UnixMilli()%period.Milliseconds())/float64(period.Milliseconds()) + float64(seed>>32%100)/100
	moved := int(math.Round(float64(c.Drift) * math.Sin(2*math.Pi*turn)))
	moved = max(-c.Unhealthy, min(c.Healthy, moved))
	c.Healthy -= moved
	c.Unhealthy += moved
	return c
}

func (s Subscription) state() string {
	if s.State == "" {
		return "Enabled"
	}
	return s.State
}

func (s Subscription) path() string { return "/subscriptions/" + strings.ToLower(s.ID) }

func newScore(maximum, current float64) Score {
	s := Score{Max: maximum, Current: round(current, 2)}
	if s.Max > 0 {
		s.Ratio = round(s.Current/s.Max, 4)
	}
	return s
}

func round(x float64, decimals int) float64 {
	scale := math.Pow10(decimals)
	return math.Round(x*scale) / scale
}
