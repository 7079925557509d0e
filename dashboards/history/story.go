package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// recomputation is the interval at which Azure computes a score.
const recomputation = 8 * time.Hour

// subscription is one of the demo's and what happens to it in the month.
type subscription struct {
	simulator.Subscription
	plot
}

type plot struct {
	drift    float64 // change of the unhealthy share of resources over 30 days
	newSince float64 // days ago; 0 is always
	events   []event
}

// event changes the unhealthy share of one control for good.
type event struct {
	daysAgo float64
	control string // part of its name
	change  float64
}

// The subscriptions of the demo in which something happens, by name.
const (
	recovering = "Contoso Data Platform"
	added      = "Contoso Development"
)

var plots = map[string]plot{
	"Contoso Production": {drift: -0.10},
	"Fabrikam Retail":    {drift: -0.30},
	"Contoso Identity":   {events: []event{{0.8, "system updates", 0.45}, {0.8, "vulnerabilities", 0.25}}},
	added:                {drift: -0.04, newSince: 6},
	// A firewall rule opens management ports and accounts are exempted from MFA; both are fixed.
	recovering: {events: []event{
		{13.2, "management ports", 0.62},
		{13.2, "MFA", 0.60},
		{5.1, "management ports", -0.62},
		{4.4, "MFA", -0.60},
	}},
}

// story returns n subscriptions; 0 is those of the demo.
func story(n int) []subscription {
	tenant := simulator.Demo().Subscriptions
	if n > len(tenant) {
		tenant = append(tenant, simulator.Generate(n-len(tenant), 15).Subscriptions...)
	} else if n > 0 {
		tenant = tenant[:n]
	}
	subscriptions := make([]subscription, len(tenant))
	for i, s := range tenant {
		s.State = cmp.Or(s.State, "Enabled")
		subscriptions[i] = subscription{s, plots[s.Name]}
	}
	return subscriptions
}

func (s subscription) active() bool { return s.State == "Enabled" }

func (s subscription) readable() bool { return s.active() && !s.NoAccess }

func (s subscription) exists(h history, i int) bool {
	return s.newSince == 0 || h.daysAgo(i) <= s.newSince
}

// served reports whether the exporter has values: they outlive the start of an outage by an hour.
func (s subscription) served(h history, i int) bool {
	return s.exists(h, i) && (!h.outage(i) || !h.outage(max(0, i-int(time.Hour/h.step))))
}

// failure returns the reason for which the subscription cannot be read, or "".
func (s subscription) failure(h history, i int) string {
	switch {
	case h.outage(i):
		return "authentication"
	case s.NoAccess:
		return "forbidden"
	case h.throttled(i) && noise(s.ID, "throttled") < 0.2:
		return "throttled"
	}
	return ""
}

// outage is a failure of the token endpoint, nine days ago, for an hour and a half.
func (h history) outage(i int) bool { return math.Abs(h.daysAgo(i)-9) < 0.75/24 }

// throttled is a busy hour three days ago in which every fifth subscription is throttled.
func (h history) throttled(i int) bool { return math.Abs(h.daysAgo(i)-3) < 0.75/24 }

// window returns which of the owner's recomputations, counted back from the end, sample i shows.
// Azure recomputes each owner at its own time of day.
func (h history) window(owner string, i int) int {
	return int(h.daysAgo(i)*24/recomputation.Hours() + noise(owner, "offset"))
}

// controlsAt returns the controls of a subscription or a connector as Azure computed them in a
// window: some resources have become healthy or unhealthy since the demo began.
func (p plot) controlsAt(window int, controls []simulator.Control, owner string) []simulator.Control {
	daysAgo := (float64(window) - noise(owner, "offset") + 1) * recomputation.Hours() / 24
	controls = slices.Clone(controls)
	for i, c := range controls {
		if c.Weight() == 0 || c.Published != nil {
			continue
		}
		share := float64(c.Unhealthy)/float64(c.Weight()) + p.drift*(1-daysAgo/30)
		for _, e := range p.events {
			if daysAgo < e.daysAgo && strings.Contains(c.DisplayName, e.control) {
				share += e.change
			}
		}
		share += 0.02 * (noise(owner, c.ID, strconv.Itoa(window/4)) - 0.5)
		unhealthy := int(math.Round(float64(c.Weight()) * min(1, max(0, share))))
		controls[i].Healthy, controls[i].Unhealthy = c.Weight()-unhealthy, unhealthy
	}
	return controls
}

// noise returns a number in [0, 1) that depends only on its arguments.
func noise(key ...string) float64 {
	sum := sha256.Sum256([]byte(strings.Join(key, "/")))
	return float64(binary.BigEndian.Uint32(sum[:4])) / (1 << 32)
}
