// Package simulator is an Azure in one process: the token endpoint and the part of Azure Resource
// Manager (ARM) that serves subscriptions and their secure scores, through ARM's own lists and
// through Azure Resource Graph. It listens on a real socket with TLS and HTTP/2, so a client needs
// its whole stack (azidentity, azcore, net/http) to talk to it. The tests and --demo use it.
//
// It serves:
//
//   - POST /{tenant}/oauth2/v2.0/token, the client credentials grant with a secret, a certificate
//     or a federated token, and the OpenID configuration that the Microsoft authentication library
//     reads first;
//   - GET /subscriptions, api-version 2022-12-01;
//   - GET /subscriptions/{id}/providers/Microsoft.Security/secureScores and secureScoreControls,
//     api-version 2020-01-01, paged by nextLink;
//   - GET /subscriptions/{id}/providers/Microsoft.Security, api-version 2021-04-01, the state of
//     the provider's registration alone;
//   - GET /providers/Microsoft.Management/managementGroups/{id}/descendants, api-version
//     2020-05-01;
//   - POST /providers/Microsoft.ResourceGraph/resources, api-version 2024-04-01, for plain and
//     packed queries of secure scores and of subscriptions, and for queries of recommendations,
//     within the published quota of 15 queries in 5 seconds.
//
// Scores follow Microsoft's published formula. Paths, JSON shapes and the formula come from
// Microsoft's REST specification and documentation; error bodies and headers come from published
// answers. None of it has been compared with real Azure. Where no source exists, the simulator
// assumes:
//
//   - the answer for a subscription whose Microsoft.Security provider is not registered, the form
//     of a $skiptoken, and that Microsoft.Security reports the general rate limit headers;
//   - for Resource Graph, the HTTP status of ResponsePayloadTooLarge (400, because its outer code
//     is BadRequest) and of UnexpectedQueryExecutionError, the codes for more than 1,000
//     subscriptions and for invalid paging options, a fixed quota window, the IDs of a connector's
//     rows, and that packing keeps nulls.
//
// Real ARM compresses its answers; the simulator does not, except in [GzipBomb].
package simulator

import (
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// The routes that Requests counts.
const (
	RouteToken               = "token"
	RouteOpenIDConfiguration = "openid_configuration"
	RouteSubscriptions       = "list_subscriptions"
	RouteSecureScores        = "list_secure_scores"
	RouteControls            = "list_secure_score_controls"
	RouteDescendants         = "list_descendants"
	RouteRegistration        = "get_registration"
	RouteGraph               = "query_resource_graph"
	RouteOther               = "other" // a path that the simulator does not know
)

// Server is a running simulator. Its methods are safe for concurrent use; a change applies from the
// next request on.
type Server struct {
	url         string
	certificate *x509.Certificate
	server      *http.Server
	stop        context.CancelFunc // releases handlers that hang or sleep
	running     sync.WaitGroup     // the accept loop, the connections and the handlers
	connections atomic.Int64

	pageSize             int
	subscriptionPageSize int
	latency              time.Duration
	now                  func() time.Time
	tokenLifetime        time.Duration
	graph                ResourceGraph

	mu            sync.Mutex
	groups        map[string]managementGroup // by lower-case ID
	parents       map[string]string          // ID of the group above, both in lower case
	closed        bool
	subscriptions []*graphSubscription
	index         map[string]int   // into subscriptions, by lower-case ID
	faults        map[string]Fault // by lower-case subscription ID, or by route
	identity      identity
	tokens        map[string]accessToken // those that ARM knows
	buckets       map[bucketKey]bucket
	window        window
	throttled     int
	plans         map[string]*graphPlan // by query
	requests      map[string]int
	inFlight      int
	maxInFlight   int
}

// Start serves the tenant on a free port of 127.0.0.1, with a certificate of its own, until Close.
func Start(tenant Tenant) (*Server, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("create the simulator's key: %w", err)
	}
	certificate, err := newCertificate(key)
	if err != nil {
		return nil, fmt.Errorf("create the simulator's certificate: %w", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start the simulator: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	s := newServer(tenant)
	s.url = "https://" + listener.Addr().String()
	s.certificate = certificate
	s.stop = stop
	s.server = &http.Server{
		Handler: s.handler(),
		TLSConfig: &tls.Config{
			MinVersion: tls.VersionTLS12,
			Certificates: []tls.Certificate{
				{Certificate: [][]byte{certificate.Raw}, PrivateKey: key, Leaf: certificate},
			},
		},
		ReadHeaderTimeout: 10 * time.Second,
		// A client that does not trust the certificate is the test's concern.
		ErrorLog:    log.New(io.Discard, "", 0),
		BaseContext: func(net.Listener) context.Context { return ctx },
		ConnState:   s.trackConnection,
	}
	s.running.Go(func() {
		// ServeTLS always returns an error; after Close it is ErrServerClosed.
		_ = s.server.ServeTLS(listener, "", "")
	})
	return s, nil
}

func newServer(tenant Tenant) *Server {
	s := &Server{
		pageSize:             tenant.PageSize,
		subscriptionPageSize: tenant.SubscriptionPageSize,
		latency:              tenant.Latency,
		now:                  tenant.Now,
		tokenLifetime:        cmp.Or(tenant.TokenLifetime, time.Hour),
		graph:                tenant.ResourceGraph,
		index:                map[string]int{},
		faults:               map[string]Fault{},
		identity:             identity{secret: ClientSecret, federatedToken: FederatedToken},
		tokens:               map[string]accessToken{},
		buckets:              map[bucketKey]bucket{},
		plans:                map[string]*graphPlan{},
		requests:             map[string]int{},
	}
	s.setGroups(tenant.ManagementGroups, tenant.ManagementGroupNames)
	if s.now == nil {
		s.now = time.Now
	}
	s.graph.Queries = cmp.Or(s.graph.Queries, defaultQueries)
	s.graph.Window = cmp.Or(s.graph.Window, defaultWindow)
	for _, sub := range tenant.Subscriptions {
		s.SetSubscription(sub)
	}
	for id, f := range tenant.Faults {
		s.SetFault(id, f)
	}
	return s
}

// Close cuts all connections, releases handlers that hang, and waits until everything has stopped.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop()
	// The error is the listener's, which is closed either way.
	_ = s.server.Close()
	s.running.Wait()
}

// URL is the address of the simulator, https://127.0.0.1:port, for both the token endpoint and ARM.
func (s *Server) URL() string { return s.url }

// Cloud is the configuration that sends both a credential and an ARM client to the simulator.
func (s *Server) Cloud() cloud.Configuration {
	return cloud.Configuration{
		ActiveDirectoryAuthorityHost: s.url + "/",
		Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
			cloud.ResourceManager: {Endpoint: s.url, Audience: s.url},
		},
	}
}

// RootCAs is a pool that holds only the simulator's certificate.
func (s *Server) RootCAs() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(s.certificate)
	return pool
}

// CertificatePEM is the simulator's certificate for the SSL_CERT_FILE of another process.
func (s *Server) CertificatePEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.certificate.Raw})
}

// Credential is azidentity's client secret credential with [ClientSecret]. It replaces the cloud in
// options with the simulator's; the transport in options must trust RootCAs.
func (s *Server) Credential(options azcore.ClientOptions) (azcore.TokenCredential, error) {
	options.Cloud = s.Cloud()
	return azidentity.NewClientSecretCredential(TenantID, ClientID, ClientSecret,
		&azidentity.ClientSecretCredentialOptions{
			ClientOptions: options,
			// Otherwise azidentity asks login.microsoftonline.com whether it knows this host.
			DisableInstanceDiscovery: true,
		})
}

// handler routes the requests. The paths are in lower case because ARM accepts any case.
func (s *Server) handler() http.Handler {
	const (
		security   = "/subscriptions/{subscription}/providers/microsoft.security"
		management = "/providers/microsoft.management/managementgroups/{group}"
	)
	mux := http.NewServeMux()
	mux.Handle("/{tenant}/oauth2/v2.0/token", s.login(RouteToken, s.issueToken))
	mux.Handle("/{tenant}/v2.0/.well-known/openid-configuration",
		s.login(RouteOpenIDConfiguration, s.openIDConfiguration))
	mux.Handle("/subscriptions", s.arm(RouteSubscriptions, s.listSubscriptions))
	mux.Handle(security, s.arm(RouteRegistration, s.getRegistration))
	mux.Handle(security+"/securescores", s.arm(RouteSecureScores, s.listSecureScores))
	mux.Handle(security+"/securescorecontrols", s.arm(RouteControls, s.listControls))
	mux.Handle(management+"/descendants", s.arm(RouteDescendants, s.listDescendants))
	mux.Handle("/providers/microsoft.resourcegraph/resources", s.arm(RouteGraph, s.queryGraph))
	mux.Handle("/", s.arm(RouteOther, func(w http.ResponseWriter, r *http.Request) {
		armError(w, http.StatusNotFound, "InvalidResourceType",
			"The resource type could not be found for api version '%s'.", apiVersion(r))
	}))
	return s.track(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		lower := *r
		lower.URL = new(url.URL)
		*lower.URL = *r.URL
		lower.URL.Path = strings.ToLower(r.URL.Path)
		mux.ServeHTTP(w, &lower)
	}))
}

// track makes Close wait for the handlers. HTTP/2 can start a handler after its connection has
// gone, when Close may already have stopped waiting; such a request is aborted.
func (s *Server) track(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		closed := s.closed
		if !closed {
			s.running.Add(1)
		}
		s.mu.Unlock()
		if closed {
			panic(http.ErrAbortHandler)
		}
		defer s.running.Done()
		next.ServeHTTP(w, r)
	})
}

func (s *Server) trackConnection(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.running.Add(1)
		s.connections.Add(1)
	case http.StateClosed:
		s.running.Done()
	}
}

// ProxiedHost is a name in the simulator's certificate that nothing resolves: a proxy is needed to
// connect it to the simulator.
const ProxiedHost = "azure.invalid"

// newCertificate creates a self-signed certificate, which is valid for 127.0.0.1 and ProxiedHost.
func newCertificate(key crypto.Signer) (*x509.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "Azure simulator"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().AddDate(1, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		DNSNames:              []string{ProxiedHost},
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}
