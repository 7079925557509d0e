package simulator_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

func descendantsPath(group string) string {
	return "/providers/Microsoft.Management/managementGroups/" + group + "/descendants?api-version=2020-05-01"
}

func TestDescendants_OfNestedGroups(t *testing.T) {
	tenant := simulator.Generate(3, 1)
	ids := idsOf(tenant)
	unseen := "aaaaaaaa-0000-4000-8000-000000000002"
	tenant.ManagementGroups = map[string][]string{"Contoso": {ids[0], "corp", unseen}, "Corp": {ids[1], "Contoso"}, "empty": nil}
	tenant.ManagementGroupNames = map[string]string{"Corp": "Corporate"}
	tenant.PageSize = 3
	a, c := start(t, tenant)

	var got [][5]string
	url, pages := descendantsPath("contoso"), 0
	for ; url != ""; pages++ {
		response, body := c.body(url)
		var page struct {
			Value []struct {
				ID, Type, Name string
				Properties     struct {
					DisplayName string
					Parent      struct{ ID string }
				}
			}
			NextLink string
		}
		if err := json.Unmarshal([]byte(body), &page); err != nil || response.StatusCode != 200 {
			t.Fatalf("%d %v: %s", response.StatusCode, err, body)
		}
		for _, d := range page.Value {
			got = append(got, [5]string{d.ID, d.Type, d.Name, d.Properties.DisplayName, d.Properties.Parent.ID})
		}
		url = page.NextLink
	}
	const groups, longType = "/providers/Microsoft.Management/managementGroups/", "Microsoft.Management/managementGroups/subscriptions"
	want := [][5]string{
		{"/subscriptions/" + ids[0], "/subscriptions", ids[0], "Subscription 0001", groups + "Contoso"},
		{groups + "Corp", "Microsoft.Management/managementGroups", "Corp", "Corporate", groups + "Contoso"},
		{"/subscriptions/" + unseen, longType, unseen, unseen, groups + "Contoso"},
		{"/subscriptions/" + ids[1], longType, ids[1], "Subscription 0002", groups + "Corp"},
	}
	if !reflect.DeepEqual(got, want) || pages != 2 {
		t.Errorf("got %v on %d pages, want %v on 2", got, pages, want)
	}

	if _, body := c.body(descendantsPath("empty")); body != `{"value":[]}` {
		t.Errorf("the empty group: %s", body)
	}
	response, body := c.body(descendantsPath("other"))
	if response.StatusCode != 403 || !strings.Contains(body, "action 'Microsoft.Management/managementGroups/descendants/read' over scope '/providers/Microsoft.Management/managementGroups/other'") {
		t.Errorf("a group that is not there: %d %s", response.StatusCode, body)
	}
	if response, body := c.body(strings.Replace(descendantsPath("empty"), "2020-05-01", "2022-12-01", 1)); response.StatusCode != 400 || !strings.Contains(body, "for type 'managementGroups'") {
		t.Errorf("another API version: %d %s", response.StatusCode, body)
	}
	a.SetGroupFault(simulator.ServerError(503))
	if response, _ := c.body(descendantsPath("empty")); response.StatusCode != 503 {
		t.Errorf("faulty: %d", response.StatusCode)
	}
	if got := a.Requests()["list_descendants"]; got != 6 {
		t.Errorf("counted %d requests", got)
	}
}

// A group that gets another name or parent shows it in the next query.
func TestSetManagementGroups(t *testing.T) {
	tenant := simulator.Generate(2, 1)
	ids := idsOf(tenant)
	a, c := start(t, tenant)
	ancestors := func() string {
		_, body := c.refusal(object{"query": `resourcecontainers | where type =~ 'microsoft.resources/subscriptions' | project id, chain = properties.managementGroupAncestorsChain | order by id asc`})
		return body
	}
	if body := ancestors(); strings.Count(body, `"chain":null`) != 2 {
		t.Errorf("without groups: %s", body)
	}
	a.SetManagementGroups(map[string][]string{"root": {"a"}, "a": ids[:1]}, map[string]string{"a": "Group A"})
	if body := ancestors(); !strings.Contains(body, `"chain":[{"name":"a","displayName":"Group A"},{"name":"root","displayName":"root"}]`) {
		t.Errorf("with groups: %s", body)
	}
	a.SetManagementGroups(map[string][]string{"root": {"a", ids[0]}, "a": nil}, nil)
	if body := ancestors(); !strings.Contains(body, `"chain":[{"name":"root","displayName":"root"}]`) {
		t.Errorf("moved: %s", body)
	}
}
