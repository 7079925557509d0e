package simulator

import (
	"hash/fnv"
	"math"
	"slices"
	"strings"
	"time"
)

// Tenant is what the simulator serves from its start, and how.
type Tenant struct {
	Subscriptions []Subscription
	// Faults are the initial faults by subscription ID, as for SetFault.
	Faults map[string]Fault
	// ManagementGroups maps a group ID to the IDs of its direct members: subscriptions and groups.
	ManagementGroups map[string][]string
	// ManagementGroupNames maps a group ID to its display name, which is otherwise the ID.
	ManagementGroupNames map[string]string
	ResourceGraph        ResourceGraph
	// PageSize is the maximum number of items on a page; 0 puts every list on one page.
	PageSize int
	// SubscriptionPageSize replaces PageSize in the list of subscriptions, where ARM has 50.
	SubscriptionPageSize int
	// Latency is the minimum duration of every ARM or Resource Graph request.
	Latency time.Duration
	// TokenLifetime is the lifetime of an access token, in whole seconds; 0 is an hour.
	TokenLifetime time.Duration
	// Now is the clock of drift, token expiry and quotas; nil is time.Now.
	Now func() time.Time
}

// Subscription is an Azure subscription with the security controls that make up its secure score.
type Subscription struct {
	ID    string
	Name  string
	State string // Enabled, Warned, PastDue, Disabled or Deleted; empty is Enabled
	Tags  map[string]string
	// NoScore removes the secure score, as when Defender's posture management plan is off.
	NoScore bool
	// Unregistered removes the secure score too: the subscription has not registered the provider
	// Microsoft.Security, and its lists answer 409 as [NotRegistered] does.
	Unregistered bool
	// NoAccess lists the subscription but forbids its scores: ARM answers 403 AuthorizationFailed and
	// Resource Graph leaves the rows out. To hide a subscription altogether, leave it out of the
	// tenant.
	NoAccess bool
	Controls []Control
	// Connectors have scores of their own, which Resource Graph returns and ARM's lists do not.
	Connectors []Connector
	// Assessments replace those that are derived from the controls, see AssessmentsAt. Subscriptions
	// can share them; they must not change.
	Assessments []Assessment
}

// Connector is an account of another cloud that is connected to a subscription.
type Connector struct {
	Name        string
	Environment string // AWS, GCP, GitHub and so on
	Controls    []Control
}

// Control is a security control: a group of recommendations that earns points for every resource
// that follows them all.
type Control struct {
	ID          string // a GUID
	DisplayName string
	Max         float64 // the nominal points of its definition
	Healthy     int
	Unhealthy   int
	// NotApplicable resources do not count towards the score.
	NotApplicable int
	// Drift is the maximum number of resources that move from healthy to unhealthy, or back, over
	// time; 0 keeps the control constant.
	Drift int
	// Published replaces the score of the formula, which not all published samples follow.
	Published *Score
	// Recommendations assess the control's resources.
	Recommendations []*Recommendation
}

// Score is a score of a subscription or a control. Ratio is Azure's "percentage", which is 0–1
// despite its name.
type Score struct {
	Max     float64
	Current float64
	Ratio   float64
}

// Weight is the number of resources that count: healthy and unhealthy.
func (c Control) Weight() int { return c.Healthy + c.Unhealthy }

// Score follows the published formula, max ÷ (healthy + unhealthy) × healthy, with two decimals. A
// control without a counting resource has 0 of 0 points, whatever its definition says.
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

// Score is the sum of the controls' scores as shown, so that the numbers add up.
func (s Subscription) Score() Score { return totalScore(s.Controls) }

// Score is the sum of the controls' scores, as for a subscription.
func (c Connector) Score() Score { return totalScore(c.Controls) }

func totalScore(controls []Control) Score {
	var maximum, current float64
	for _, c := range controls {
		maximum += c.Score().Max
		current += c.Score().Current
	}
	return newScore(maximum, current)
}

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

// At is the subscription at that time, after drift. It depends only on the time, so two simulators
// agree.
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

// drifted swings around the control's own counts with a period of 20 to 50 minutes; the seed keeps
// the controls out of phase.
func (c Control) drifted(t time.Time, seed uint64) Control {
	period := 20*time.Minute + time.Duration(seed%31)*time.Minute
	elapsed := t.UnixMilli() % period.Milliseconds()
	phase := float64(elapsed)/float64(period.Milliseconds()) + float64(seed>>32%100)/100
	moved := int(math.Round(float64(c.Drift) * math.Sin(2*math.Pi*phase)))
	moved = max(-c.Unhealthy, min(c.Healthy, moved))
	c.Healthy -= moved
	c.Unhealthy += moved
	return c
}

func (s Subscription) drifts() bool {
	drifts := func(c Control) bool { return c.Drift > 0 }
	return slices.ContainsFunc(s.Controls, drifts) ||
		slices.ContainsFunc(s.Connectors, func(c Connector) bool {
			return slices.ContainsFunc(c.Controls, drifts)
		})
}

func (s Subscription) state() string {
	if s.State == "" {
		return "Enabled"
	}
	return s.State
}

func (s Subscription) path() string { return "/subscriptions/" + strings.ToLower(s.ID) }

// lowercaseIDs reports whether the subscription's answers use lower case where Azure uses either.
// Subscriptions whose ID ends in an odd digit do.
func (s Subscription) lowercaseIDs() bool {
	return s.ID != "" && strings.ContainsRune("13579bdfBDF", rune(s.ID[len(s.ID)-1]))
}
