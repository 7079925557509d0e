package exporter

import (
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-kit/log"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

func arm(c *azure.Client) Source { return azure.NewARM(azure.NewResourceGraph(c)) }

// ownedTenant has three subscriptions: one with everything, one with some of it, one with nothing.
func ownedTenant() simulator.Tenant {
	tenant := simulator.Generate(3, 1)
	all := tenant.Subscriptions
	all[0].Tags = map[string]string{"Owner": "web-team", "cost-center": "4711", "Cost Center": "other", "Environment": "production", "target": "80%", "secret": "s3cr3t"}
	all[1].Tags = map[string]string{"owner": "data-team", "target": "high", "secret": "s3cr3t"}
	tenant.ManagementGroups = map[string][]string{"root": {"corp"}, "corp": {all[0].ID}, "unused": nil}
	tenant.ManagementGroups["root"] = append(tenant.ManagementGroups["root"], all[1].ID)
	tenant.ManagementGroupNames = map[string]string{"corp": "Corporate"}
	return tenant
}

// ownedConfigs ask for the tags of ownedTenant.
func ownedConfigs() (Config, azure.Config) {
	cfg := DefaultConfig()
	cfg.SubscriptionTags = []string{"environment", "cost-center", "cost center"}
	return cfg, azure.Config{SubscriptionTags: cfg.SubscriptionTags, OwnerTag: "owner", TargetTag: "Target"}
}

// ownership are the lines about owners, tags, targets and groups.
func ownership(lines []string) []string {
	return slices.DeleteFunc(slices.Clone(lines), func(line string) bool {
		return !strings.Contains(line, "subscription_info{") && !strings.Contains(line, "subscription_tags") &&
			!strings.Contains(line, "target_ratio") && !strings.Contains(line, "management_group")
	})
}

func TestOwnership_Golden(t *testing.T) {
	t.Parallel()
	for name, source := range map[string]func(*azure.Client) Source{"arm": arm, "resourcegraph": resourceGraph} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, azureCfg := ownedConfigs()
			s := startFrom(t, ownedTenant(), cfg, azureCfg, source)
			lines := s.scrape(t, "10")
			golden(t, "ownership", ownership(lines))
			if strings.Contains(strings.Join(lines, "\n"), "s3cr3t") {
				t.Error("a tag that is not asked for is exported")
			}
			if logged := s.log.String(); strings.Count(logged, "ignoring a tag that maps to the same label as another") != 1 || strings.Count(logged, "ignoring an invalid target") != 1 {
				t.Errorf("logged:\n%s", logged)
			}
			_, _, probe := s.get(t, "/probe?target="+simulator.Generate(1, 1).Subscriptions[0].ID)
			if got := ownership(strings.Split(probe, "\n")); len(got) != 1 || !strings.Contains(got[0], `subscription_owner="web-team"`) {
				t.Errorf("the probe has %q", got)
			}
		})
	}
}

// Names and values that Azure allows, and some that it does not, become labels.
func TestOwnership_HostileTags(t *testing.T) {
	t.Parallel()
	names := []string{"ü", "a b", "a.b", "1", "hidden-title:x", strings.Repeat("n", 512), `"} 1`, "tag"}
	tenant := simulator.Generate(2, 1)
	tenant.Subscriptions[0].Tags = map[string]string{
		"Ü": "umlaut", "a b": "a\nb\"} 1\\", "a.b": "collides", "1": "\u202e\x00", "HIDDEN-title:x": strings.Repeat("v", 256), names[5]: "\xff", `"} 1`: "quoted", "tag": " ", "owner": "x\ty",
	}
	for i := range 41 {
		tenant.Subscriptions[0].Tags[fmt.Sprintf("more %d", i)] = "x"
	}
	tenant.ManagementGroups = map[string][]string{"g": {tenant.Subscriptions[0].ID}}
	tenant.ManagementGroupNames = map[string]string{"g": "Line\nbreak \"and\" \\"}
	cfg := DefaultConfig()
	cfg.SubscriptionTags = names
	s := startFrom(t, tenant, cfg, azure.Config{SubscriptionTags: names, OwnerTag: "Owner"}, arm)
	golden(t, "ownership hostile", ownership(s.scrape(t, "10")))
	if n := strings.Count(s.log.String(), "ignoring a tag that maps to the same label as another"); n != 1 {
		t.Errorf("%d tags are left out, want a.b:\n%s", n, s.log)
	}
}

// If the groups cannot be read, the last ones remain and the collection is good.
func TestOwnership_GroupsCannotBeRead(t *testing.T) {
	t.Parallel()
	cfg, azureCfg := ownedConfigs()
	s := startFrom(t, ownedTenant(), cfg, azureCfg, arm)
	s.SetGraphFault(simulator.Forbidden())
	golden(t, "ownership groups forbidden from the start", withUp(s.scrape(t, "10")))
	s.SetGraphFault(nil)
	s.advance(11 * time.Minute)
	want := withUp(s.scrape(t, "10"))
	s.SetGraphFault(simulator.Forbidden())
	s.advance(11 * time.Minute)
	if got := withUp(s.scrape(t, "10")); !slices.Equal(got, want) {
		t.Errorf("groups change:\n%s", difference(strings.Join(want, "\n"), strings.Join(got, "\n")))
	}
	golden(t, "ownership groups forbidden later", want)
}

func withUp(lines []string) []string {
	up := slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return !strings.HasPrefix(line, prefix+"up ") })
	return append(ownership(lines), up...)
}

// The series of the old group end with the next list, and a renamed group has one name.
func TestOwnership_MovedAndRenamed(t *testing.T) {
	t.Parallel()
	cfg, azureCfg := ownedConfigs()
	tenant := ownedTenant()
	s := startFrom(t, tenant, cfg, azureCfg, resourceGraph)
	s.scrape(t, "10")
	s.SetManagementGroups(map[string][]string{"root": {"corp", tenant.Subscriptions[0].ID}, "corp": {tenant.Subscriptions[1].ID}}, map[string]string{"root": "Tenant Root Group", "corp": "Corporation"})
	retagged := tenant.Subscriptions[0]
	retagged.Tags = map[string]string{"owner": "new-team"}
	s.SetSubscription(retagged)
	s.advance(11 * time.Minute)
	golden(t, "ownership moved and renamed", ownership(s.scrape(t, "10")))
}

func TestTagLabels(t *testing.T) {
	t.Parallel()
	got := newTagLabels([]string{"env", "a-b", "A-B", "a b", "Env"}, log.NewNopLogger())
	if want := []tagLabel{{"tag_A_B", 2}, {"tag_Env", 4}, {"tag_a_b", 1}, {"tag_env", 0}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestSD_Ownership(t *testing.T) {
	t.Parallel()
	cfg, azureCfg := ownedConfigs()
	s := startFrom(t, ownedTenant(), cfg, azureCfg, arm)
	_, _, body := s.get(t, "/sd")
	var targets []targetGroup
	if err := json.Unmarshal([]byte(body), &targets); err != nil || len(targets) != 3 {
		t.Fatalf("%v in %s", err, body)
	}
	const meta = "__meta_azure_secure_score_"
	for i, want := range []map[string]string{
		{"owner": "web-team", "management_group_ids": ",corp,root,", "tag_environment": "production", "tag_cost_center": "4711"},
		{"owner": "data-team", "management_group_ids": ",root,"},
		{"owner": "", "management_group_ids": ""},
	} {
		got := map[string]string{}
		for name, value := range targets[i].Labels {
			if name, ok := strings.CutPrefix(name, meta); ok && !strings.HasPrefix(name, "subscription_") && name != "tenant_id" {
				got[name] = value
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("target %d has %v, want %v", i, got, want)
		}
	}
}

func TestStatusList_OwnersAndGroups(t *testing.T) {
	t.Parallel()
	cfg, azureCfg := ownedConfigs()
	tenant := ownedTenant()
	tenant.Subscriptions[0].Connectors = []simulator.Connector{{Name: "aws", Environment: "AWS", Controls: tenant.Subscriptions[0].Controls}}
	s := startFrom(t, tenant, cfg, azureCfg, resourceGraph)
	s.scrape(t, "10")
	for query, want := range map[string][]string{
		"":                              {"Subscription 0001", "Subscription 0002", "Subscription 0003", "aws"},
		"?owner=web-team":               {"Subscription 0001", "aws"},
		"?group=root":                   {"Subscription 0001", "Subscription 0002", "aws"},
		"?group=corp&owner=data-team":   nil,
		"?group=root&q=0002":            {"Subscription 0002"},
		"?owner=unknown":                nil,
		"?group=unused":                 nil,
		"?owner=web-team&state=failing": nil,
	} {
		status, _, page := s.get(t, "/status"+query)
		got := rows(page)
		slices.Sort(got)
		if status != http.StatusOK || !slices.Equal(got, want) {
			t.Errorf("%q: %d %q, want %q", query, status, got, want)
		}
	}

	_, _, page := s.get(t, "/status?owner=web-team&state=read&sort=name")
	page = html.UnescapeString(page)
	for _, want := range []string{
		`<option value="web-team" selected>`, `<option value="corp">Corporate</option>`, `<option value="root">root</option>`,
		`<input type="hidden" name="state" value="read">`, `href="status?owner=web-team&sort=name"`, `href="status?sort=name&state=read">clear</a>`,
		`<rect class="target" x="80.0"`, `target 80.0 %`, `<td data-label="Owner"><a href="status?owner=web-team&sort=name&state=read">web-team</a></td>`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %s in\n%s", want, page)
		}
	}
	_, _, page = s.get(t, "/status?owner=gone&group="+strings.Repeat("x", 5000))
	if !strings.Contains(page, `<option value="gone" selected>`) || strings.Contains(page, strings.Repeat("x", maxFilter+1)) {
		t.Errorf("unknown owner and group:\n%s", page)
	}
	_, _, page = s.get(t, "/status?subscription="+tenant.Subscriptions[0].ID)
	if text := words(page); !strings.Contains(text, "Owner: web-team Management groups: root / Corporate") || !strings.Contains(text, "The target is 80.0 %") {
		t.Errorf("the detail lacks the owner, the groups or the target:\n%s", text)
	}
}

// Without owners there is no column for them.
func TestStatusList_NoOwners(t *testing.T) {
	t.Parallel()
	s := start(t, simulator.Generate(2, 1), DefaultConfig(), azure.Config{})
	s.scrape(t, "10")
	if _, _, page := s.get(t, "/status"); strings.Contains(page, "Owner") || strings.Contains(page, "<select") || strings.Contains(page, `class="target"`) {
		t.Errorf("the page shows owners or groups:\n%s", page)
	}
}

// Owners and groups to choose from are bounded.
func TestStatusList_ManyOwners(t *testing.T) {
	t.Parallel()
	texts := map[string]string{}
	for i := range 2000 {
		texts[fmt.Sprintf("o%04d", i)] = fmt.Sprintf("Owner %04d", i)
	}
	options := newStatusOptions(texts, "o1999")
	if len(options) != maxStatusOptions+1 || options[0].Text != "Owner 0000" || options[maxStatusOptions] != (statusOption{"o1999", "Owner 1999", true}) {
		t.Errorf("%d options, the last is %v", len(options), options[len(options)-1])
	}
}
