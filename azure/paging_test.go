package azure

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// The token goes to the ARM host alone, wherever a response points.
func TestList_TokenStaysOnEndpoint(t *testing.T) {
	t.Parallel()
	var requests atomic.Int64
	elsewhere := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
	defer elsewhere.Close()
	host := strings.TrimPrefix(elsewhere.URL, "https://")
	for name, fault := range map[string]simulator.Fault{
		"nextLink":           simulator.NextLink(elsewhere.URL),
		"nextLink with user": simulator.NextLink("https://127.0.0.1@" + host),
		"nextLink, relative": simulator.NextLink("//" + host + "/subscriptions"),
		"redirect":           simulator.Redirect(elsewhere.URL),
	} {
		tenant := simulator.Generate(1, 1)
		trusted := x509.NewCertPool() // the client could reach the other host
		trusted.AddCert(elsewhere.Certificate())
		sim, client := start(t, tenant, Config{RootCAs: trusted})
		sim.SetListFault(fault)
		sim.SetFault(ids(tenant)[0], fault)
		ctx := within(t, 10*time.Second)
		if _, err := client.Subscriptions(ctx); ReasonOf(err) != ReasonInvalidResponse {
			t.Errorf("%s: list: %v", name, err)
		}
		if result := client.SecureScores(ctx, ids(tenant))[0]; ReasonOf(result.Err) != ReasonInvalidResponse {
			t.Errorf("%s: scores: %v", name, result.Err)
		}
	}
	if n := requests.Load(); n != 0 {
		t.Errorf("the other host got %d requests", n)
	}
}

func TestList_BytesOfAllPagesAreBounded(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(1, 1)
	sim, client := start(t, tenant, Config{})
	name := strings.Repeat("x", 6<<20)
	var pages atomic.Int64
	sim.SetFault(ids(tenant)[0], simulator.OnControls(func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		fmt.Fprintf(w, `{"value":[{"name":"c%d","properties":{"displayName":"%s"}}],"nextLink":"https://%s%s?api-version=2020-01-01&page=%[1]d"}`, pages.Add(1), name, r.Host, r.URL.Path)
	}))
	result := client.SecureScores(within(t, time.Minute), ids(tenant))[0]
	if ReasonOf(result.Err) != ReasonInvalidResponse || !strings.Contains(result.Err.Error(), "bytes") || pages.Load() != 3 {
		t.Errorf("%v after %d pages", result.Err, pages.Load())
	}
}

func TestList_ItemsOfAllPagesAreBounded(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(1, 1)
	sim, client := start(t, tenant, Config{})
	var pages atomic.Int64
	sim.SetFault(ids(tenant)[0], simulator.OnControls(func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		fmt.Fprintf(w, `{"value":[%s{"name":"c"}],"nextLink":"https://%s%s?api-version=2020-01-01&page=%d"}`, strings.Repeat(`{"name":"c"},`, 7999), r.Host, r.URL.Path, pages.Add(1))
	}))
	result := client.SecureScores(within(t, time.Minute), ids(tenant))[0]
	if ReasonOf(result.Err) != ReasonInvalidResponse || !strings.Contains(result.Err.Error(), "more than 20000 items") || pages.Load() != 3 {
		t.Errorf("%v after %d pages", result.Err, pages.Load())
	}
}

// Azure sends subscriptions in pages of 50, however many there are.
func TestList_ManySubscriptions(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ subscriptions, pageSize int }{{5050, 50}, {20_000, 50}, {20_000, 0}, {200, 1}} {
		t.Run(fmt.Sprint(test), func(t *testing.T) {
			t.Parallel()
			tenant := simulator.Generate(test.subscriptions, 0)
			tenant.PageSize = test.pageSize
			_, client := start(t, tenant, Config{})
			if got, err := client.Subscriptions(within(t, 2*time.Minute)); err != nil || len(got) != test.subscriptions {
				t.Errorf("%d subscriptions, %v", len(got), err)
			}
		})
	}
}

func TestList_EmptyPages(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		empty int // pages before the last one
		want  Reason
	}{"as many as allowed": {maxEmptyPages, ""}, "one more": {maxEmptyPages + 1, ReasonInvalidResponse}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenant := simulator.Generate(1, 1)
			sim, client := start(t, tenant, Config{})
			var pages atomic.Int64
			sim.SetListFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if n := int(pages.Add(1)); n <= test.empty {
					fmt.Fprintf(w, `{"value":[],"nextLink":"https://%s/subscriptions?api-version=2022-12-01&page=%d"}`, r.Host, n)
					return
				}
				next.ServeHTTP(w, r)
			})
			if _, err := client.Subscriptions(within(t, time.Minute)); ReasonOf(err) != test.want {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestList_RelativeNextLink(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(6, 5)
	tenant.PageSize = 2
	for name, relative := range map[string]func(*url.URL) string{
		"path":                   func(u *url.URL) string { return u.RequestURI() },
		"path without its slash": func(u *url.URL) string { return u.RequestURI()[1:] },
		"query":                  func(u *url.URL) string { return "?" + u.RawQuery },
		"without scheme":         func(u *url.URL) string { return "//" + u.Host + u.RequestURI() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim, client := start(t, tenant, Config{})
			fault := simulator.Rewrite(func(_ *http.Request, body []byte) []byte {
				var page map[string]any
				if err := json.Unmarshal(body, &page); err != nil {
					t.Error(err)
				}
				if link, ok := page["nextLink"].(string); ok {
					u, err := url.Parse(link)
					if err != nil {
						t.Error(err)
					}
					page["nextLink"] = relative(u)
				}
				body, _ = json.Marshal(page)
				return body
			})
			sim.SetListFault(fault)
			sim.SetFault(ids(tenant)[0], fault)
			ctx := within(t, 20*time.Second)
			if got, err := client.Subscriptions(ctx); err != nil || len(got) != 6 {
				t.Errorf("%d subscriptions, %v", len(got), err)
			}
			if result := client.SecureScores(ctx, ids(tenant)[:1])[0]; result.Err != nil || len(result.Controls) != 5 {
				t.Errorf("%d controls, %v", len(result.Controls), result.Err)
			}
		})
	}
}

// A nextLink that is followed leads to the endpoint's host and nowhere else, in the reading of the
// package that sends the request.
func FuzzNextLink(f *testing.F) {
	endpoint := &url.URL{Scheme: "https", Host: "management.azure.com"}
	for _, link := range []string{
		"https://management.azure.com/subscriptions?api-version=2022-12-01&$skiptoken=eyJ",
		"https://MANAGEMENT.azure.com:443/x", "https://management.azure.com:444/", "http://management.azure.com/",
		"https://management.azure.com@evil.example/", "https://evil.example/?https://management.azure.com", "//evil.example", "https://management.azure.com.evil.example/",
		"https://management.azure.com\\@evil.example/", "https://management.azure.com%2f@evil.example", " https://management.azure.com", "https:///x", "/relative", "",
	} {
		f.Add(link)
	}
	f.Fuzz(func(t *testing.T, link string) {
		got, err := resolveNextLink(endpoint, "https://management.azure.com/subscriptions?api-version=2022-12-01", link)
		if err != nil || got == "" && link == "" {
			return
		}
		u, err := url.Parse(got)
		if err != nil || u.Scheme != "https" || u.User != nil || u.Host != endpoint.Host {
			t.Errorf("%q became %q", link, got)
		}
	})
}
