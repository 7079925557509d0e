package simulator_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// unpack returns the items of packed rows by the ID of their subscription.
func unpack(t *testing.T, rows []row) map[string]row {
	t.Helper()
	items := map[string]row{}
	for _, r := range rows {
		for _, item := range r.Items {
			if _, twice := items[item.ID]; twice {
				t.Errorf("%s is packed twice", item.ID)
			}
			items[item.ID] = item
		}
	}
	return items
}

// Every subscription that ARM lists is a container, readable scores or not.
func TestContainers_AreTheListOfARM(t *testing.T) {
	tenant := mixed()
	_, c := start(t, tenant)
	listed, _ := c.list(subscriptionsPath)
	packed := unpack(t, c.query(object{"query": packedSubscriptionsQuery}).Data)
	plain := c.query(object{"query": plainSubscriptionsQuery})
	if len(packed) != 5 || plain.Count != 5 || len(listed) != 5 {
		t.Fatalf("%d packed, %d plain, %d listed", len(packed), plain.Count, len(listed))
	}
	for i, s := range listed {
		want := row{ID: s.SubscriptionID, Name: s.DisplayName, TenantID: s.TenantID, State: s.State}
		if got := packed[s.SubscriptionID]; !reflect.DeepEqual(got, want) {
			t.Errorf("packed %+v, want %+v", got, want)
		}
		want.ID, want.SubscriptionID = s.ID, s.SubscriptionID
		if got := plain.Data[i]; !reflect.DeepEqual(got, want) {
			t.Errorf("plain %+v, want %+v", got, want)
		}
	}
}

// A query of a tenant sees its first 10,000 subscriptions only, and says so.
func TestContainers_TenantLimit(t *testing.T) {
	tenant := generous(simulator.Generate(10_001, 0))
	a, c := start(t, tenant)
	limitHit := func() string {
		response, _ := c.refusal(object{"query": packedSubscriptionsQuery})
		return response.Header.Get("x-ms-tenant-subscription-limit-hit")
	}
	if got := limitHit(); got != "true" {
		t.Errorf("limit hit %q with 10,001 subscriptions", got)
	}
	packed := c.query(object{"query": packedSubscriptionsQuery})
	if items := unpack(t, packed.Data); len(items) != 10_000 || packed.Count != 16 {
		t.Errorf("%d subscriptions in %d rows, want 10,000 in 16", len(items), packed.Count)
	}

	pages, seen := 0, map[string]bool{}
	for options := (object{}); ; pages++ {
		page := c.query(object{"query": plainSubscriptionsQuery, "options": options})
		for _, r := range page.Data {
			seen[r.SubscriptionID] = true
		}
		if page.SkipToken == "" {
			break
		}
		options["$skipToken"] = page.SkipToken
	}
	if len(seen) != 10_000 || pages != 9 || seen[tenant.Subscriptions[10_000].ID] {
		t.Errorf("%d subscriptions on %d pages, want all but the last on 10", len(seen), pages+1)
	}

	a.RemoveSubscription(tenant.Subscriptions[0].ID)
	if got := limitHit(); got != "" {
		t.Errorf("limit hit %q with 10,000 subscriptions", got)
	}
}

func TestContainers_Scope(t *testing.T) {
	tenant := mixed()
	ids := idsOf(tenant)
	_, c := start(t, tenant)
	var got []string
	for _, r := range c.query(object{"query": plainSubscriptionsQuery, "subscriptions": ids[2:4]}).Data {
		got = append(got, r.SubscriptionID)
	}
	if !reflect.DeepEqual(got, ids[2:4]) {
		t.Errorf("got %v, want %v", got, ids[2:4])
	}
}

func TestContainers_TagsAndManagementGroups(t *testing.T) {
	tenant := generous(simulator.Generate(3, 1))
	ids := idsOf(tenant)
	tenant.Subscriptions[0].Tags = map[string]string{"owner": "a \"b\" <c>", "env": "prod"}
	tenant.ManagementGroups = map[string][]string{
		simulator.TenantID: {"Corp", ids[1]}, "corp": {"web"}, "web": {strings.ToUpper(ids[0])},
	}
	tenant.ManagementGroupNames = map[string]string{simulator.TenantID: "Tenant Root Group", "web": "Web Shops"}
	_, c := start(t, tenant)

	response, body := c.refusal(object{"query": subscriptionTypes +
		"| project id = subscriptionId, tags, groups = properties.managementGroupAncestorsChain | order by id asc"})
	var got struct {
		Data []struct {
			ID     string
			Tags   map[string]string
			Groups []struct{ Name, DisplayName string }
		}
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil || response.StatusCode != 200 || len(got.Data) != 3 {
		t.Fatalf("%d %v: %s", response.StatusCode, err, body)
	}
	if !reflect.DeepEqual(got.Data[0].Tags, tenant.Subscriptions[0].Tags) || !strings.Contains(body, `"tags":null`) {
		t.Errorf("tags in %s", body)
	}
	for i, want := range []string{
		"[{web Web Shops} {corp corp} {" + simulator.TenantID + " Tenant Root Group}]",
		"[{" + simulator.TenantID + " Tenant Root Group}]",
		"[]",
	} {
		if groups := fmt.Sprint(got.Data[i].Groups); groups != want {
			t.Errorf("subscription %d is below %s, want %s", i, groups, want)
		}
	}
	if !strings.Contains(body, `"groups":null`) {
		t.Errorf("no null in %s", body)
	}
}
