package simulator

import (
	"math"
	"math/rand/v2"
)

// definitions are the security controls of Defender for Cloud as documented in June 2026, with
// their nominal points. A GUID of the form 00000000-0000-4000-8000-… is invented, because no public
// source gives the real one. So is share, the share of a subscription's resources that the control
// assesses.
var definitions = []struct {
	id    string
	name  string
	max   float64
	share float64
}{
	{"34a42fb3-e6db-409c-b56b-7b1db6b8aee0", "Enable MFA", 10, 0.04},
	{"00000000-0000-4000-8000-000000000002", "Secure management ports", 8, 0.15},
	{"61702b76-1fab-41f2-bcbc-50b7870dcf38", "Apply system updates", 6, 0.18},
	{"00000000-0000-4000-8000-000000000004", "Remediate vulnerabilities", 6, 0.30},
	{"00000000-0000-4000-8000-000000000005", "Remediate security configurations", 4, 0.35},
	{"00000000-0000-4000-8000-000000000006", "Manage access and permissions", 4, 0.12},
	{"8fd574ec-43cf-426e-a439-a67cbaf2d564", "Enable encryption at rest", 4, 0.25},
	{"0e55495e-034f-4abc-8293-767229250176", "Encrypt data in transit", 4, 0.22},
	{"00000000-0000-4000-8000-000000000009", "Restrict unauthorized network access", 4, 0.45},
	{"00000000-0000-4000-8000-000000000010", "Apply adaptive application control", 3, 0.10},
	{"a9909064-42b4-4d34-8143-275477afe18b", "Protect applications against DDoS attacks", 2, 0.03},
	{"00000000-0000-4000-8000-000000000012", "Enable endpoint protection", 2, 0.18},
	{"27b24961-75ba-4fe4-8909-97286d5dd5ee", "Enable auditing and logging", 1, 0.30},
	{"00000000-0000-4000-8000-000000000014", "Enable enhanced security features", 0, 0.02},
	{"76763537-9feb-42d3-b4f4-78c01117be80", "Implement security best practices", 0, 0.60},
}

// The tags of the demo's subscriptions.
const (
	DemoOwnerTag       = "owner"
	DemoTargetTag      = "secure-score-target"
	DemoEnvironmentTag = "environment"
)

// Subscriptions of the demo that tests and readers look for.
const (
	DemoSampleID    = "20ff7fc3-e762-44dd-bd96-b71116dcdc23" // published: 37 of 55 points, constant
	DemoUnscoredID  = "6d1c8e40-52b7-4f0a-9c35-0b7f4e2a9d17"
	DemoForbiddenID = "b84f0a6e-3d29-4c71-8e5b-f2a6c90d7134"
	DemoDisabledID  = "0e7b5d92-a4c6-4138-b6f0-83d15c9e2a47"

	demoProductionID  = "4f9b2c7d-81e3-4a56-b0d8-6c25e7f1a930"
	demoDataID        = "9a3e6f15-c042-4d8b-a7f9-1e58b3d06c24"
	demoIdentityID    = "d27c0b84-5f6a-4e19-93cd-a80f4176be52"
	demoRetailID      = "e5810fa9-7b3c-4962-8d04-2f9c6ea7b318"
	demoDevelopmentID = "73b4d6e8-0c95-4fa1-be27-5d8a92f3c061"
)

// Demo is the tenant of --demo: subscriptions of a fictional company, good and bad, from 10 to
// 2,000 resources, whose scores drift. One has no score, one forbids access, one is disabled, and
// two have a connector to another cloud. They are below three management groups in two levels. Tags
// name the environment and, but for the sandbox, the owner; two set a target.
func Demo() Tenant {
	aws := Connector{
		Name: "contoso-aws-production", Environment: "AWS", Controls: recommended(demoControls(420, 0.58, 7), "AWS"),
	}
	gcp := Connector{
		Name: "contoso-gcp-analytics", Environment: "GCP", Controls: recommended(demoControls(150, 0.71, 8), "GCP"),
	}
	tenant := Tenant{
		Subscriptions: []Subscription{
			{ID: DemoSampleID, Name: "Contoso Secure Score Sample", Controls: sampleControls()},
			{
				ID: demoProductionID, Name: "Contoso Production",
				Controls: demoControls(2000, 0.82, 1), Connectors: []Connector{aws},
			},
			{
				ID: demoDataID, Name: "Contoso Data Platform",
				Controls: demoControls(640, 0.64, 2), Connectors: []Connector{gcp},
			},
			{
				ID: demoIdentityID, Name: "Contoso Identity",
				Controls: demoControls(40, 0.97, 3),
			},
			{
				ID: demoRetailID, Name: "Fabrikam Retail",
				Controls: demoControls(310, 0.31, 4),
			},
			{
				ID: demoDevelopmentID, Name: "Contoso Development",
				Controls: demoControls(10, 0.52, 5),
			},
			{ID: DemoUnscoredID, Name: "Contoso Sandbox", NoScore: true},
			{
				ID: DemoForbiddenID, Name: "Contoso Finance", NoAccess: true,
				Controls: demoControls(85, 0.75, 6),
			},
			{ID: DemoDisabledID, Name: "Contoso Old Datacentre", State: "Disabled", NoScore: true},
		},
		ManagementGroups: map[string][]string{
			"contoso":               {"contoso-platform", "contoso-landing-zones", DemoUnscoredID, DemoDisabledID},
			"contoso-platform":      {DemoSampleID, demoIdentityID},
			"contoso-landing-zones": {demoProductionID, demoDataID, demoRetailID, demoDevelopmentID, DemoForbiddenID},
		},
		ManagementGroupNames: map[string]string{
			"contoso": "Contoso", "contoso-platform": "Platform", "contoso-landing-zones": "Landing Zones",
		},
	}
	for i, s := range tenant.Subscriptions {
		recommended(s.Controls, "Azure")
		tenant.Subscriptions[i].Tags = demoTags[s.ID]
	}
	return tenant
}

// demoTags are the tags by subscription ID.
var demoTags = map[string]map[string]string{
	DemoSampleID:      {DemoOwnerTag: "platform-team", DemoEnvironmentTag: "production"},
	demoProductionID:  {DemoOwnerTag: "web-team", DemoEnvironmentTag: "production", DemoTargetTag: "80%"},
	demoDataID:        {DemoOwnerTag: "data-team", DemoEnvironmentTag: "production"},
	demoIdentityID:    {DemoOwnerTag: "platform-team", DemoEnvironmentTag: "production"},
	demoRetailID:      {DemoOwnerTag: "retail-team", DemoEnvironmentTag: "production"},
	demoDevelopmentID: {DemoOwnerTag: "web-team", DemoEnvironmentTag: "development", DemoTargetTag: "30%"},
	DemoUnscoredID:    {DemoEnvironmentTag: "sandbox"},
	DemoForbiddenID:   {DemoOwnerTag: "finance-team", DemoEnvironmentTag: "production"},
	DemoDisabledID:    {DemoOwnerTag: "platform-team"},
}

// sampleControls add up to the published sample's 37 of 55 points. Its DDoS control is the
// sample's: 0 of 2 points with one resource that is not applicable, although the formula gives it a
// maximum of 0. The other counts are invented; the control without resources reduces the 58 nominal
// points to 55.
func sampleControls() []Control {
	counts := [][2]int{ // healthy, unhealthy
		{10, 0},
		{6, 6},
		{9, 3},
		{6, 6},
		{9, 3},
		{3, 1},
		{5, 5},
		{9, 3},
		{6, 2},
		{0, 0},
		{0, 0},
		{6, 6},
		{5, 5},
		{0, 1},
		{7, 4},
	}
	controls := make([]Control, len(definitions))
	for i, d := range definitions {
		controls[i] = Control{
			ID: d.id, DisplayName: d.name, Max: d.max, Healthy: counts[i][0], Unhealthy: counts[i][1],
		}
		if d.id == "a9909064-42b4-4d34-8143-275477afe18b" {
			controls[i].NotApplicable = 1
			controls[i].Published = &Score{Max: d.max}
		}
	}
	return controls
}

// demoControls distributes resources over the controls; about the given share of each is healthy.
func demoControls(resources int, healthyShare float64, seed uint64) []Control {
	random := rand.New(rand.NewPCG(seed, 0))
	controls := make([]Control, len(definitions))
	for i, d := range definitions {
		weight := max(1, int(math.Round(float64(resources)*d.share)))
		share := min(1, healthyShare+min(0.3, 2*(1-healthyShare))*(random.Float64()-0.5))
		healthy := int(math.Round(float64(weight) * share))
		controls[i] = Control{
			ID:            d.id,
			DisplayName:   d.name,
			Max:           d.max,
			Healthy:       healthy,
			Unhealthy:     weight - healthy,
			NotApplicable: random.IntN(1 + weight/10),
			Drift:         (weight + 6) / 10,
		}
	}
	return controls
}
