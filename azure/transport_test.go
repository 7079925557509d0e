package azure

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// A tenant full of huge bodies fails each of its subscriptions, within bounded memory because large
// bodies take turns.
func TestTransport_HugeBodies(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(40, 1)
	sim, client := start(t, tenant, Config{})
	for _, id := range ids(tenant)[1:] {
		sim.SetFault(id, simulator.Huge(1<<30, false))
	}
	for i, result := range client.SecureScores(within(t, 4*time.Minute), ids(tenant)) {
		want := ReasonInvalidResponse
		if i == 0 {
			want = ""
		}
		if ReasonOf(result.Err) != want {
			t.Errorf("subscription %d: %v", i, result.Err)
		}
	}
}

func TestTransport_SlowBodyBlocksNoSubscriptionList(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(1500, 1) // some 500 KiB
	sim, client := start(t, tenant, Config{})
	stalled := make(chan struct{})
	sim.SetFault(ids(tenant)[0], simulator.OnControls(func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		// The window of HTTP/2 is largeBody, so that this returns once the client has read as much.
		_, _ = io.WriteString(w, strings.Repeat(" ", 2*largeBody+1<<16))
		_ = http.NewResponseController(w).Flush()
		close(stalled)
		<-r.Context().Done()
	}))
	ctx, stop := context.WithCancel(within(t, time.Minute))
	var reading sync.WaitGroup
	reading.Go(func() { client.SecureScores(ctx, ids(tenant)[:1]) })
	<-stalled
	if list, err := client.Subscriptions(within(t, 10*time.Second)); err != nil || len(list) != 1500 {
		t.Errorf("%d subscriptions, %v", len(list), err)
	}
	stop()
	reading.Wait()
}

// As many requests as configured are in flight, and their connections are kept, even if a proxy
// speaks HTTP/1.1 only, or if the server accepts fewer streams on a connection.
func TestTransport_Concurrency(t *testing.T) {
	t.Parallel()
	for name, configure := range map[string]func(*httptest.Server){
		"HTTP/1.1": func(proxy *httptest.Server) { proxy.EnableHTTP2 = false },
		"HTTP/2 with 10 streams": func(proxy *httptest.Server) {
			proxy.EnableHTTP2 = true
			proxy.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 10}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenant := simulator.Generate(DefaultConcurrency, 1)
			sim, _ := start(t, tenant, Config{})
			var connections, waiting atomic.Int64
			proxy := proxyTo(t, sim, &connections, configure)
			client := clientBehind(t, sim, proxy)

			all := make(chan struct{}) // are in flight
			for _, id := range ids(tenant) {
				sim.SetFault(id, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
					if waiting.Add(1) == DefaultConcurrency {
						close(all)
					}
					select {
					case <-all:
						next.ServeHTTP(w, r)
					case <-r.Context().Done():
					}
				})
			}
			var before int64
			for range 3 {
				before = connections.Load()
				for i, result := range client.SecureScores(within(t, time.Minute), ids(tenant)) {
					if result.Err != nil {
						t.Fatalf("subscription %d: %v", i, result.Err)
					}
				}
			}
			if sim.MaxInFlight() > DefaultConcurrency {
				t.Errorf("%d requests were in flight", sim.MaxInFlight())
			}
			if opened := connections.Load() - before; opened > DefaultConcurrency/2 {
				t.Errorf("the last collection opened %d connections", opened)
			}
		})
	}
}

// proxyTo starts a TLS proxy in front of the simulator and counts its connections.
func proxyTo(t *testing.T, sim *simulator.Server, connections *atomic.Int64, configure func(*httptest.Server)) *httptest.Server {
	t.Helper()
	target, err := url.Parse(sim.URL())
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: sim.RootCAs()}, ForceAttemptHTTP2: true}
	proxy := httptest.NewUnstartedServer(&httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport: transport,
	})
	proxy.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	configure(proxy)
	proxy.StartTLS()
	t.Cleanup(func() {
		proxy.Close()
		transport.CloseIdleConnections()
	})
	return proxy
}

// clientBehind creates a client that reaches ARM through the proxy.
func clientBehind(t *testing.T, sim *simulator.Server, proxy *httptest.Server) *Client {
	t.Helper()
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(sim.CertificatePEM())
	trusted.AddCert(proxy.Certificate())
	behind := sim.Cloud()
	behind.Services = map[cloud.ServiceName]cloud.ServiceConfiguration{
		cloud.ResourceManager: {Endpoint: proxy.URL, Audience: sim.URL()},
	}
	client, err := New(Config{Cloud: behind, PrivateCloud: true, RootCAs: trusted, Credential: sim.Credential})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}
