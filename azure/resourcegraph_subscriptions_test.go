package azure

import (
	"bytes"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-kit/log"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

func sorted(subscriptions []Subscription) []Subscription {
	slices.SortFunc(subscriptions, func(a, b Subscription) int { return strings.Compare(a.ID, b.ID) })
	return subscriptions
}

// statesTenant has a subscription in each state and one that the identity cannot read.
func statesTenant() simulator.Tenant {
	tenant := simulator.Generate(160, 1)
	tenant.SubscriptionPageSize = 50
	for i, state := range []string{"Enabled", "Warned", "PastDue", "Disabled", "Deleted"} {
		tenant.Subscriptions[i].State = state
	}
	tenant.Subscriptions[5].NoAccess = true
	tenant.Subscriptions[6].Tags = map[string]string{"Owner": "web", "env": "prod", "target": "80%"}
	tenant.Subscriptions[7].Tags = map[string]string{"owner": "data", "TARGET": "high"}
	return tenant
}

func TestResourceGraphSubscriptions_SameAsARM(t *testing.T) {
	t.Parallel()
	all := ids(statesTenant())
	unknown := "99999999-0000-4000-8000-000000000000"
	for name, test := range map[string]struct {
		cfg     Config
		fault   simulator.Fault
		queries int
		groups  map[string][]string
	}{
		"packed":                  {Config{}, nil, 1, nil},
		"packed with pack":        {Config{}, simulator.RefuseBagPack(), 2, nil},
		"plain, pages of 64":      {Config{}, simulator.RefusePacking(), 5, nil},
		"excluded":                {Config{ExcludeSubscriptionIDs: all[:2]}, nil, 1, nil},
		"named":                   {Config{SubscriptionIDs: []string{all[7], unknown, all[3]}}, nil, 1, nil},
		"named and unknown":       {Config{SubscriptionIDs: []string{unknown}}, nil, 1, nil},
		"below management groups": {Config{ManagementGroups: []string{"g"}}, nil, 1, map[string][]string{"g": all[:3]}},
		"with tags":               {Config{SubscriptionTags: []string{"x", "Env"}, OwnerTag: "OWNER", TargetTag: "target"}, nil, 1, nil},
		"plain with tags":         {Config{OwnerTag: "owner"}, simulator.RefusePacking(), 5, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenant := statesTenant()
			tenant.ManagementGroups = test.groups
			sim, client := start(t, tenant, test.cfg)
			sim.SetGraphFault(test.fault)
			want, err := NewARM(NewResourceGraph(client)).Subscriptions(within(t, time.Minute))
			if err != nil {
				t.Fatal(err)
			}
			sim.ResetRequests()
			g := newResourceGraph(client, 64, newGraphQuota(graphQuotaQueries))
			got, err := g.Subscriptions(within(t, time.Minute))
			if err != nil || !reflect.DeepEqual(sorted(got), sorted(want)) {
				t.Errorf("got %+v, %v, want %+v", got, err, want)
			}
			if queries := sim.Requests()[simulator.RouteGraph]; queries != test.queries {
				t.Errorf("%d queries, want %d", queries, test.queries)
			}
		})
	}
}

func TestResourceGraphSubscriptions_NamesConfiguredOnes(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(1100, 1)
	sim, g := startGraph(t, tenant, Config{SubscriptionIDs: ids(tenant)})
	got, err := g.Subscriptions(within(t, time.Minute))
	if err != nil || len(got) != 1100 || got[1099].Name != tenant.Subscriptions[1099].Name {
		t.Errorf("%d subscriptions, %v", len(got), err)
	}
	requests := sim.Requests()
	if requests[simulator.RouteGraph] != 2 || requests[simulator.RouteSubscriptions] != 0 {
		t.Errorf("requests: %v", requests)
	}
}

// ARM's list is used when Resource Graph has no complete one, and the log says so once.
func TestResourceGraphSubscriptions_FallBackToARM(t *testing.T) {
	t.Parallel()
	replace := func(old, replacement string) simulator.Fault {
		return simulator.Rewrite(func(_ *http.Request, body []byte) []byte {
			return bytes.Replace(body, []byte(old), []byte(replacement), 1)
		})
	}
	for name, fault := range map[string]simulator.Fault{
		"forbidden":           simulator.Forbidden(),
		"every form refused":  simulator.Error(400, "BadRequest", "…"),
		"truncated":           simulator.ResultTruncated(10),
		"server error":        simulator.ServerError(500),
		"no list":             simulator.Body(200, "application/json", `{}`),
		"a row is null":       replace(`{"part":`, `null,{"part":`),
		"items are missing":   replace(`"items":[`, `"ignored":[`),
		"items are an object": replace(`"items":[`, `"items":{},"ignored":[`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenant := statesTenant()
			var logged bytes.Buffer
			sim, g := startGraph(t, tenant, Config{Logger: log.NewLogfmtLogger(&logged)})
			sim.SetGraphFault(fault)
			for range 2 {
				if got, err := g.Subscriptions(within(t, 20*time.Second)); err != nil || !slices.Equal(sortedIDs(got), ids(tenant)) {
					t.Errorf("%d subscriptions, %v", len(got), err)
				}
			}
			sim.SetGraphFault(nil)
			listed := sim.Requests()[simulator.RouteSubscriptions]
			if got, err := g.Subscriptions(within(t, 20*time.Second)); err != nil || !slices.Equal(sortedIDs(got), ids(tenant)) {
				t.Errorf("afterwards: %d subscriptions, %v", len(got), err)
			}
			if n := sim.Requests()[simulator.RouteSubscriptions]; n != listed {
				t.Errorf("ARM was asked %d times afterwards", n-listed)
			}
			for _, text := range []string{"cannot list the subscriptions", "lists the subscriptions again"} {
				if strings.Count(logged.String(), text) != 1 {
					t.Errorf("want one line with %q:\n%s", text, logged.String())
				}
			}
		})
	}
}

// The quota resets after the deadline.
func TestResourceGraphSubscriptions_ThrottledUsesARM(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(3, 1)
	sim, g := startGraph(t, tenant, Config{})
	sim.SetGraphFault(simulator.Throttle(-1, time.Minute))
	for range 2 {
		if got, err := g.Subscriptions(within(t, 4*time.Second)); err != nil || !slices.Equal(sortedIDs(got), ids(tenant)) {
			t.Errorf("%d subscriptions, %v", len(got), err)
		}
	}
	if queries := sim.Requests()[simulator.RouteGraph]; queries != 1 {
		t.Errorf("%d queries, want one", queries)
	}
}

// A query over the whole tenant sees 10,000 subscriptions only.
func TestResourceGraphSubscriptions_MoreThanAQueryCovers(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]simulator.Fault{"packed": nil, "plain": simulator.RefusePacking()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenant := simulator.Generate(12_000, 0)
			tenant.SubscriptionPageSize = 1000
			sim, g := startGraph(t, tenant, Config{})
			sim.SetGraphFault(fault)
			got, err := g.Subscriptions(within(t, time.Minute))
			if err != nil || !slices.Equal(sortedIDs(got), ids(tenant)) {
				t.Errorf("%d subscriptions, %v", len(got), err)
			}
			want := map[string]int{"packed": 1 + 12, "plain": 3 + 12}[name] // the others are for the groups
			if queries := sim.Requests()[simulator.RouteGraph]; queries != want {
				t.Errorf("%d queries, want %d", queries, want)
			}
		})
	}
}

// ARM's list would fail as well, or has no time.
func TestResourceGraphSubscriptions_Failures(t *testing.T) {
	t.Parallel()
	for want, fault := range map[Reason]simulator.Fault{
		ReasonTimeout:        simulator.Hang(),
		ReasonAuthentication: simulator.ExpiredToken(),
	} {
		t.Run(string(want), func(t *testing.T) {
			t.Parallel()
			sim, g := startGraph(t, simulator.Generate(3, 1), Config{})
			sim.SetGraphFault(fault)
			if got, err := g.Subscriptions(within(t, 2*time.Second)); ReasonOf(err) != want {
				t.Errorf("%d subscriptions, %v", len(got), err)
			}
			if n := sim.Requests()[simulator.RouteSubscriptions]; n != 0 {
				t.Errorf("ARM was asked %d times", n)
			}
		})
	}
}

// An identity without a role sees no subscription in either list. ARM's gives the reason.
func TestResourceGraphSubscriptions_None(t *testing.T) {
	t.Parallel()
	_, g := startGraph(t, simulator.Tenant{}, Config{})
	if got, err := g.Subscriptions(within(t, time.Minute)); ReasonOf(err) != ReasonForbidden {
		t.Errorf("%d subscriptions, %v", len(got), err)
	}
}

func TestResourceGraphSubscriptions_LeavesOutInvalidOnes(t *testing.T) {
	t.Parallel()
	for name, item := range map[string]string{
		"null": `null`, "no ID": `{"name":"x"}`, "a number for a name": `{"subscriptionId":"00000001-0000-4000-8000-000000000001","name":1}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenant := simulator.Generate(20, 1)
			var logged bytes.Buffer
			sim, g := startGraph(t, tenant, Config{Logger: log.NewLogfmtLogger(&logged)})
			sim.SetGraphFault(simulator.Rewrite(func(_ *http.Request, body []byte) []byte {
				return bytes.Replace(body, []byte(`"items":[`), []byte(`"items":[`+item+`,`), 1)
			}))
			got, err := g.Subscriptions(within(t, time.Minute))
			if err != nil || !slices.Equal(sortedIDs(got), ids(tenant)) {
				t.Errorf("%d subscriptions, %v", len(got), err)
			}
			if !strings.Contains(logged.String(), "skipped invalid subscriptions") || !strings.Contains(logged.String(), "count=1") {
				t.Errorf("logged %s", logged.String())
			}
		})
	}
}
