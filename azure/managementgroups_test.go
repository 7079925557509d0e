package azure

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-kit/log"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// groupedTenant has two subscriptions below root and a, and one without a group.
func groupedTenant() simulator.Tenant {
	tenant := simulator.Generate(3, 1)
	tenant.ManagementGroups = map[string][]string{"root": {"a"}, "a": ids(tenant)[:2]}
	tenant.ManagementGroupNames = map[string]string{"a": "Group A"}
	return tenant
}

var (
	groupA = ManagementGroup{ID: "a", Name: "Group A"}
	root   = ManagementGroup{ID: "root", Name: "root"}
)

// lister lists subscriptions, from either source.
type lister interface {
	Subscriptions(context.Context) ([]Subscription, error)
}

// eachSource runs a test with both sources of the list.
func eachSource(t *testing.T, tenant simulator.Tenant, cfg Config, test func(t *testing.T, sim *simulator.Server, source lister)) {
	for _, name := range []string{"arm", "resourcegraph"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim, g := startGraph(t, tenant, cfg)
			if name == "arm" {
				test(t, sim, NewARM(g))
			} else {
				test(t, sim, g)
			}
		})
	}
}

func listGroups(t *testing.T, source lister) [][]ManagementGroup {
	t.Helper()
	subscriptions, err := source.Subscriptions(within(t, 20*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	var groups [][]ManagementGroup
	for _, s := range sorted(subscriptions) {
		groups = append(groups, s.ManagementGroups)
	}
	return groups
}

func TestManagementGroups_NearestFirst(t *testing.T) {
	t.Parallel()
	eachSource(t, groupedTenant(), Config{}, func(t *testing.T, sim *simulator.Server, source lister) {
		got := listGroups(t, source)
		want := [][]ManagementGroup{{groupA, root}, {groupA, root}, nil}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if &got[0][0] != &got[1][0] {
			t.Error("two subscriptions have lists of their own")
		}
		if n := sim.Requests()[simulator.RouteGraph]; n != 1 {
			t.Errorf("%d queries, want 1", n)
		}
	})
}

// With configured subscriptions and with management groups, the groups above are the same.
func TestManagementGroups_OfSelectedSubscriptions(t *testing.T) {
	t.Parallel()
	tenant := groupedTenant()
	for name, cfg := range map[string]Config{
		"by ID":                 {SubscriptionIDs: ids(tenant)[:1]},
		"below a group":         {ManagementGroups: []string{"a"}, ExcludeSubscriptionIDs: ids(tenant)[1:2]},
		"excluded":              {ExcludeSubscriptionIDs: ids(tenant)[1:]},
		"by ID, of three forms": {SubscriptionIDs: ids(tenant)[:1]},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachSource(t, tenant, cfg, func(t *testing.T, sim *simulator.Server, source lister) {
				if strings.Contains(name, "three forms") {
					sim.SetGraphFault(simulator.RefusePacking())
				}
				if got := listGroups(t, source); !reflect.DeepEqual(got, [][]ManagementGroup{{groupA, root}}) {
					t.Errorf("got %v", got)
				}
			})
		})
	}
}

// Groups that cannot be read remain as they were, and the list does not fail.
func TestManagementGroups_LastOnesRemain(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]simulator.Fault{
		"no permission":      simulator.Forbidden(),
		"server error":       simulator.ServerError(500),
		"every form refused": simulator.Error(400, "BadRequest", "…"),
		"no list":            simulator.Body(200, "application/json", `{}`),
		"truncated":          simulator.ResultTruncated(1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var logged bytes.Buffer
			sim, g := startGraph(t, groupedTenant(), Config{Logger: log.NewLogfmtLogger(&logged)})
			source := NewARM(g)
			want := listGroups(t, source)
			sim.SetGraphFault(fault)
			for range 2 {
				if got := listGroups(t, source); !reflect.DeepEqual(got, want) {
					t.Errorf("got %v, want %v", got, want)
				}
			}
			sim.SetGraphFault(nil)
			sim.SetManagementGroups(map[string][]string{"b": ids(groupedTenant())}, nil)
			b := []ManagementGroup{{"b", "b"}}
			if got := listGroups(t, source); !reflect.DeepEqual(got, [][]ManagementGroup{b, b, b}) {
				t.Errorf("afterwards: %v", got)
			}
			for _, text := range []string{"cannot read management groups; using the last known ones", "management groups can be read again"} {
				if strings.Count(logged.String(), text) != 1 {
					t.Errorf("want one line with %q:\n%s", text, logged.String())
				}
			}
		})
	}
}

// The list that ARM has instead of Resource Graph keeps the groups, too.
func TestManagementGroups_LastOnesRemainWithARMsList(t *testing.T) {
	t.Parallel()
	sim, g := startGraph(t, groupedTenant(), Config{})
	want := listGroups(t, g)
	sim.SetGraphFault(simulator.ServerError(500))
	if got := listGroups(t, g); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// A query that hangs leaves the list the rest of the time.
func TestManagementGroups_Hang(t *testing.T) {
	t.Parallel()
	sim, g := startGraph(t, groupedTenant(), Config{})
	source := NewARM(g)
	want := listGroups(t, source)
	sim.SetGraphFault(simulator.Hang())
	began := time.Now()
	subscriptions, err := source.Subscriptions(within(t, 2*time.Second))
	if err != nil || len(subscriptions) != 3 || !reflect.DeepEqual(sorted(subscriptions)[0].ManagementGroups, want[0]) {
		t.Errorf("%v, %v", subscriptions, err)
	}
	if took := time.Since(began); took > 1900*time.Millisecond {
		t.Errorf("it took %s of two seconds", took)
	}
}

// The list and the groups are requested at the same time: here each is answered once both are.
func TestManagementGroups_ReadBesideTheList(t *testing.T) {
	t.Parallel()
	sim, g := startGraph(t, groupedTenant(), Config{})
	listRequested, groupsRequested := make(chan struct{}), make(chan struct{})
	await := func(mine, other chan struct{}) simulator.Fault {
		return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			close(mine)
			select {
			case <-other:
				next.ServeHTTP(w, r)
			case <-r.Context().Done():
			}
		}
	}
	sim.SetListFault(await(listRequested, groupsRequested))
	sim.SetGraphFault(await(groupsRequested, listRequested))
	if got, want := listGroups(t, NewARM(g)), [][]ManagementGroup{{groupA, root}, {groupA, root}, nil}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// A list that fails does not wait for the groups.
func TestManagementGroups_ListFails(t *testing.T) {
	t.Parallel()
	sim, g := startGraph(t, groupedTenant(), Config{})
	sim.SetListFault(simulator.Forbidden())
	sim.SetGraphFault(simulator.Hang())
	began := time.Now()
	if got, err := NewARM(g).Subscriptions(within(t, 20*time.Second)); ReasonOf(err) != ReasonForbidden {
		t.Errorf("%d subscriptions, %v", len(got), err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}

// Of two queries, the one that fails keeps its last groups alone.
func TestManagementGroups_OneQueryFails(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(1500, 0)
	tenant.SubscriptionPageSize = 1000
	tenant.ManagementGroups = map[string][]string{"a": ids(tenant)}
	sim, g := startGraph(t, tenant, Config{SubscriptionIDs: ids(tenant)})
	source := NewARM(g)
	listGroups(t, source)
	sim.SetManagementGroups(map[string][]string{"b": ids(tenant)}, nil)
	var queries atomic.Int64
	sim.SetGraphFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if queries.Add(1) == 1 {
			simulator.Body(200, "application/json", `{}`)(w, r, next)
			return
		}
		next.ServeHTTP(w, r)
	})
	count := map[string]int{}
	for _, groups := range listGroups(t, source) {
		count[fmt.Sprint(groups)]++
	}
	if a, b := count["[{a a}]"], count["[{b b}]"]; a+b != 1500 || min(a, b) != 500 {
		t.Errorf("groups: %v", count)
	}
}

// A moved subscription loses its old groups at once, and a renamed group its name.
func TestManagementGroups_MovedAndRenamed(t *testing.T) {
	t.Parallel()
	tenant := groupedTenant()
	eachSource(t, tenant, Config{}, func(t *testing.T, sim *simulator.Server, source lister) {
		listGroups(t, source)
		all := ids(tenant)
		sim.SetManagementGroups(map[string][]string{"root": {"a", all[0]}, "a": {all[1]}}, map[string]string{"a": "Group Z"})
		if got, want := listGroups(t, source), [][]ManagementGroup{{root}, {{"a", "Group Z"}, root}, nil}; !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		sim.SetManagementGroups(nil, nil)
		if got := listGroups(t, source); !reflect.DeepEqual(got, [][]ManagementGroup{nil, nil, nil}) {
			t.Errorf("without groups: %v", got)
		}
	})
}

// A query over the whole tenant does not cover it, queries by ID do.
func TestManagementGroups_OfMoreThanAQueryCovers(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(10_500, 0)
	tenant.SubscriptionPageSize = 1000
	tenant.ManagementGroups = map[string][]string{"a": ids(tenant)}
	eachSource(t, tenant, Config{}, func(t *testing.T, _ *simulator.Server, source lister) {
		for i, groups := range listGroups(t, source) {
			if len(groups) != 1 {
				t.Fatalf("subscription %d has the groups %v", i, groups)
			}
		}
	})
}

func TestParseAncestors(t *testing.T) {
	t.Parallel()
	var twelve []string
	var ten []ManagementGroup
	for i := range 12 {
		id := fmt.Sprintf("g%d", i)
		twelve = append(twelve, fmt.Sprintf(`{"name":"%s","displayName":"%s"}`, id, strings.ToUpper(id)))
		if i < 10 {
			ten = append(ten, ManagementGroup{id, strings.ToUpper(id)})
		}
	}
	for name, test := range map[string]struct {
		text string
		want []ManagementGroup
	}{
		"absent":          {``, nil},
		"null":            {`null`, nil},
		"empty":           {`[]`, nil},
		"an object":       {`{"name":"a"}`, nil},
		"numbers":         {`[1]`, nil},
		"texts":           {`["a"]`, nil},
		"no display name": {`[{"name":"a"},{"name":"b","displayName":null}]`, []ManagementGroup{{"a", "a"}, {"b", "b"}}},
		"no name":         {`[{"displayName":"x"},{"name":"b"}]`, []ManagementGroup{{"b", "b"}}},
		"a group twice":   {`[{"name":"a"},{"name":"A","displayName":"x"}]`, []ManagementGroup{{"a", "a"}}},
		"hostile":         {`[{"name":"a\n\"} 1","displayName":"\u202ex\u0000"}]`, []ManagementGroup{{`a "} 1`, "x"}}},
		"twelve":          {`[` + strings.Join(twelve, ",") + `]`, ten},
	} {
		if got := parseAncestors([]byte(test.text)); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
}

// One query covers 10,000 subscriptions ten levels deep.
func TestManagementGroups_ChainOfTen(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(10_000, 0)
	tenant.ManagementGroups = map[string][]string{"g0": ids(tenant)}
	for i := 1; i < 10; i++ {
		tenant.ManagementGroups[fmt.Sprintf("g%d", i)] = []string{fmt.Sprintf("g%d", i-1)}
	}
	sim, g := startGraph(t, tenant, Config{OwnerTag: "owner"})
	for _, groups := range listGroups(t, g) {
		if len(groups) != 10 || groups[0].ID != "g0" || groups[9].ID != "g9" {
			t.Fatalf("groups %v", groups)
		}
	}
	if n := sim.Requests()[simulator.RouteGraph]; n != 1 {
		t.Errorf("%d queries, want 1", n)
	}
}

// Tags can make a packed result larger than Resource Graph's maximum: then the list comes from ARM.
func TestManagementGroups_ManyTags(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(2000, 0)
	tenant.SubscriptionPageSize = 50
	tenant.ManagementGroups = map[string][]string{"g": ids(tenant)}
	tags := map[string]string{"owner": "web"}
	for i := range 49 {
		tags[fmt.Sprintf("tag %d", i)] = strings.Repeat("x", 256)
	}
	for i := range tenant.Subscriptions {
		tenant.Subscriptions[i].Tags = tags
	}
	_, g := startGraph(t, tenant, Config{OwnerTag: "owner"})
	subscriptions, err := g.Subscriptions(within(t, time.Minute))
	if err != nil || len(subscriptions) != 2000 {
		t.Fatalf("%d subscriptions, %v", len(subscriptions), err)
	}
	for _, s := range subscriptions {
		if s.Owner != "web" || len(s.ManagementGroups) != 1 {
			t.Fatalf("subscription %+v", s)
		}
	}
}
