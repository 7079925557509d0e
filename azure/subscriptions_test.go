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

// Configured subscriptions need no permission to list.
func TestSubscriptions_Configured(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(2, 1)
	known, hidden := "aaaaaaaa-0000-4000-8000-000000000001", "99999999-0000-4000-8000-000000000000"
	tenant.Subscriptions[1].ID = known
	cfg := Config{SubscriptionIDs: []string{strings.ToUpper(known), hidden}}
	sim, client := start(t, tenant, cfg)
	ctx := within(t, 30*time.Second)
	got, err := client.Subscriptions(ctx)
	if err != nil || len(got) != 2 || got[0].Name != tenant.Subscriptions[1].Name || !reflect.DeepEqual(got[1], Subscription{ID: hidden}) {
		t.Errorf("got %+v, %v", got, err)
	}
	sim.SetListFault(simulator.Forbidden())
	got, err = client.Subscriptions(ctx)
	if err != nil || len(got) != 2 || !reflect.DeepEqual(got[0], Subscription{ID: known}) {
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
	if err != nil || len(got) != 1 || !reflect.DeepEqual(got[0], want) || got[0].Active() {
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
	if f := report.SubscriptionList; f.OK || !strings.Contains(f.Detail, "missing permission Microsoft.Management/managementGroups/descendants/read") || !strings.Contains(f.Fix, "--scope /providers/Microsoft.Management/managementGroups/Corp") {
		t.Errorf("check says %+v", f)
	}
}

func TestSubscriptions_Excluded(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(4, 1)
	all := ids(tenant)
	tenant.ManagementGroups = map[string][]string{"corp": {all[0], all[1]}}
	for name, test := range map[string]struct {
		cfg  Config
		want []string
	}{
		"of all":          {Config{ExcludeSubscriptionIDs: []string{all[1], strings.ToUpper(all[3])}}, []string{all[0], all[2]}},
		"of a group":      {Config{ExcludeSubscriptionIDs: all[1:2], ManagementGroups: []string{"corp"}}, all[:1]},
		"of configured":   {Config{ExcludeSubscriptionIDs: all[1:2], SubscriptionIDs: all[:2]}, all[:1]},
		"unknown":         {Config{ExcludeSubscriptionIDs: []string{"99999999-0000-4000-8000-000000000000"}}, all},
		"nothing is left": {Config{ExcludeSubscriptionIDs: all}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, client := start(t, tenant, test.cfg)
			subscriptions, err := client.Subscriptions(within(t, 20*time.Second))
			var got []string
			for _, s := range subscriptions {
				got = append(got, s.ID)
			}
			if err != nil || !slices.Equal(got, test.want) {
				t.Errorf("got %v, %v, want %v", got, err, test.want)
			}
			for _, s := range client.Configured() {
				if !slices.Contains(test.want, s.ID) {
					t.Errorf("%s is configured", s.ID)
				}
			}
		})
	}
}

// If some of the management groups cannot be read, the others can: the log says so once, and check
// fails.
func TestSubscriptions_RefusedManagementGroup(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(3, 1)
	all := ids(tenant)
	tenant.ManagementGroups = map[string][]string{"corp": {all[0]}, "other": {all[2]}}
	var logged bytes.Buffer
	sim, client := start(t, tenant, Config{ManagementGroups: []string{"corp", "other", "My-Typo"}, Logger: log.NewLogfmtLogger(&logged)})
	refuse := func(groups ...string) {
		logged.Reset()
		sim.SetGroupFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if slices.ContainsFunc(groups, func(group string) bool {
				return strings.Contains(strings.ToLower(r.URL.Path), "/"+strings.ToLower(group)+"/")
			}) {
				next = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { simulator.Forbidden()(w, r, nil) })
			}
			next.ServeHTTP(w, r)
		})
	}
	list := func(want ...string) {
		t.Helper()
		subscriptions, err := client.Subscriptions(within(t, 20*time.Second))
		var got []string
		for _, s := range subscriptions {
			got = append(got, s.ID)
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("got %v, %v, want %v", got, err, want)
		}
	}
	logs := func(texts ...string) {
		t.Helper()
		lines := strings.Split(strings.TrimSpace(logged.String()), "\n")
		if len(texts) == 0 && logged.Len() == 0 {
			return
		}
		if len(lines) != len(texts) {
			t.Fatalf("logged %q, want %q", lines, texts)
		}
		for i, text := range texts {
			if !strings.Contains(lines[i], text) {
				t.Errorf("logged %q, want %q", lines[i], text)
			}
		}
	}

	refuse("My-Typo")
	list(all[0], all[2])
	logs("group=My-Typo reason=forbidden")
	refuse("My-Typo")
	list(all[0], all[2])
	logs()

	report := client.Check(within(t, 20*time.Second), func(int) {}, func() {})
	f := report.SubscriptionList
	if report.OK || f.OK || f.Reason != ReasonForbidden || len(report.Subscriptions) != 2 || !report.Subscriptions[0].OK() {
		t.Errorf("check: %+v", report)
	}
	if !strings.HasPrefix(f.Detail, "2 to read; management group My-Typo: missing permission Microsoft.Management/managementGroups/descendants/read: HTTP 403") ||
		!strings.Contains(f.Fix, "check that --azure.management-group is the ID of the group and not its display name") ||
		!strings.Contains(f.Fix, "--scope /providers/Microsoft.Management/managementGroups/My-Typo") {
		t.Errorf("check: %+v", f)
	}
	logs()

	refuse("My-Typo", "corp")
	list(all[2])
	logs("group=corp reason=forbidden")
	refuse() // Azure answers 403 for the third one, which does not exist
	list(all[0], all[2])
	logs("can be read again\" group=corp")

	refuse("corp", "other", "My-Typo")
	if _, err := client.Subscriptions(within(t, 20*time.Second)); ReasonOf(err) != ReasonForbidden || !strings.Contains(err.Error(), "management group corp: HTTP 403") {
		t.Errorf("all refused: %v", err)
	}
	// A failure that may pass is one of the whole list: it must not look like fewer subscriptions.
	sim.SetGroupFault(simulator.ServerError(503))
	if _, err := client.Subscriptions(within(t, 20*time.Second)); ReasonOf(err) != ReasonServerError {
		t.Errorf("unavailable: %v", err)
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
