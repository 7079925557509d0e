package exporter

import (
	"bytes"
	"html"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// list is the content of the first page.
func (s *system) list(t testing.TB) *statusList {
	t.Helper()
	page, err := s.exporter.handlers.newStatusPage(s.exporter.cache.latest(), url.Values{})
	if err != nil {
		t.Fatal(err)
	}
	return page.List
}

var (
	rowName = regexp.MustCompile(`<td data-label="Name"><a href="[^"]*">([^<]*)</a>`)
	anyTag  = regexp.MustCompile(`<[^>]*>`)
	blanks  = regexp.MustCompile(`\s+`)
)

// rows are the names of the subscriptions and connectors on a page, in its order.
func rows(page string) []string {
	var names []string
	for _, match := range rowName.FindAllStringSubmatch(page, -1) {
		names = append(names, html.UnescapeString(match[1]))
	}
	return names
}

// words is the visible text of a page.
func words(page string) string {
	_, page, _ = strings.Cut(page, "<body>")
	return blanks.ReplaceAllString(html.UnescapeString(anyTag.ReplaceAllString(page, " ")), " ")
}

func TestStatus_Demo(t *testing.T) {
	t.Parallel()
	cfg := DefaultConfig()
	cfg.Settings = []Setting{{"cache.ttl", "0s"}}
	s := start(t, simulator.Demo(), cfg, azure.Config{})

	if _, _, page := s.get(t, "/status"); !strings.Contains(words(page), "No collection has finished yet") || strings.Contains(page, "alarm\"") {
		t.Errorf("before the first collection:\n%s", words(page))
	}
	if asked := s.Requests(); len(asked) != 0 {
		t.Errorf("the page made the exporter ask Azure: %v", asked)
	}
	lines := s.scrape(t, "")
	before := s.Requests()

	status, _, page := s.get(t, "/status")
	if status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	want := []string{
		"Contoso Finance", // forbidden
		"Fabrikam Retail", "Contoso Development", "Contoso Secure Score Sample", "Contoso Data Platform", "Contoso Production", "Contoso Identity",
		"Contoso Old Datacentre", "Contoso Sandbox", // disabled, unscored
	}
	if got := rows(page); !slices.Equal(got, want) {
		t.Errorf("the worst come first in another order: %q", got)
	}
	text := words(page)
	for _, want := range []string{
		"all 9 failing 1 stale 0 read 6 not scored 2", "9 subscriptions Name", "total score, the weighted mean of 6 scores", "none throttled", "requests to Azure",
		"Contoso Secure Score Sample 20ff7fc3-e762-44dd-bd96-b71116dcdc23 67.3 % 37.0 of 55.0 18.0 ",
		"failing : forbidden how to fix", "HTTP 403 AuthorizationFailed az role assignment create --role Reader --assignee-object-id OBJECT_ID --scope /subscriptions/" + simulator.DemoForbiddenID,
		"not scored : Disabled", "--cache.ttl 0s",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	// The page says what the metrics say.
	if got := value(lines, `azure_secure_score_ratio{environment="Azure",initiative="ascScore",subscription_id="20ff7fc3-e762-44dd-bd96-b71116dcdc23"}`); got != "0.6727" {
		t.Errorf("the metric says %s", got)
	}

	for state, want := range map[string][]string{
		"failing": want[:1], "read": want[1:7], "not-scored": want[7:], "stale": nil,
	} {
		if _, _, page := s.get(t, "/status?state="+state); !slices.Equal(rows(page), want) {
			t.Errorf("%s shows %q, want %q", state, rows(page), want)
		}
	}

	_, _, page = s.get(t, "/status?subscription="+strings.ToUpper(simulator.DemoSampleID))
	controls := regexp.MustCompile(`<td data-label="Control">([^<]*)</td>\s*<td class="number" data-label="Points">[^<]*</td>\s*<td class="number" data-label="Gain">([^<]*)<`).FindAllStringSubmatch(page, -1)
	if len(controls) != 15 || controls[0][1] != "Secure management ports" || controls[0][2] != "4.0" || controls[14][2] != "0.0" {
		t.Errorf("the controls are not in the order of what they can gain: %q", controls)
	}
	if _, _, page := s.get(t, "/status?subscription="+simulator.DemoForbiddenID); !strings.Contains(words(page), "az role assignment create") {
		t.Errorf("a failing subscription without its fix:\n%s", words(page))
	}

	for _, address := range []string{"/status?state=bad", "/status?state=fine", "/status?sort=bad", "/status?subscription=bad", "/status/more"} {
		if status, _, _ := s.get(t, address); status != http.StatusNotFound {
			t.Errorf("%s: status %d", address, status)
		}
	}
	if after := s.Requests(); !maps.Equal(before, after) {
		t.Errorf("the pages made the exporter ask Azure: %v became %v", before, after)
	}
}

func TestStatus_NoSubscriptions(t *testing.T) {
	t.Parallel()
	s := start(t, simulator.Generate(0, 0), DefaultConfig(), azure.Config{})
	s.scrape(t, "")
	_, _, page := s.get(t, "/status")
	for _, want := range []string{"No subscriptions were found.", "forbidden : list subscriptions: the identity cannot list any subscription"} {
		if !strings.Contains(words(page), want) {
			t.Errorf("no %q in\n%s", want, words(page))
		}
	}
}

// A subscription without controls says why, and never for the wrong reason.
func TestStatus_NoControls(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(3, 2)
	tenant.Subscriptions[1].NoScore = true
	tenant.Subscriptions[2].State = "Disabled"
	s := start(t, tenant, DefaultConfig(), azure.Config{})
	s.SetFault(tenant.Subscriptions[0].ID, simulator.OnControls(simulator.EmptyList()))
	s.scrape(t, "")
	const stale, inactive, unscored, none = "older than --cache.max-stale", "is not collected", "Foundational CSPM may be off", "reports no controls"
	for i, test := range []struct {
		subscription int
		later        time.Duration
		want         string
	}{{0, 0, none}, {1, 0, unscored}, {2, 0, inactive}, {0, 2 * time.Hour, stale}} {
		s.advance(test.later)
		_, _, page := s.get(t, "/status?subscription="+tenant.Subscriptions[test.subscription].ID)
		for _, reason := range []string{stale, inactive, unscored, none} {
			if strings.Contains(page, reason) != (reason == test.want) {
				t.Errorf("%d: %q is there or not, want %q:\n%s", i, reason, test.want, words(page))
			}
		}
	}
}

// The fix for a forbidden management group is a role on the group.
func TestStatus_ManagementGroupForbidden(t *testing.T) {
	t.Parallel()
	s := start(t, simulator.Generate(1, 1), DefaultConfig(), azure.Config{ManagementGroups: []string{"nope"}})
	s.scrape(t, "")
	_, _, page := s.get(t, "/status")
	if want := "--assignee-object-id OBJECT_ID --scope /providers/Microsoft.Management/managementGroups/nope "; !strings.Contains(words(page), want) {
		t.Errorf("no %q in\n%s", want, words(page))
	}
}

// A score of another initiative is another measure: it has a total of its own and is not the
// subscription's score.
func TestStatus_Initiatives(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(2, 3)
	s := start(t, tenant, DefaultConfig(), azure.Config{})
	s.scrape(t, "")
	before := s.list(t)
	if len(before.Totals) != 1 || before.Totals[0].Scores != 2 {
		t.Fatalf("%+v", before.Totals)
	}

	percentage := regexp.MustCompile(`"percentage":[0-9.]+`)
	second := simulator.Rewrite(func(_ *http.Request, body []byte) []byte {
		own := bytes.TrimSuffix(bytes.TrimPrefix(bytes.TrimSpace(body), []byte(`{"value":[`)), []byte(`]}`))
		custom := percentage.ReplaceAll(bytes.ReplaceAll(own, []byte("ascScore"), []byte("a-custom")), []byte(`"percentage":0.125`))
		return slices.Concat([]byte(`{"value":[`), custom, []byte(","), own, []byte("]}"))
	})
	for _, sub := range tenant.Subscriptions {
		s.SetFault(sub.ID, second)
	}
	s.scrape(t, "")
	list := s.list(t)
	for i, row := range list.Rows {
		if was := before.Rows[i]; *row.Score != *was.Score || row.Unhealthy != was.Unhealthy {
			t.Errorf("%s has %+v and %d unhealthy, but had %+v and %d", row.Name, row.Score, row.Unhealthy, was.Score, was.Unhealthy)
		}
	}
	if len(list.Totals) != 2 || list.Totals[0].Ratio() != before.Totals[0].Ratio() {
		t.Fatalf("the totals are %+v, and were %+v", list.Totals, before.Totals)
	}
	text := ""
	for _, address := range []string{"/status", "/status?subscription=" + tenant.Subscriptions[0].ID} {
		_, _, body := s.get(t, address)
		text += words(body)
	}
	for _, want := range []string{
		" total score, the weighted mean of 2 scores Initiative a-custom: 12.5 %, the weighted mean of 2 scores ",
		" Azure, initiative a-custom 12.5 % ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// Old values are called stale, and a failing credential is shown once, for all subscriptions.
func TestStatus_StaleAndFailing(t *testing.T) {
	t.Parallel()
	s := start(t, simulator.Generate(2, 2), DefaultConfig(), azure.Config{})
	s.scrape(t, "")
	s.advance(2 * time.Hour)
	for _, row := range s.list(t).Rows {
		if row.State != stateStale || row.Score != nil {
			t.Errorf("two hours later %s is %s, score %v", row.Name, row.State, row.Score)
		}
	}

	s = start(t, simulator.Generate(2, 2), DefaultConfig(), azure.Config{})
	s.SetTokenFault(simulator.ExpiredSecret())
	s.scrape(t, "")
	_, _, text := s.get(t, "/status")
	if !strings.Contains(words(text), "authentication : get token: the token endpoint answered HTTP 401 AADSTS7000222 How to fix: renew the credential") {
		t.Errorf("no word of the expired secret:\n%s", words(text))
	}
}

// Throttled requests are shown.
func TestStatus_Throttled(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(1, 2)
	s := start(t, tenant, DefaultConfig(), azure.Config{})
	s.SetFault(tenant.Subscriptions[0].ID, simulator.OnScores(simulator.Throttle(1, 0)))
	s.scrape(t, "")
	if _, _, page := s.get(t, "/status"); !strings.Contains(words(page), " requests to Azure, 1 of them throttled") {
		t.Errorf("no word of throttling:\n%s", words(page))
	}
	s.scrape(t, "")
	if _, _, page := s.get(t, "/status"); !strings.Contains(words(page), "and 2 requests to Azure, none throttled") {
		t.Errorf("the last collection had other requests:\n%s", words(page))
	}
}
