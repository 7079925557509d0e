package azure

import (
	"strings"
	"testing"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// Configured subscriptions need no permission to list.
func TestSubscriptions_Configured(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(2, 1)
	hidden := "99999999-0000-4000-8000-000000000000"
	cfg := Config{SubscriptionIDs: []string{tenant.Subscriptions[1].ID, hidden}}
	sim, client := start(t, tenant, cfg)
	ctx := within(t, 30*time.Second)
	got, err := client.Subscriptions(ctx)
	if err != nil || len(got) != 2 || got[0].Name != tenant.Subscriptions[1].Name || got[1] != (Subscription{ID: hidden}) {
		t.Errorf("got %+v, %v", got, err)
	}
	sim.SetListFault(simulator.Forbidden())
	got, err = client.Subscriptions(ctx)
	if err != nil || len(got) != 2 || got[0] != (Subscription{ID: cfg.SubscriptionIDs[0]}) {
		t.Errorf("without permission to list: got %+v, %v", got, err)
	}
	sim.SetListFault(simulator.ServerError(500))
	if _, err = client.Subscriptions(ctx); ReasonOf(err) != ReasonServerError {
		t.Errorf("with a broken list: %v", err)
	}
}

func TestSubscriptions_InvalidItems(t *testing.T) {
	t.Parallel()
	sim, client := start(t, simulator.Tenant{}, Config{})
	sim.SetListFault(simulator.Body(200, "application/json", `{"value":[{"subscriptionId":"../../x"},{},7,null,
		{"subscriptionId":"AAAAAAAA-0000-4000-8000-000000000002","state":5},
		{"subscriptionId":"AAAAAAAA-0000-4000-8000-000000000001","displayName":"x\ny","state":"Disabled","tenantId":"T"},
		{"subscriptionId":"aaaaaaaa-0000-4000-8000-000000000001","displayName":"again"}]}`))
	got, err := client.Subscriptions(within(t, 10*time.Second))
	want := Subscription{ID: "aaaaaaaa-0000-4000-8000-000000000001", Name: "x y", TenantID: "t", State: "Disabled"}
	if err != nil || len(got) != 1 || got[0] != want || got[0].Active() {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

// An identity without any role gets an empty list and no error.
func TestSubscriptions_Empty(t *testing.T) {
	t.Parallel()
	_, client := start(t, simulator.Tenant{}, Config{})
	if got, err := client.Subscriptions(within(t, 10*time.Second)); ReasonOf(err) != ReasonForbidden || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestSubscriptions_ManagementGroups(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(6, 1)
	all := ids(tenant)
	tenant.ManagementGroups = map[string][]string{"corp": {all[0], "inner", "99999999-0000-4000-8000-000000000000"}, "inner": {all[2]}, "other": {all[5]}}
	tenant.PageSize = 2
	sim, client := start(t, tenant, Config{ManagementGroups: []string{"Corp", "other"}})
	got, err := client.Subscriptions(within(t, 20*time.Second))
	if err != nil || len(got) != 3 || got[0].ID != all[0] || got[1].ID != all[2] || got[2].ID != all[5] || got[0].Name == "" {
		t.Errorf("got %+v, %v", got, err)
	}
	sim.SetGroupFault(simulator.Forbidden())
	if _, err := client.Subscriptions(within(t, 20*time.Second)); ReasonOf(err) != ReasonForbidden || !strings.Contains(err.Error(), "management group Corp") {
		t.Errorf("forbidden: %v", err)
	}
	report := client.Check(within(t, 20*time.Second), func(int) {}, func() {})
	if f := report.SubscriptionList; f.OK || !strings.Contains(f.Detail, "managementGroups/descendants/read is missing") || !strings.Contains(f.Fix, "--scope /providers/Microsoft.Management/managementGroups/Corp") {
		t.Errorf("check says %+v", f)
	}
}

func TestParseManagementGroup(t *testing.T) {
	t.Parallel()
	for id, valid := range map[string]bool{"corp-1_(x).y": true, "": false, "a/b": false, "../x": false, strings.Repeat("x", 91): false} {
		if _, err := ParseManagementGroup(id); (err == nil) != valid {
			t.Errorf("%q: %v", id, err)
		}
	}
}
