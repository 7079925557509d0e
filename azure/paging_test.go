package azure

import (
	"crypto/x509"
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
		if err != nil || u.Scheme != "https" || u.User != nil || !strings.EqualFold(u.Hostname(), endpoint.Host) || u.Port() != "" && u.Port() != "443" {
			t.Errorf("%q became %q", link, got)
		}
	})
}
