package simulator_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"go.uber.org/goleak"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// client is the real client stack, pointed at a simulator.
type client struct {
	t    *testing.T
	http *http.Client
	arm  *arm.Client
	url  string
}

func start(t *testing.T, tenant simulator.Tenant) (*simulator.Server, *client) {
	t.Helper()
	a, err := simulator.Start(tenant)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	httpClient := newHTTPClient(t, a)
	credential, err := a.Credential(azcore.ClientOptions{Transport: httpClient, Retry: policy.RetryOptions{MaxRetries: -1}})
	if err != nil {
		t.Fatal(err)
	}
	return a, newClient(t, a, httpClient, credential)
}

func newHTTPClient(t *testing.T, a *simulator.Server) *http.Client {
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: a.RootCAs(), MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2: true,
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func newClient(t *testing.T, a *simulator.Server, httpClient *http.Client, credential azcore.TokenCredential) *client {
	t.Helper()
	armClient, err := arm.NewClient("simulator_test", "v0.0.0", credential, &arm.ClientOptions{
		ClientOptions:         azcore.ClientOptions{Cloud: a.Cloud(), Transport: httpClient, Retry: policy.RetryOptions{MaxRetries: -1}},
		DisableRPRegistration: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	return &client{t: t, http: httpClient, arm: armClient, url: a.URL()}
}

// get sends a request through the SDK's pipeline, with a token.
func (c *client) get(url string) (*http.Response, error) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	c.t.Cleanup(cancel)
	return c.getContext(ctx, url)
}

func (c *client) getContext(ctx context.Context, url string) (*http.Response, error) {
	c.t.Helper()
	if strings.HasPrefix(url, "/") {
		url = c.url + url
	}
	request, err := runtime.NewRequest(ctx, http.MethodGet, url)
	if err != nil {
		c.t.Fatal(err)
	}
	runtime.SkipBodyDownload(request)
	return c.arm.Pipeline().Do(request)
}

// body returns status and body of a GET with a token.
func (c *client) body(url string) (*http.Response, string) {
	c.t.Helper()
	response, err := c.get(url)
	if err != nil {
		c.t.Fatalf("GET %s: %v", url, err)
	}
	return response, c.read(response)
}

func (c *client) read(response *http.Response) string {
	c.t.Helper()
	defer func() { _ = response.Body.Close() }()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatalf("reading: %v", err)
	}
	return string(b)
}

func TestClose_ReleasesHangingRequests(t *testing.T) {
	tenant := simulator.Generate(1, 1)
	id := tenant.Subscriptions[0].ID
	a, c := start(t, tenant)
	arrived := make(chan struct{})
	hang := simulator.Hang()
	a.SetFault(id, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		close(arrived)
		hang(w, r, next)
	})
	failed := make(chan error, 1)
	go func() {
		_, err := c.get(scoresPath(id))
		failed <- err
	}()
	<-arrived
	a.Close()
	if err := <-failed; err == nil {
		t.Error("the hanging request was answered")
	}
}

func TestCertificatePEM_IsTheServersCertificate(t *testing.T) {
	a, _ := start(t, simulator.Tenant{})
	if pem := a.CertificatePEM(); !a.RootCAs().Equal(poolOf(t, pem)) {
		t.Errorf("%s is a different certificate", pem)
	}
}

func poolOf(t *testing.T, pem []byte) *x509.CertPool {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		t.Fatalf("no certificate in %s", pem)
	}
	return pool
}
