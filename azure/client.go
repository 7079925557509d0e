// Package azure reads secure scores from Azure Resource Manager (ARM).
//
// A [Client] holds the one credential, the one HTTP client and the one
// authenticated pipeline of the process. It answers three questions: does the
// credential work ([Client.Authenticate]), which subscriptions are there
// ([Client.Subscriptions]), and how are they scored ([Client.SecureScores]).
//
// Everything that goes wrong carries one [Reason] of a closed set, so that its
// callers never look into an HTTP answer. Whatever Azure answers is taken as
// data from a stranger: bodies, pages and numbers are bounded, and the token
// goes to the configured ARM host alone. The package knows no Prometheus; it
// tells of its HTTP calls through the callback [Config.Observe].
package azure

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/go-kit/log"
)

// DefaultConcurrency is how many calls to ARM are in flight at most. It was chosen
// with scripts/figures: at 50 ms a call, the 2,001 calls for 1,000 subscriptions
// take 4.6 s with 32 in flight on two cores that the simulated Azure shares, which
// is well inside Prometheus' default timeout of 10 s; 16 need 8.2 s, and 64 gain
// 1.3 s for twice the burst. ARM grants a principal 250 reads at once and 25 a
// second per subscription, so the burst is spread far below that.
const DefaultConcurrency = 32

const (
	// maxBody bounds one answer, after decompression. A real page of 1,000
	// subscriptions or controls is well below 1 MiB.
	maxBody = 8 << 20
	// maxPages bounds the pages of one list, and maxItems what is on all of them
	// together: a body of small items takes far more memory than it has bytes.
	maxPages = 100
	maxItems = 20_000
	// maxListBody bounds all pages of one list together, of which texts are kept.
	maxListBody = 2 * maxBody

	// A scrape has seconds, not minutes: azcore's own defaults would spend 9.9 s
	// on four attempts.
	maxRetries    = 2
	retryDelay    = 250 * time.Millisecond
	maxRetryDelay = 2 * time.Second
)

// Config says how to reach Azure. The zero value reaches the public cloud with
// azidentity's default credential.
type Config struct {
	// Cloud holds the authority, the ARM endpoint and the token audience; zero
	// means the public cloud. See [ParseCloud].
	Cloud cloud.Configuration
	// PrivateCloud says that the authority is none of Microsoft's public ones, so
	// that azidentity must not ask login.microsoft.com about it.
	PrivateCloud bool
	// SubscriptionIDs are the subscriptions to read; none means every one that
	// the identity sees.
	SubscriptionIDs []string
	// ManagementGroups limit the subscriptions that the identity sees to those
	// below one of these groups; none means no limit.
	ManagementGroups []string
	// Concurrency is how many ARM calls may be in flight; 0 means
	// [DefaultConcurrency].
	Concurrency int
	// Observe, when set, is called after every HTTP call to Azure, retries
	// included, from many goroutines at once.
	Observe func(Request)
	// Version of the program, for the User-Agent header.
	Version string
	// RootCAs to trust instead of the system's.
	RootCAs *x509.CertPool
	// Credential makes the credential from options that carry cloud and
	// transport; nil means azidentity.NewDefaultAzureCredential.
	Credential func(azcore.ClientOptions) (azcore.TokenCredential, error)
	// Logger gets what Azure answered oddly and what was made of it.
	Logger log.Logger
}

// DefaultConfig returns the configuration of the public cloud, every subscription that the
// identity sees, and azidentity's default credential.
func DefaultConfig() Config {
	return Config{Cloud: cloud.AzurePublic, Concurrency: DefaultConcurrency, Logger: log.NewNopLogger()}
}

// Validate reports the first invalid setting, by the name of its flag.
func (c *Config) Validate() error {
	if c.Concurrency < 1 || c.Concurrency > 1000 {
		return errors.New("--azure.concurrency must be from 1 to 1000")
	}
	if len(c.SubscriptionIDs) > 0 && len(c.ManagementGroups) > 0 {
		return errors.New("--azure.subscription-id and --azure.management-group exclude each other")
	}
	seen := map[string]bool{}
	for _, id := range c.SubscriptionIDs {
		lower, err := ParseSubscriptionID(id)
		if err != nil {
			return fmt.Errorf("--azure.subscription-id: %w", err)
		}
		if seen[lower] {
			return fmt.Errorf("--azure.subscription-id: %s is given twice", id)
		}
		seen[lower] = true
	}
	for _, id := range c.ManagementGroups {
		if _, err := ParseManagementGroup(id); err != nil {
			return fmt.Errorf("--azure.management-group: %w", err)
		}
	}
	return nil
}

// Client reads from Azure. Its methods may be called from many goroutines.
type Client struct {
	endpoint         *url.URL
	pipeline         runtime.Pipeline
	token            *tokenSource
	scope            string
	http             *http.Client
	subscriptionIDs  []string
	managementGroups []string
	concurrency      int
	logger           log.Logger
}

// New makes a client without calling Azure. It fails when the cloud or
// the credential's configuration is unusable.
func New(cfg Config) (*Client, error) {
	if len(cfg.Cloud.Services) == 0 {
		cfg.Cloud = cloud.AzurePublic
	}
	if cfg.Concurrency <= 0 {
		cfg.Concurrency = DefaultConcurrency
	}
	if cfg.Logger == nil {
		cfg.Logger = log.NewNopLogger()
	}
	resourceManager := cfg.Cloud.Services[cloud.ResourceManager]
	endpoint, err := parseEndpoint(resourceManager.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("ARM endpoint: %w", err)
	}

	httpClient := newHTTPClient(cfg.RootCAs, cfg.Concurrency)
	options := func(policies ...policy.Policy) azcore.ClientOptions {
		return azcore.ClientOptions{
			Cloud:            cfg.Cloud,
			Transport:        httpClient,
			Telemetry:        policy.TelemetryOptions{ApplicationID: "secure-score-exporter"},
			Retry:            policy.RetryOptions{MaxRetries: maxRetries, RetryDelay: retryDelay, MaxRetryDelay: maxRetryDelay},
			PerRetryPolicies: policies,
		}
	}

	newCredential := cfg.Credential
	if newCredential == nil {
		newCredential = func(o azcore.ClientOptions) (azcore.TokenCredential, error) {
			return azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{
				ClientOptions: o, DisableInstanceDiscovery: cfg.PrivateCloud,
			})
		}
	}
	credential, err := newCredential(options(&callPolicy{operation: operationGetToken, observe: cfg.Observe}))
	if err != nil {
		return nil, fmt.Errorf("credential: %s", oneLine(err.Error()))
	}

	token := newTokenSource(credential)
	client, err := arm.NewClient("azure", moduleVersion(cfg.Version), token, &arm.ClientOptions{
		ClientOptions: options(newCallPolicy(cfg.Observe, cfg.Concurrency)),
		// An exporter reads. Without this azcore would try to register
		// Microsoft.Security on a subscription that lacks it, and hide the answer.
		DisableRPRegistration: true,
	})
	if err != nil {
		return nil, fmt.Errorf("ARM client: %w", err)
	}
	return &Client{
		endpoint:         endpoint,
		pipeline:         client.Pipeline(),
		token:            token,
		scope:            resourceManager.Audience + "/.default",
		http:             httpClient,
		subscriptionIDs:  cfg.SubscriptionIDs,
		managementGroups: cfg.ManagementGroups,
		concurrency:      cfg.Concurrency,
		logger:           cfg.Logger,
	}, nil
}

// Close ends what the client still does in the background and waits for it.
func (c *Client) Close() {
	c.token.close()
	c.http.CloseIdleConnections()
}

// Authenticate makes sure that there is a token for ARM, from the credential's
// cache where it is still good. A failure has [ReasonAuthentication] (or
// [ReasonCanceled] when ctx was canceled): asking once, before many calls
// are made, keeps an expired secret from being tried once per call.
func (c *Client) Authenticate(ctx context.Context) error {
	_, err := c.token.GetToken(ctx, c.tokenOptions())
	if errors.Is(err, context.DeadlineExceeded) {
		err = &Error{Reason: ReasonAuthentication, Err: context.DeadlineExceeded}
	}
	if err != nil {
		return fmt.Errorf("get token: %w", err)
	}
	return nil
}

// tokenOptions are those of azcore's bearer token policy, so that the token asked
// for is the one in the cache when the calls need it.
func (c *Client) tokenOptions() policy.TokenRequestOptions {
	return policy.TokenRequestOptions{Scopes: []string{c.scope}, EnableCAE: true}
}

// list reads all pages of an ARM list. Every failure is an [*Error].
func list[T any](ctx context.Context, c *Client, operation, path, apiVersion string) ([]T, error) {
	link := c.link(path, apiVersion)
	var items []T
	read := 0 // bytes
	seen := map[string]bool{}
	for len(seen) < maxPages {
		seen[link] = true
		var page struct {
			Value    []T    `json:"value"`
			NextLink string `json:"nextLink"`
		}
		size, err := c.get(ctx, operation, link, &page)
		if err != nil {
			return nil, err
		}
		if read += size; read > maxListBody {
			return nil, invalid(fmt.Sprintf("more than %d bytes", maxListBody))
		}
		if len(items)+len(page.Value) > maxItems {
			return nil, invalid(fmt.Sprintf("more than %d items", maxItems))
		}
		items = append(items, page.Value...)
		if page.NextLink == "" {
			return items, nil
		}
		if link, err = sameHost(c.endpoint, page.NextLink); err != nil {
			return nil, &Error{Reason: ReasonInvalidResponse, Err: err}
		}
		if seen[link] {
			return nil, &Error{Reason: ReasonInvalidResponse, Err: errors.New("nextLink leads back to a page already read")}
		}
	}
	return nil, &Error{Reason: ReasonInvalidResponse, Err: fmt.Errorf("more than %d pages", maxPages)}
}

// link returns the address of an ARM path.
func (c *Client) link(path, apiVersion string) string {
	u := c.endpoint.JoinPath(path)
	u.RawQuery = url.Values{"api-version": {apiVersion}}.Encode()
	return u.String()
}

// get reads one JSON document and says how many bytes it had. Every failure is an
// [*Error].
func (c *Client) get(ctx context.Context, operation, link string, into any) (int, error) {
	req, err := runtime.NewRequest(policy.WithRetryOptions(ctx, retriesWithin(ctx, transientStatus)), http.MethodGet, link)
	if err != nil {
		return 0, &Error{Reason: ReasonInvalidResponse, Err: summarize(err)}
	}
	answer, err := c.send(req, operation)
	if err != nil {
		return 0, err
	}
	return len(answer.body), decode(answer.body, into, maxItems)
}

// answer is what came back for a request, read whole.
type answer struct {
	status int // 0 when none came
	header http.Header
	body   []byte
}

// send sends a request and reads the answer. Every failure is an [*Error], beside
// which an answer that is not 200 is returned, too.
func (c *Client) send(req *policy.Request, operation string) (answer, error) {
	req.Raw().Header.Set("Accept", "application/json")
	req.SetOperationValue(callOperation(operation))
	resp, err := c.pipeline.Do(req)
	if err != nil {
		e := classify(err)
		if resp != nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusUnauthorized && e.Reason == ReasonNetwork {
				e = classifyStatus(resp.StatusCode, nil) // azcore did not understand the challenge, and quotes it
			}
		}
		return answer{}, e
	}
	body, err := runtime.Payload(resp)
	if err != nil {
		return answer{}, classify(err)
	}
	a := answer{resp.StatusCode, resp.Header, body}
	if a.status != http.StatusOK {
		return a, classifyStatus(a.status, body)
	}
	return a, nil
}

// decode decodes JSON whose arrays have no more than so many elements together,
// which is looked at first: decoding them is what takes the memory.
func decode(body []byte, into any, most int) error {
	if elements(body) > most {
		return invalid(fmt.Sprintf("more than %d items", most))
	}
	body = bytes.TrimPrefix(body, []byte("\ufeff")) // some of Azure's services send a byte order mark
	if err := json.Unmarshal(body, into); err != nil {
		return &Error{Reason: ReasonInvalidResponse, Err: summarize(err)}
	}
	return nil
}

// elements counts the elements of all arrays of a JSON text, or what would be them
// in a text that is none.
func elements(body []byte) int {
	count := 0
	var arrays []bool // by depth, whether it is an array
	for i := 0; i < len(body); i++ {
		switch body[i] {
		case '"':
			for i++; i < len(body) && body[i] != '"'; i++ {
				if body[i] == '\\' {
					i++
				}
			}
		case '[', '{':
			arrays = append(arrays, body[i] == '[')
			if body[i] == '[' {
				count++ // its first element, and an empty array as one
			}
		case ']', '}':
			arrays = arrays[:max(0, len(arrays)-1)]
		case ',':
			if len(arrays) > 0 && arrays[len(arrays)-1] {
				count++
			}
		}
	}
	return count
}

// transientStatus are the answers after which ARM may well answer the next time.
var transientStatus = []int{
	http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
	http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
}

// retriesWithin allows a retry only while the longest wait for it still fits
// ctx's deadline. Without this azcore sleeps into the deadline and a throttled
// call would look like a slow one.
func retriesWithin(ctx context.Context, status []int) policy.RetryOptions {
	return policy.RetryOptions{
		MaxRetries: maxRetries, RetryDelay: retryDelay, MaxRetryDelay: maxRetryDelay,
		ShouldRetry: func(resp *http.Response, err error) bool {
			if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= maxRetryDelay {
				return false
			}
			if err != nil {
				return classify(err).Reason == ReasonNetwork
			}
			return runtime.HasStatusCode(resp, status...)
		},
	}
}

// sameHost returns nextLink, ready to be requested, or an error when it is
// anything but an https address on the endpoint's host and port: the request
// will carry the bearer token.
func sameHost(endpoint *url.URL, nextLink string) (string, error) {
	encoded, err := runtime.EncodeQueryParams(nextLink)
	if err != nil {
		return "", errors.New("nextLink is no URL")
	}
	u, err := url.Parse(encoded)
	switch {
	case err != nil:
		return "", errors.New("nextLink is no URL")
	case u.Scheme != "https":
		return "", errors.New("nextLink is not https")
	case u.User != nil || !strings.EqualFold(u.Hostname(), endpoint.Hostname()) || port(u) != port(endpoint):
		return "", errors.New("nextLink leads to another host")
	}
	return u.String(), nil
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	return "443"
}

var semanticVersion = regexp.MustCompile(`^v?\d+\.\d+\.\d+`)

// moduleVersion is the version in the form that azcore insists on.
func moduleVersion(version string) string {
	if v := semanticVersion.FindString(version); v != "" {
		return "v" + strings.TrimPrefix(v, "v")
	}
	return "v0.0.0"
}
