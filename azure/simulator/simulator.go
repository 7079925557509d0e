// Package simulator is an Azure in one process: the login endpoint that issues access tokens, and the part of Azure Resource Manager
// (ARM) that tells subscriptions and their secure scores, by ARM's own lists and by Azure Resource Graph. It listens on a real socket with TLS and HTTP/2, so that a client needs its
// whole stack (azidentity, azcore, net/http) to talk to it. The tests and the exporter's --demo use it.
//
// It speaks:
//
//   - POST /{tenant}/oauth2/v2.0/token, the client-credentials grant with a secret or a federated token, and the two discovery
//     documents that the Microsoft authentication library may ask for before it;
//   - GET /subscriptions, api-version 2022-12-01;
//   - GET /subscriptions/{id}/providers/Microsoft.Security/secureScores, and secureScoreControls below one score or below the
//     subscription, api-version 2020-01-01; pages by nextLink;
//   - GET /providers/Microsoft.Management/managementGroups/{id}/descendants, api-version 2020-05-01;
//   - POST /providers/Microsoft.ResourceGraph/resources, api-version 2022-10-01 or 2024-04-01, for two queries alone, with the
//     published quota of 15 queries in 5 seconds.
//
// Scores follow Microsoft's published formula. Paths, JSON shapes and the formula come from Microsoft's REST specification and
// documentation; the bodies and headers of refusals come from answers that people have published. None of it could be compared with the
// real Azure. What no source tells, and what is therefore an assumption, is: the answer for a subscription whose
// Microsoft.Security provider is not registered, the controls of a score that does not exist, the form of a $skiptoken, and whether
// Microsoft.Security reports the general rate-limit headers that are sent here or some of its own. Of Resource Graph no source tells the
// HTTP status of ResponsePayloadTooLarge (400, since its outer code is BadRequest), the codes for more than 1,000 subscriptions, for
// wrong paging options and for both scopes at once, whether the quota's window is a fixed one, the IDs of a connector's rows, and whether
// bag_pack keeps nulls; the packed query was never tried on the real one.
// Real ARM compresses its answers; the simulator does not, save for the fault that does so to do harm.
package simulator

import (
	"cmp"
	"context"
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
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"slices"
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
	RouteInstanceDiscovery   = "instance_discovery"
	RouteSubscriptions       = "list_subscriptions"
	RouteSecureScores        = "list_secure_scores"
	RouteControls            = "list_secure_score_controls"
	RouteDescendants         = "list_descendants"
	RouteGraph               = "query_resource_graph"
	RouteOther               = "other" // no path that the simulator knows
)

// Server is a running simulator. Its methods may be called from any goroutine, and what they change holds from the next request on.
type Server struct {
	url         string
	certificate *x509.Certificate
	server      *http.Server
	stop        context.CancelFunc // releases the handlers that hang or are slow
	running     sync.WaitGroup     // the accept loop, the connections and the handlers
	connections atomic.Int64

	pageSize int
	latency  time.Duration
	now      func() time.Time
	graph    ResourceGraph
	groups   map[string]managementGroup // by lower-case ID

	mu            sync.Mutex
	closed        bool
	subscriptions []*served
	index         map[string]int   // of the subscriptions, by lower-case ID
	faults        map[string]Fault // by lower-case subscription ID
	listFault     Fault
	groupFault    Fault
	graphFault    Fault
	tokenFault    Fault
	tokens        map[string]time.Time // issued tokens and when they expire
	tokenLifetime time.Duration
	quotas        map[bucket]quota
	window        window
	throttled     int
	requests      map[string]int
	inFlight      int
	maxInFlight   int
}

// Start serves the tenant on a free port of 127.0.0.1, with a certificate made for this run, until Close.
func Start(tenant Tenant) (*Server, error) {
	key, certificate, err := newCertificate()
	if err != nil {
		return nil, fmt.Errorf("making the simulator's certificate: %w", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("starting the simulator: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	a := &Server{
		url:         "https://" + listener.Addr().String(),
		certificate: certificate,
		stop:        stop,
		pageSize:    tenant.PageSize,
		latency:     tenant.Latency,
		now:         tenant.Now,
		graph:       tenant.ResourceGraph,
		groups:      newManagementGroups(tenant.ManagementGroups),
		index:       map[string]int{},
		faults:      map[string]Fault{},
		tokens:      map[string]time.Time{},
		quotas:      map[bucket]quota{},
		requests:    map[string]int{},
	}
	if a.now == nil {
		a.now = time.Now
	}
	// Shorter than Azure's 60 to 90 minutes by nothing that matters.
	a.tokenLifetime = cmp.Or(tenant.TokenLifetime, time.Hour)
	a.graph.Queries = cmp.Or(a.graph.Queries, 15)
	a.graph.Window = cmp.Or(a.graph.Window, 5*time.Second)
	a.graph.MaxPayload = cmp.Or(a.graph.MaxPayload, defaultMaxPayload)
	for _, s := range tenant.Subscriptions {
		a.SetSubscription(s)
	}
	for id, f := range tenant.Faults {
		a.SetFault(id, f)
	}
	a.server = &http.Server{
		Handler: a.handler(),
		TLSConfig: &tls.Config{
			MinVersion:   tls.VersionTLS12,
			Certificates: []tls.Certificate{{Certificate: [][]byte{certificate.Raw}, PrivateKey: key, Leaf: certificate}},
		},
		ReadHeaderTimeout: 10 * time.Second,
		// Clients that do not trust the certificate are a test's own business, not a line on standard error.
		ErrorLog:    log.New(io.Discard, "", 0),
		BaseContext: func(net.Listener) context.Context { return ctx },
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				a.running.Add(1)
				a.connections.Add(1)
			case http.StateClosed:
				a.running.Done()
			}
		},
	}
	a.running.Go(func() {
		// ServeTLS always returns an error, and after Close it says just that.
		_ = a.server.ServeTLS(listener, "", "")
	})
	return a, nil
}

// Close cuts all connections, releases handlers that hang and waits until nothing of the simulator runs any more.
func (a *Server) Close() {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.stop()
	// The error would be the listener's, which has nothing left to lose.
	_ = a.server.Close()
	a.running.Wait()
}

// begin lets a handler run, and Close wait for it. HTTP/2 may begin one when its connection is gone already, and with it, perhaps, all that
// Close had to wait for.
func (a *Server) begin() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return false
	}
	a.running.Add(1)
	return true
}

// URL is the address of the simulator, https://127.0.0.1:port, for the login endpoint and ARM alike.
func (a *Server) URL() string { return a.url }

// Cloud is the configuration that sends both a credential and an ARM client to the simulator.
func (a *Server) Cloud() cloud.Configuration {
	return cloud.Configuration{
		ActiveDirectoryAuthorityHost: a.url + "/",
		Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
			cloud.ResourceManager: {Endpoint: a.url, Audience: a.url},
		},
	}
}

// RootCAs holds the simulator's certificate alone.
func (a *Server) RootCAs() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

// CertificatePEM is the simulator's certificate for the SSL_CERT_FILE of another process.
func (a *Server) CertificatePEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})
}

// Credential is the real client-secret credential of azidentity with the simulator's secret. The options' cloud is replaced by the
// simulator's; their transport has to trust RootCAs.
func (a *Server) Credential(options azcore.ClientOptions) (azcore.TokenCredential, error) {
	options.Cloud = a.Cloud()
	return azidentity.NewClientSecretCredential(TenantID, ClientID, ClientSecret, &azidentity.ClientSecretCredentialOptions{
		ClientOptions: options,
		// The discovery would ask the real login.microsoftonline.com whether it knows this host.
		DisableInstanceDiscovery: true,
	})
}

// SetSubscription adds the subscription, or replaces the one with the same ID at its place in the list.
func (a *Server) SetSubscription(s Subscription) {
	a.mu.Lock()
	defer a.mu.Unlock()
	// The caller's slices are copied because requests read them after the lock is given back.
	s.Controls = slices.Clone(s.Controls)
	s.Connectors = slices.Clone(s.Connectors)
	for i, c := range s.Connectors {
		s.Connectors[i].Controls = slices.Clone(c.Controls)
	}
	if i := a.find(s.ID); i >= 0 {
		a.subscriptions[i] = newServed(s)
		return
	}
	a.index[strings.ToLower(s.ID)] = len(a.subscriptions)
	a.subscriptions = append(a.subscriptions, newServed(s))
}

// RemoveSubscription takes the subscription away: it is no longer listed, and asking for it is answered with 404 SubscriptionNotFound.
func (a *Server) RemoveSubscription(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if i := a.find(id); i >= 0 {
		a.subscriptions = append(a.subscriptions[:i:i], a.subscriptions[i+1:]...)
		clear(a.index)
		for i, s := range a.subscriptions {
			a.index[strings.ToLower(s.ID)] = i
		}
	}
}

// find returns the index of the subscription, or -1. The caller holds the lock.
func (a *Server) find(id string) int {
	if i, ok := a.index[strings.ToLower(id)]; ok {
		return i
	}
	return -1
}

// SetFault makes the lists below one subscription fail; nil makes them well again. A fault meets only requests that carry a good token.
func (a *Server) SetFault(subscriptionID string, f Fault) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.faults[strings.ToLower(subscriptionID)] = f
}

// SetListFault makes the list of subscriptions fail; nil makes it well again.
func (a *Server) SetListFault(f Fault) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.listFault = f
}

// SetGroupFault makes the lists of what is below a management group fail; nil makes them well again.
func (a *Server) SetGroupFault(f Fault) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.groupFault = f
}

// SetGraphFault makes the queries of Resource Graph fail; nil makes them well again. They spend their quota nevertheless, and queries
// beyond it do not meet the fault.
func (a *Server) SetGraphFault(f Fault) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.graphFault = f
}

// SetTokenFault makes the token endpoint fail; nil makes it well again. The discovery documents stay well.
func (a *Server) SetTokenFault(f Fault) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tokenFault = f
}

// Requests tells how many requests each route has had, refused ones included. A route that was never asked for is absent.
func (a *Server) Requests() map[string]int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.requests)
}

// Throttled is how many queries of Resource Graph were refused because the quota was spent. Those that Throttle refused are not counted.
func (a *Server) Throttled() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.throttled
}

// MaxInFlight is the greatest number of ARM requests that were answered at the same time.
func (a *Server) MaxInFlight() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.maxInFlight
}

// Connections is how many connections were made.
func (a *Server) Connections() int { return int(a.connections.Load()) }

// ResetRequests starts the counts of Requests, Throttled and MaxInFlight anew.
func (a *Server) ResetRequests() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.requests)
	a.throttled = 0
	a.maxInFlight = a.inFlight
}

// handler routes the requests. The paths are in lower case because ARM takes them in any case.
func (a *Server) handler() http.Handler {
	const security = "/subscriptions/{subscription}/providers/microsoft.security"
	mux := http.NewServeMux()
	mux.Handle("/subscriptions", a.arm(RouteSubscriptions, a.listSubscriptions))
	mux.Handle(security+"/securescores", a.arm(RouteSecureScores, a.listSecureScores))
	mux.Handle(security+"/securescorecontrols", a.arm(RouteControls, a.listControls))
	mux.Handle(security+"/securescores/{score}/securescorecontrols", a.arm(RouteControls, a.listControls))
	mux.Handle("/providers/microsoft.management/managementgroups/{group}/descendants", a.arm(RouteDescendants, a.listDescendants))
	mux.Handle("/providers/microsoft.resourcegraph/resources", a.arm(RouteGraph, a.queryGraph))
	mux.Handle("/{tenant}/oauth2/v2.0/token", a.login(RouteToken, a.issueToken))
	mux.Handle("/{tenant}/v2.0/.well-known/openid-configuration", a.login(RouteOpenIDConfiguration, a.openIDConfiguration))
	mux.Handle("/common/discovery/instance", a.login(RouteInstanceDiscovery, a.instanceDiscovery))
	mux.Handle("/", a.arm(RouteOther, func(w http.ResponseWriter, r *http.Request) {
		armError(w, http.StatusNotFound, "InvalidResourceType", "The resource type could not be found for api version '%s'.", apiVersion(r))
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !a.begin() {
			panic(http.ErrAbortHandler)
		}
		defer a.running.Done()
		lower := *r
		lower.URL = new(url.URL)
		*lower.URL = *r.URL
		lower.URL.Path = strings.ToLower(r.URL.Path)
		mux.ServeHTTP(w, &lower)
	})
}

// count notes a request of the route.
func (a *Server) count(route string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.requests[route]++
}

// newCertificate makes a key and a certificate, signed by itself, for 127.0.0.1.
func newCertificate() (*ecdsa.PrivateKey, *x509.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "Azure simulator"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().AddDate(1, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	return key, certificate, err
}
