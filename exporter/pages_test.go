package exporter

import (
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// body is a page as a browser gets it.
func (s *system) body(t *testing.T, path string) string {
	t.Helper()
	_, _, body := s.get(t, path, "Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
	return body
}

const portalHost = "portal.azure.com"

// withPortal is a source with a portal, which the simulator has not.
type withPortal struct{ Source }

func (withPortal) RecommendationsURL(id string) string {
	return "https://" + portalHost + "/#view/" + id
}

func resourceGraphWithPortal(c *azure.Client) Source { return withPortal{resourceGraph(c)} }

// allPages are the paths of one page of every kind. It is to be used after a scrape of the demo.
var allPages = []string{"/", "/status", "/status?subscription=" + simulator.DemoSampleID, "/status?state=bad", "/no/such/page"}

// Browsers get a page that leads back for every path without one, other clients get a line.
func TestPages_NotFound(t *testing.T) {
	t.Parallel()
	s := start(t, simulator.Generate(1, 1), DefaultConfig(), azure.Config{})
	for path, root := range map[string]string{
		"/nothing": "./", "/metrics/": "../", "/status/more": "../", "/a/b/c?d=/e/f": "../../", "/a%2Fb/c": "../", "/favicon.ico": "./", "/status?sort=bad": "./",
	} {
		status, header, body := s.get(t, path, "Accept", "text/html")
		if status != http.StatusNotFound || header.Get("Content-Type") != "text/html; charset=utf-8" || header.Get("Content-Security-Policy") != pagePolicy {
			t.Errorf("%s: %d %v", path, status, header)
		}
		if !strings.Contains(body, `<a href="`+root+`status">`) || !strings.Contains(body, `<a href="`+root+`">`) {
			t.Errorf("%s: no way back by %s in\n%s", path, root, body)
		}
		if status, _, body := s.get(t, path); status != http.StatusNotFound || !strings.HasPrefix(body, "page not found") || strings.Contains(body, "<") {
			t.Errorf("%s, not for a browser: %d %q", path, status, body)
		}
	}
	resp, err := s.web.Client().Post(s.web.URL+"/status", "text/plain", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", resp.StatusCode)
	}
}

// Every page of the demo says so, and no other page does.
func TestPages_Demo(t *testing.T) {
	t.Parallel()
	for _, demo := range []bool{true, false} {
		cfg := DefaultConfig()
		cfg.Demo = demo
		s := start(t, simulator.Demo(), cfg, azure.Config{})
		s.scrape(t, "")
		for _, path := range allPages {
			page := s.body(t, path)
			if strings.Contains(words(page), "DEMO ") != demo || strings.Contains(page, "<title>DEMO") != demo {
				t.Errorf("demo %t, %s:\n%s", demo, path, page)
			}
		}
	}
}

// Every link of every page works below a proxy's path. Only those to the portal leave the exporter.
func TestPages_BelowProxy(t *testing.T) {
	t.Parallel()
	s := startFrom(t, simulator.Demo(), DefaultConfig(), azure.Config{}, resourceGraphWithPortal)
	s.scrape(t, "")
	proxy := httptest.NewServer(http.StripPrefix("/some/path", s.exporter.Handler()))
	defer proxy.Close()
	link := regexp.MustCompile(`(?:href|action)="([^"]*)"`)
	visited := map[string]bool{}
	var visit func(address string, want int)
	visit = func(address string, want int) {
		if visited[address] {
			return
		}
		visited[address] = true
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", "text/html")
		resp, err := proxy.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %d", address, resp.StatusCode)
		}
		if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
			return
		}
		page, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range link.FindAllStringSubmatch(string(page), -1) {
			to, err := resp.Request.URL.Parse(html.UnescapeString(match[1]))
			if err != nil {
				t.Fatal(err)
			}
			if to.Host == portalHost {
				continue
			}
			to.Fragment = ""
			if !strings.HasPrefix(to.String(), proxy.URL+"/some/path/") {
				t.Errorf("%s links to %s", address, to)
				continue
			}
			visit(to.String(), http.StatusOK)
		}
	}
	visit(proxy.URL+"/some/path/", http.StatusOK)
	visit(proxy.URL+"/some/path/no/such/page", http.StatusNotFound)
	if len(visited) < 30 {
		t.Errorf("%d pages visited", len(visited))
	}
}

// Names are escaped: a browser runs nothing from them, and loads nothing.
func TestPages_HostileNames(t *testing.T) {
	t.Parallel()
	const name = `<script>alert(1)</script>"'&`
	tenant := simulator.Demo()
	sub := &tenant.Subscriptions[1] // has a connector
	sub.Name = name
	sub.Controls[0].DisplayName = `</style><img src=x onerror=alert(2)>`
	sub.Connectors[0].Name = `"><b onclick=alert(3)>`
	s := startFrom(t, tenant, DefaultConfig(), azure.Config{}, resourceGraphWithPortal)
	s.scrape(t, "")
	detail := "/status?subscription=" + sub.ID
	for _, path := range append([]string{detail, "/status?q=" + url.QueryEscape(name)}, allPages...) {
		_, header, _ := s.get(t, path, "Accept", "text/html")
		page := s.body(t, path)
		for _, bad := range []string{"<script", "<img", "<b onclick", " style=", "http://"} {
			if strings.Contains(page, bad) {
				t.Errorf("%s: %s in\n%s", path, bad, page)
			}
		}
		if path == detail && !strings.Contains(words(page), name) {
			t.Errorf("%s: no name in\n%s", path, page)
		}
		foreign := strings.ReplaceAll(page, `<a href="https://`+portalHost+`/#view/`, "")
		if strings.Contains(foreign, "https://") || strings.Count(page, `rel="noreferrer"`) != strings.Count(page, "https://") {
			t.Errorf("%s: a link to another site, or one that names this one to the portal, in\n%s", path, page)
		}
		policy := header.Get("Content-Security-Policy")
		if !strings.HasPrefix(policy, "default-src 'none'; style-src 'sha256-") || !strings.Contains(policy, "form-action 'self'") || strings.Contains(policy, "unsafe") {
			t.Errorf("%s: the policy is %q", path, policy)
		}
		if !strings.Contains(page, "<style>"+pageCSS+"</style>") {
			t.Errorf("%s: the style is not the one whose hash the policy allows", path)
		}
	}
}
