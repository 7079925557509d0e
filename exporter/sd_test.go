package exporter

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

func TestSD_Targets(t *testing.T) {
	tenant := simulator.Generate(3, 1)
	tenant.Subscriptions[1].Name = "Name with \"quotes\" and\nnewline"
	tenant.Subscriptions[2].State = "Disabled"
	s := start(t, tenant, DefaultConfig(), azure.Config{})
	s.SetListFault(simulator.ServerError(500))
	if status, _, _ := s.get(t, "/sd"); status != http.StatusServiceUnavailable {
		t.Errorf("before the first list: %d", status)
	}
	s.SetListFault(nil)
	status, header, body := s.get(t, "/sd")
	var targets []targetGroup
	if err := json.Unmarshal([]byte(body), &targets); err != nil || status != http.StatusOK || header.Get("Content-Type") != "application/json" || len(targets) != 3 {
		t.Fatalf("status %d, %v, %s", status, err, body)
	}
	for i, want := range []string{"Subscription 0001", `Name with "quotes" and newline`, "Subscription 0003"} {
		sub := tenant.Subscriptions[i]
		got := fmt.Sprint(targets[i])
		state := map[bool]string{true: "Disabled", false: "Enabled"}[i == 2]
		if got != fmt.Sprint(targetGroup{[]string{sub.ID}, map[string]string{
			"__meta_azure_secure_score_subscription_id": sub.ID, "__meta_azure_secure_score_subscription_name": want,
			"__meta_azure_secure_score_subscription_state": state, "__meta_azure_secure_score_tenant_id": simulator.TenantID,
			"__meta_azure_secure_score_owner": "", "__meta_azure_secure_score_management_group_ids": "",
		}}) {
			t.Errorf("target %d: %s", i, got)
		}
	}
	if n := s.Requests()[simulator.RouteSubscriptions]; n != 4 { // three attempts that failed, and one
		t.Errorf("%d lists of subscriptions", n)
	}
	// An identity that has lost its roles gets an empty list: the last one serves.
	s.SetListFault(simulator.EmptyList())
	s.advance(11 * time.Minute)
	if status, _, again := s.get(t, "/sd"); status != http.StatusOK || again != body {
		t.Errorf("an empty list: %d %s", status, again)
	}
}
