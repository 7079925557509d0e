package exporter

import (
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

func resourceGraph(c *azure.Client) Source { return azure.NewResourceGraph(c) }

// orderedTenant has subscriptions that every order sorts in another way.
func orderedTenant() simulator.Tenant {
	control := func(healthy, unhealthy int) simulator.Control {
		return simulator.Control{ID: "c1", DisplayName: "points", Max: 10, Healthy: healthy, Unhealthy: unhealthy}
	}
	pointless := simulator.Control{ID: "c2", DisplayName: "no points", Unhealthy: 200}
	tenant := simulator.Generate(5, 0)
	for i, s := range []simulator.Subscription{
		{Name: "alpha", Controls: []simulator.Control{control(9, 1), pointless}}, // 90 % of weight 210
		{Name: "Bravo", Controls: []simulator.Control{control(50, 50)}},          // 50 % of weight 100
		{Name: "charlie", Controls: []simulator.Control{control(1, 4)}},          // 20 % of weight 5
		{Name: "delta", NoAccess: true},
		{Name: "Echo", NoScore: true},
	} {
		s.ID = tenant.Subscriptions[i].ID
		tenant.Subscriptions[i] = s
	}
	return tenant
}

func TestStatusList_Order(t *testing.T) {
	t.Parallel()
	tenant := orderedTenant()
	s := start(t, tenant, DefaultConfig(), azure.Config{})
	s.scrape(t, "")
	for order, want := range map[string]string{
		"":                "delta charlie Bravo alpha Echo",
		"?sort=score":     "charlie Bravo alpha Echo delta",
		"?sort=gain":      "Bravo alpha charlie Echo delta",
		"?sort=unhealthy": "alpha Bravo charlie Echo delta",
		"?sort=name":      "alpha Bravo charlie delta Echo",
	} {
		_, _, page := s.get(t, "/status"+order)
		if got := strings.Join(rows(page), " "); got != want {
			t.Errorf("%q: %s, want %s", order, got, want)
		}
		selected := regexp.MustCompile(`<th[^>]*><a href="([^"]*)" aria-current="true">`).FindStringSubmatch(page)
		if selected == nil || selected[1] != "status"+order {
			t.Errorf("%q: the selected column links to %q", order, selected)
		}
	}

	// The values of one that fails from now on become old.
	s.SetFault(tenant.Subscriptions[1].ID, simulator.Forbidden())
	s.scrape(t, "")
	_, _, page := s.get(t, "/status?sort=age")
	if got := rows(page); got[0] != "Bravo" || got[4] != "delta" {
		t.Errorf("by age: %q, want Bravo first and delta, which was never read, last", got)
	}
}

func TestStatusList_Search(t *testing.T) {
	t.Parallel()
	s := startFrom(t, simulator.Demo(), DefaultConfig(), azure.Config{}, resourceGraph)
	s.scrape(t, "")
	for query, want := range map[string][]string{
		"q=FABRI":                              {"Fabrikam Retail"},
		"q=+fabrikam+retail+":                  {"Fabrikam Retail"},
		"q=" + simulator.DemoSampleID[9:]:      {"Contoso Secure Score Sample"},
		"q=9A3E6F15&sort=name":                 {"Contoso Data Platform", "contoso-gcp-analytics"},
		"q=contoso-aws":                        {"contoso-aws-production"},
		"q=contoso+production&sort=name":       {"Contoso Production", "contoso-aws-production"},
		"q=contoso&state=not-scored":           {"Contoso Old Datacentre", "Contoso Sandbox"},
		"q=contoso&state=not-scored&sort=name": {"Contoso Old Datacentre", "Contoso Sandbox"},
		"q=retail&state=failing":               nil,
		"q=no+such+name":                       nil,
		"q=%00":                                nil,
		"q=%ff":                                rows(s.body(t, "/status")), // empty without the invalid UTF-8
	} {
		if got := rows(s.body(t, "/status?"+query)); !slices.Equal(got, want) {
			t.Errorf("%s finds %q, want %q", query, got, want)
		}
	}
	// The form keeps the state and the order, the links keep the search.
	page := s.body(t, "/status?q=contoso&state=read&sort=name&page=1")
	for _, want := range []string{
		`<form action="status" method="get"`, `name="q" value="contoso" maxlength="100"`, `name="state" value="read"`, `name="sort" value="name"`,
		`href="status?q=contoso&amp;sort=name"`, `href="status?q=contoso&amp;sort=name&amp;state=failing"`, `href="status?q=contoso&amp;sort=gain&amp;state=read"`,
		`<a href="status?sort=name&amp;state=read">clear</a>`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %s in\n%s", want, page)
		}
	}
	if text := words(s.body(t, "/status?q=aws")); !strings.Contains(text, "all 1 failing 0 stale 0 read 1 not scored 0") || !strings.Contains(text, " 1 connector Name") {
		t.Errorf("the counts are not those of the search:\n%s", text)
	}
}

// What is searched for is shown, but neither as HTML nor at any length.
func TestStatusList_HostileSearch(t *testing.T) {
	t.Parallel()
	s := start(t, simulator.Generate(2, 1), DefaultConfig(), azure.Config{})
	s.scrape(t, "")
	const hostile = `"><script>alert(1)</script>`
	page := s.body(t, "/status?q="+url.QueryEscape(hostile))
	if strings.Contains(page, "<script") || !strings.Contains(words(page), "No subscription or connector matches “"+hostile+"”") {
		t.Errorf("a search became HTML:\n%s", page)
	}
	long := s.body(t, "/status?q="+url.QueryEscape(strings.Repeat("é", 5000)))
	if n := strings.Count(html.UnescapeString(long), strings.Repeat("é", 51)); n != 0 || !strings.Contains(long, strings.Repeat("é", 50)) {
		t.Errorf("a search of 5,000 characters is shown with more than 50:\n%.2000s", long)
	}
	for _, query := range []string{"state=%3Cscript%3E", "sort=%3Cscript%3E", "subscription=%3Cscript%3E"} {
		status, _, body := s.get(t, "/status?"+query, "Accept", "text/html")
		if status != http.StatusNotFound || strings.Contains(body, "<script") || strings.Contains(body, "%3C") {
			t.Errorf("%s: %d\n%s", query, status, body)
		}
	}
}

// A connector to another cloud has a row of its own, which leads to its section of the
// subscription's page.
func TestStatusList_Connectors(t *testing.T) {
	t.Parallel()
	s := startFrom(t, simulator.Demo(), DefaultConfig(), azure.Config{}, resourceGraphWithPortal)
	s.scrape(t, "")
	list := s.list(t)
	if list.Subscriptions != 9 || list.Connectors != 2 || len(list.Rows) != 11 {
		t.Fatalf("%d subscriptions and %d connectors in %d rows, want 9 and 2", list.Subscriptions, list.Connectors, len(list.Rows))
	}
	text := words(s.body(t, "/status"))
	for _, want := range []string{"9 subscriptions and 2 connectors", "the weighted mean of 8 scores", "contoso-aws-production AWS connector of Contoso Production portal 5"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for _, row := range list.Rows {
		if want := "https://" + portalHost + "/#view/" + row.ID; row.Portal != want {
			t.Errorf("%s links to %s, want %s", row.Name, row.Portal, want)
		}
		if row.Connector == "" {
			continue
		}
		address, anchor, _ := strings.Cut(row.Link, "#")
		page := s.body(t, "/"+address)
		_, section, found := strings.Cut(page, `<section id="`+anchor+`">`)
		if !found || !strings.Contains(section, row.Connector+"</h3>") || strings.Count(section, "<tr>") != 16 {
			t.Errorf("the page of %s has no section %s with its 15 controls:\n%s", row.Connector, anchor, page)
		}
	}
}

// Many subscriptions are shown in pages.
func TestStatusList_Pages(t *testing.T) {
	t.Parallel()
	s := start(t, simulator.Generate(250, 5), DefaultConfig(), azure.Config{})
	s.scrape(t, "")
	seen := map[string]bool{}
	address := "status?state=read&sort=unhealthy&q=subscription"
	next := regexp.MustCompile(`<a href="([^"]*)" rel="next">`)
	for pages := 1; ; pages++ {
		page := s.body(t, "/"+address)
		for _, name := range rows(page) {
			if seen[name] {
				t.Errorf("%s is on two pages", name)
			}
			seen[name] = true
		}
		match := next.FindStringSubmatch(page)
		if match == nil {
			if pages != 3 {
				t.Errorf("%d pages, want 3", pages)
			}
			break
		}
		if len(rows(page)) != 100 {
			t.Errorf("page %d has %d rows", pages, len(rows(page)))
		}
		address = html.UnescapeString(match[1])
	}
	if len(seen) != 250 {
		t.Errorf("%d subscriptions on all pages, want 250", len(seen))
	}
	for page, want := range map[string]int{"0": 100, "-1": 100, "99": 50, "x": 100, "99999999999999999999": 100} {
		if got := len(rows(s.body(t, "/status?page="+page))); got != want {
			t.Errorf("page %s has %d rows, want %d", page, got, want)
		}
	}
}

// The most expensive page: every row is searched, and sorted by a sum over its controls.
func BenchmarkStatusSearch(b *testing.B) {
	for _, n := range sizes {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			handler := benchmarkSystem(b, n).exporter.Handler()
			b.ReportAllocs()
			for b.Loop() {
				handler.ServeHTTP(discardBody{}, httptest.NewRequest(http.MethodGet, "/status?sort=unhealthy&q=subscription", nil))
			}
		})
	}
}
