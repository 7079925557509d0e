package simulator

import (
	"fmt"
	"math/rand/v2"
)

// Generate is a tenant of n subscriptions with the given number of controls each, for benchmarks
// and for comparing many values. It is deterministic and does not drift: names and counts vary,
// some controls have no resources, some scores are fractions. The list of more than 2,000
// subscriptions comes in pages of 50, as from ARM.
func Generate(n, controls int) Tenant {
	random := rand.New(rand.NewPCG(uint64(n), uint64(controls)))
	tenant := Tenant{Subscriptions: make([]Subscription, n)}
	for i := range tenant.Subscriptions {
		tenant.Subscriptions[i] = Subscription{
			ID:       fmt.Sprintf("%08x-0000-4000-8000-%012x", i+1, i+1),
			Name:     fmt.Sprintf("Subscription %04d", i+1),
			Controls: generateControls(random, controls),
		}
	}
	if n > 2000 {
		tenant.SubscriptionPageSize = 50
	}
	return tenant
}

func generateControls(random *rand.Rand, n int) []Control {
	controls := make([]Control, n)
	for i := range controls {
		c := Control{
			ID:            fmt.Sprintf("00000000-0000-4000-9000-%012x", i+1),
			DisplayName:   fmt.Sprintf("Generated control %d", i+1),
			Max:           float64(1 + i%10),
			Healthy:       random.IntN(500),
			Unhealthy:     random.IntN(500),
			NotApplicable: random.IntN(50),
		}
		if i < len(definitions) {
			c.ID, c.DisplayName, c.Max = definitions[i].id, definitions[i].name, definitions[i].max
		}
		if random.IntN(10) == 0 {
			c.Healthy, c.Unhealthy = 0, 0
		}
		controls[i] = c
	}
	return controls
}

// GenerateAssessments gives each subscription n unhealthy recommendations of four resources, for
// benchmarks. Severity and counts vary, some are previews, some resources are exempt. Eight sets
// are shared by all subscriptions, so that a large tenant costs no memory.
func GenerateAssessments(tenant *Tenant, n int) {
	recommendations := make([]*Recommendation, n)
	for i := range recommendations {
		recommendations[i] = &Recommendation{
			Key:      fmt.Sprintf("00000000-0000-4000-b000-%012x", i+1),
			Name:     fmt.Sprintf("Generated recommendation %d should be followed", i+1),
			Severity: []string{"Low", "Medium", "High", "Critical"}[i%4],
			Effort:   "Low", UserImpact: "Moderate", Categories: []string{"Compute"}, Preview: i%10 == 9,
		}
	}
	sets := make([][]Assessment, 8)
	for set := range sets {
		for i, r := range recommendations {
			for resource := range 4 {
				a := newAssessment(r, resource, state(resource <= (i+set)%4), "", "Azure")
				if i%20 == 1 && resource == 3 {
					a.State, a.Cause = "NotApplicable", "Exempt"
				}
				sets[set] = append(sets[set], a)
			}
		}
	}
	for i := range tenant.Subscriptions {
		s := &tenant.Subscriptions[i]
		s.Assessments = sets[i%len(sets)]
		for c := range s.Controls {
			s.Controls[c].Recommendations = recommendations[min(c*10, n):min(c*10+10, n)]
		}
	}
}
