package simulator_test

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

type item struct {
	ID             string
	Name           string
	Type           string
	SubscriptionID string
	DisplayName    string
	State          string
	TenantID       string
	Tags           map[string]string
	Properties     struct {
		DisplayName                string
		Score                      struct{ Max, Current, Percentage float64 }
		HealthyResourceCount       int
		UnhealthyResourceCount     int
		NotApplicableResourceCount int
		Weight                     int
	}
}

// list follows the pages of a list and returns the items and the number of pages.
func (c *client) list(url string) (items []item, pages int) {
	c.t.Helper()
	for url != "" {
		response, body := c.body(url)
		var page struct {
			Value    []item
			NextLink string
		}
		if err := json.Unmarshal([]byte(body), &page); err != nil || response.StatusCode != http.StatusOK {
			c.t.Fatalf("GET %s: %d %v: %s", url, response.StatusCode, err, body)
		}
		items = append(items, page.Value...)
		pages++
		url = page.NextLink
	}
	return items, pages
}

const subscriptionsPath = "/subscriptions?api-version=2022-12-01"

func scoresPath(id string) string {
	return "/subscriptions/" + id + "/providers/Microsoft.Security/secureScores?api-version=2020-01-01"
}

func controlsPath(id string) string {
	return "/subscriptions/" + id + "/providers/Microsoft.Security/secureScoreControls?api-version=2020-01-01"
}

func TestLists_ThroughTheSDK(t *testing.T) {
	tenant := simulator.Generate(7, 16)
	tenant.PageSize = 3
	a, c := start(t, tenant)

	subscriptions, pages := c.list(subscriptionsPath)
	if len(subscriptions) != 7 || pages != 3 {
		t.Fatalf("got %d subscriptions on %d pages, want 7 on 3", len(subscriptions), pages)
	}
	for i, s := range tenant.Subscriptions {
		got := subscriptions[i]
		if got.SubscriptionID != s.ID || got.ID != "/subscriptions/"+s.ID || got.DisplayName != s.Name || got.State != "Enabled" || got.TenantID != simulator.TenantID {
			t.Errorf("subscription %d is %+v", i, got)
		}

		scores, _ := c.list(scoresPath(s.ID))
		if len(scores) != 1 {
			t.Fatalf("got %d scores", len(scores))
		}
		if want := "/subscriptions/" + s.ID + "/providers/Microsoft.Security/secureScores/ascScore"; scores[0].ID != want || scores[0].Name != "ascScore" {
			t.Errorf("score is called %q, %q", scores[0].ID, scores[0].Name)
		}
		checkScore(t, s.Name, scores[0], s.Score(), s.Weight())

		controls, pages := c.list(controlsPath(s.ID))
		if len(controls) != 16 || pages != 6 {
			t.Fatalf("got %d controls on %d pages, want 16 on 6", len(controls), pages)
		}
		for j, control := range s.Controls {
			got := controls[j]
			if want := scores[0].ID + "/secureScoreControls/" + control.ID; got.ID != want || got.Name != control.ID {
				t.Errorf("control is called %q, %q; want %q", got.ID, got.Name, want)
			}
			checkScore(t, control.DisplayName, got, control.Score(), control.Weight())
			p := got.Properties
			if p.DisplayName != control.DisplayName || p.HealthyResourceCount != control.Healthy || p.UnhealthyResourceCount != control.Unhealthy || p.NotApplicableResourceCount != control.NotApplicable {
				t.Errorf("control %+v, want %+v", p, control)
			}
		}
	}

	want := map[string]int{"openid_configuration": 1, "token": 1, "list_subscriptions": 3, "list_secure_scores": 7, "list_secure_score_controls": 7 * 6}
	if got := a.Requests(); !reflect.DeepEqual(got, want) {
		t.Errorf("requests %v, want %v", got, want)
	}
	if got := a.MaxInFlight(); got != 1 {
		t.Errorf("%d requests in flight, want 1", got)
	}
	a.ResetRequests()
	if got := a.Requests(); len(got) != 0 || a.MaxInFlight() != 0 {
		t.Errorf("after the reset: %v, %d in flight", got, a.MaxInFlight())
	}
}

func checkScore(t *testing.T, name string, got item, want simulator.Score, weight int) {
	t.Helper()
	s := got.Properties.Score
	if s.Max != want.Max || s.Current != want.Current || s.Percentage != want.Ratio || got.Properties.Weight != weight {
		t.Errorf("%s has %+v and weight %d, want %+v and %d", name, s, got.Properties.Weight, want, weight)
	}
}

func TestARM_RefusesInvalidRequests(t *testing.T) {
	tenant := simulator.Generate(1, 1)
	id := tenant.Subscriptions[0].ID
	a, c := start(t, tenant)
	c.list(subscriptionsPath) // makes a token
	token := accessToken(t, a, c)

	for _, test := range []struct {
		name, method, path, authorization string
		status                            int
		want                              string
	}{
		{"no token", "GET", subscriptionsPath, "", 401, `"code":"AuthenticationFailed"`},
		{"no bearer", "GET", subscriptionsPath, "Basic eDp5", 401, `"code":"AuthenticationFailed"`},
		{"unknown token", "GET", scoresPath(id), "Bearer nonsense", 401, `"code":"InvalidAuthenticationToken"`},
		{"other method", "POST", subscriptionsPath, "Bearer " + token, 405, "does not support http method 'POST'"},
		{"no API version", "GET", "/subscriptions", "Bearer " + token, 400, `"code":"MissingApiVersionParameter"`},
		{"wrong API version", "GET", "/subscriptions?api-version=2020-01-01", "Bearer " + token, 400, `"code":"InvalidApiVersionParameter"`},
		{"wrong API version of the provider", "GET", strings.Replace(scoresPath(id), "2020-01-01", "2022-12-01", 1), "Bearer " + token, 400, `"code":"NoRegisteredProviderFound"`},
		{"malformed subscription", "GET", scoresPath("nonsense"), "Bearer " + token, 400, `"code":"InvalidSubscriptionId"`},
		{"unknown subscription", "GET", scoresPath(simulator.DemoSampleID), "Bearer " + token, 404, `"code":"SubscriptionNotFound"`},
		{"unknown path", "GET", "/providers?api-version=2022-12-01", "Bearer " + token, 404, `"code":"InvalidResourceType"`},
		{"bad skip token", "GET", subscriptionsPath + "&$skiptoken=%21", "Bearer " + token, 400, `"code":"InvalidSkipToken"`},
		{"any case", "GET", strings.ToUpper(strings.TrimSuffix(scoresPath(id), "?api-version=2020-01-01")) + "?api-version=2020-01-01", "Bearer " + token, 200, `"name":"ascScore"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			request, err := http.NewRequest(test.method, a.URL()+test.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if test.authorization != "" {
				request.Header.Set("Authorization", test.authorization)
			}
			response, err := c.http.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			body := c.read(response)
			if response.StatusCode != test.status || !strings.Contains(body, test.want) {
				t.Errorf("got %d %s, want %d with %s", response.StatusCode, body, test.status, test.want)
			}
			if response.ProtoMajor != 2 {
				t.Errorf("spoken over %s, want HTTP/2", response.Proto)
			}
			if challenge := response.Header.Get("WWW-Authenticate"); (challenge != "") != (test.status == 401) {
				t.Errorf("%d with challenge %q", test.status, challenge)
			}
		})
	}
}

func TestARM_Latency(t *testing.T) {
	tenant := simulator.Generate(1, 1)
	tenant.Latency = 50 * time.Millisecond
	_, c := start(t, tenant)
	begin := time.Now()
	c.list(subscriptionsPath)
	if took := time.Since(begin); took < tenant.Latency {
		t.Errorf("took %s", took)
	}
}

// ARM lists subscriptions in pages of 50, which must cost little even in the largest tenants.
func TestListSubscriptions_PagesOfALargeTenant(t *testing.T) {
	tenant := simulator.Generate(20_000, 0)
	_, c := start(t, tenant)
	subscriptions, pages := c.list(subscriptionsPath)
	if len(subscriptions) != 20_000 || pages != 400 {
		t.Fatalf("%d subscriptions on %d pages, want 20,000 on 400", len(subscriptions), pages)
	}
	for i, s := range subscriptions {
		if s.SubscriptionID != tenant.Subscriptions[i].ID {
			t.Fatalf("subscription %d is %s", i, s.SubscriptionID)
		}
	}
}

func TestListSubscriptions_PageSize(t *testing.T) {
	for name, test := range map[string]struct {
		pageSize, subscriptionPageSize, pages int
		count                                 string
	}{
		"one page":        {0, 0, 1, `"count":{"type":"Total","value":5}}`},
		"general size":    {2, 0, 3, `"count":{"type":"Partial","value":2}}`},
		"size of its own": {2, 4, 2, `"count":{"type":"Partial","value":4}}`},
	} {
		t.Run(name, func(t *testing.T) {
			tenant := simulator.Generate(5, 1)
			tenant.PageSize, tenant.SubscriptionPageSize = test.pageSize, test.subscriptionPageSize
			_, c := start(t, tenant)
			if items, pages := c.list(subscriptionsPath); len(items) != 5 || pages != test.pages {
				t.Errorf("%d subscriptions on %d pages, want 5 on %d", len(items), pages, test.pages)
			}
			if _, body := c.body(subscriptionsPath); !strings.HasSuffix(body, test.count) {
				t.Errorf("the first page ends differently from %s: %s", test.count, body)
			}
		})
	}
}

func TestListSubscriptions_Tags(t *testing.T) {
	tenant := simulator.Generate(2, 1)
	tenant.Subscriptions[0].Tags = map[string]string{"Owner": "Team <A>"}
	_, c := start(t, tenant)
	subscriptions, _ := c.list(subscriptionsPath)
	if !reflect.DeepEqual(subscriptions[0].Tags, tenant.Subscriptions[0].Tags) || subscriptions[1].Tags != nil {
		t.Errorf("tags %v and %v", subscriptions[0].Tags, subscriptions[1].Tags)
	}
}
