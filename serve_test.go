package main

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

func TestServe_PortInUse(t *testing.T) {
	t.Parallel()
	used, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer used.Close()
	code, _, stderr := runToEnd(t, nil, "--demo", "--web.listen-address="+used.Addr().String())
	if code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	var errs []string
	for line := range strings.Lines(stderr) {
		if strings.Contains(line, "level=error") {
			errs = append(errs, line)
		}
	}
	if len(errs) != 1 || !strings.Contains(errs[0], used.Addr().String()) || !strings.Contains(errs[0], "address already in use") {
		t.Errorf("want one error line that names the address, got\n%s", stderr)
	}
}

func TestServe_Demo(t *testing.T) {
	t.Parallel()
	p := start(t, nil, "--demo")
	if !strings.Contains(p.log.String(), `metrics=http://localhost:`) {
		t.Errorf("the log has no link to the metrics:\n%s", p.log.String())
	}
	s := p.scrape(t)
	for metric, want := range map[string]float64{"current": 37, "max": 55, "ratio": 0.6727} {
		if got := s.value("azure_secure_score_"+metric, "subscription_id", simulator.DemoSampleID); got != want {
			t.Errorf("%s of the sample is %g, want %g", metric, got, want)
		}
	}
	if got := s.value("azure_secure_score_subscription_scrape_failure", "subscription_id", simulator.DemoForbiddenID, "reason", "forbidden"); got != 1 {
		t.Errorf("the forbidden subscription's failure is %g", got)
	}
	for path, want := range map[string]string{"/": "<b>DEMO</b>", "/status": "--cache.ttl</th><td>0s</td>", "/-/healthy": "healthy", "/-/ready": "ready"} {
		if status, body := p.get(t, path); status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if status, _ := p.get(t, "/no-such-page"); status != http.StatusNotFound {
		t.Errorf("/no-such-page: %d", status)
	}
	p.stop(t, syscall.SIGINT)
}

// A scrape over TLS with basic auth of an Azure outside the process.
func TestServe_TLSAndBasicAuth(t *testing.T) {
	t.Parallel()
	for _, credential := range []struct {
		kind string
		env  []string
	}{
		{"client secret", simulator.ClientSecretEnv()},
		{"workload identity", []string{
			"AZURE_TOKEN_CREDENTIALS=WorkloadIdentityCredential", "AZURE_TENANT_ID=" + simulator.TenantID, "AZURE_CLIENT_ID=" + simulator.ClientID,
			"AZURE_FEDERATED_TOKEN_FILE=" + write(t, "token", []byte(simulator.FederatedToken)),
		}},
	} {
		t.Run(credential.kind, func(t *testing.T) {
			azure := startAzure(t, simulator.Demo())
			p := startTLS(t, append(credential.env, trust(t, azure)), azure.Flags()...)
			if status, body := p.get(t, "/metrics"); status != http.StatusUnauthorized || strings.Contains(body, "azure_secure_score") {
				t.Errorf("without a password: %d %s", status, body)
			}
			if asked := azure.Requests(); asked[simulator.RouteSubscriptions] != 0 {
				t.Errorf("a scrape without a password made requests to Azure: %v", asked)
			}
			p.password = "another password"
			if status, _ := p.get(t, "/metrics"); status != http.StatusUnauthorized {
				t.Errorf("with a wrong password: %d", status)
			}
			p.password = scraperPassword
			s := p.scrape(t)
			if up := s.value("azure_secure_score_up"); up != 1 {
				t.Errorf("up is %g; log:\n%s", up, p.log.String())
			}
			if points := s.value("azure_secure_score_current", "subscription_id", simulator.DemoSampleID); points != 37 {
				t.Errorf("the sample has %g points, want 37", points)
			}
			// One request for the token, one for the list, two per subscription that is not disabled.
			want := map[string]int{simulator.RouteToken: 1, simulator.RouteSubscriptions: 1, simulator.RouteSecureScores: 8, simulator.RouteControls: 8}
			got := azure.Requests()
			for route, n := range want {
				// One request of the forbidden subscription is skipped if the other fails first.
				if got[route] != n && (n != 8 || got[route] != 7) {
					t.Errorf("%d calls of %s, want %d", got[route], route, n)
				}
			}
			p.stop(t, syscall.SIGTERM)
		})
	}
}

// A scrape in flight when the signal arrives is answered. Meanwhile load balancers see that the
// exporter is not ready.
func TestShutdown_ScrapeInFlight(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(3, 2)
	hanging, healthy := tenant.Subscriptions[0].ID, tenant.Subscriptions[1].ID
	azure := startAzure(t, tenant)
	azure.SetFault(hanging, simulator.Hang())
	p := start(t, secretEnv(t, azure), azure.Flags()...)

	scraped := make(chan result, 1)
	go func() { scraped <- p.fetch("/metrics") }()
	waitFor(t, "the calls of the scrape", func() bool {
		asked := azure.Requests()
		return asked[simulator.RouteSecureScores] == 3 && asked[simulator.RouteControls] == 3
	})
	if status, _ := p.get(t, "/-/ready"); status != http.StatusOK {
		t.Errorf("/-/ready before the signal: %d", status)
	}
	p.signal(t, syscall.SIGTERM)
	waitFor(t, "503 of /-/ready", func() bool { return p.fetch("/-/ready").status == http.StatusServiceUnavailable })
	if status, _ := p.get(t, "/-/healthy"); status != http.StatusOK {
		t.Errorf("/-/healthy while draining: %d", status)
	}
	if status, _ := p.get(t, "/metrics"); status != http.StatusServiceUnavailable {
		t.Errorf("a new scrape while draining: %d", status)
	}

	r := <-scraped
	if r.err != nil || r.status != http.StatusOK {
		t.Fatalf("the scrape in flight: %d %v", r.status, r.err)
	}
	s := parse(t, r.body)
	if got := s.value("azure_secure_score_subscription_scrape_success", "subscription_id", healthy); got != 1 {
		t.Errorf("success of a neighbour is %g", got)
	}
	if got := s.value("azure_secure_score_subscription_scrape_failure", "subscription_id", hanging, "reason", "canceled"); got != 1 {
		t.Errorf("no failure with the reason canceled:\n%s", r.body)
	}
	p.wait(t)
}

func TestShutdown_ProbeInFlight(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(1, 1)
	azure := startAzure(t, tenant)
	azure.SetFault(tenant.Subscriptions[0].ID, simulator.Hang())
	p := start(t, secretEnv(t, azure), azure.Flags()...)
	probed := make(chan result, 1)
	go func() { probed <- p.fetch("/probe?target=" + tenant.Subscriptions[0].ID) }()
	waitFor(t, "the call of the probe", func() bool { return azure.Requests()[simulator.RouteSecureScores] == 1 })
	p.signal(t, syscall.SIGTERM)
	if r := <-probed; r.err != nil || r.status != http.StatusOK || !strings.Contains(r.body, `reason="canceled"`) {
		t.Errorf("the probe in flight: %d %v %s", r.status, r.err, r.body)
	}
	p.wait(t)
}

// Clients that send huge headers cost no memory before they authenticate.
func TestServe_HeaderLimit(t *testing.T) {
	t.Parallel()
	p := start(t, nil, "--demo")
	for size, want := range map[int]int{8 << 10: http.StatusOK, 32 << 10: http.StatusRequestHeaderFieldsTooLarge} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+"/-/healthy", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Padding", strings.Repeat("x", size))
		resp, err := p.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("a header of %d KiB: %d, want %d", size>>10, resp.StatusCode, want)
		}
	}
}

// A nextLink with the default port is on the endpoint's host, which has none, and the other way
// round.
func TestServe_NextLinkWithDefaultPort(t *testing.T) {
	t.Parallel()
	for endpoint, linked := range map[string]string{
		"https://" + simulator.ProxiedHost:          simulator.ProxiedHost + ":443",
		"https://" + simulator.ProxiedHost + ":443": simulator.ProxiedHost,
	} {
		t.Run(endpoint, func(t *testing.T) {
			t.Parallel()
			azure := startAzure(t, simulator.Generate(3, 1))
			azure.SetListFault(simulator.Times(1, simulator.NextLink("https://"+linked+"/subscriptions?api-version=2022-12-01&page=2")))
			env := append(secretEnv(t, azure), "HTTPS_PROXY="+startProxy(t, azure.URL()))
			p := start(t, env, "--azure.cloud=custom", "--azure.authority-host="+azure.URL(), "--azure.arm-endpoint="+endpoint, "--azure.arm-audience="+azure.URL())
			if up := p.scrape(t).value("azure_secure_score_up"); up != 1 {
				t.Errorf("up %g\n%s", up, p.log.String())
			}
		})
	}
}

// startProxy starts a proxy that connects every host to the server, and returns its address.
func startProxy(t *testing.T, server string) string {
	t.Helper()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		upstream, err := net.Dial("tcp", strings.TrimPrefix(server, "https://"))
		if err != nil {
			t.Error(err)
			return
		}
		defer upstream.Close()
		client, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer client.Close()
		_, _ = io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(upstream, buffered) }()
		_, _ = io.Copy(client, upstream)
	}))
	t.Cleanup(proxy.Close)
	return proxy.URL
}
