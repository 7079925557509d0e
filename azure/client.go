// Package azure reads secure scores from Azure Resource Manager (ARM) and Azure Resource Graph.
//
// A [Client] holds one credential, one HTTP client and one authenticated pipeline. It checks the
// credential ([Client.Authenticate]), lists subscriptions ([Client.Subscriptions]) and reads their
// scores ([Client.SecureScores]); [ResourceGraph] reads the scores with far fewer requests.
//
// Every failure has one [Reason] of a closed set, so callers never inspect an HTTP response.
// Azure's responses are untrusted input: bodies, pages and numbers are bounded, and the token goes
// only to the configured ARM host. The package knows no Prometheus; it reports its HTTP requests
// through [Config.Observe].
package azure

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/go-kit/log"
)

// DefaultConcurrency is the default maximum of concurrent ARM requests. ARM limits the reads of
// each subscription separately, to a burst of 250 and 25 a second, and a collection sends two, so
// any number of subscriptions can be read concurrently. HTTP/2 servers usually accept 100 streams
// per connection. Measured with scripts/figures at 50 ms a request on two cores: the 2,001
// requests for 1,000 subscriptions take 3.4 s with 32, 1.8 s with 64 and 1.2 s with 100.
const DefaultConcurrency = 100

// Config describes how to reach Azure. The zero value reaches the public cloud with azidentity's
// default credential.
type Config struct {
	// Cloud holds the authority, the ARM endpoint and the token audience; zero means the public
	// cloud. See [ParseCloud].
	Cloud cloud.Configuration
	// PrivateCloud disables instance discovery: the authority is not one of Microsoft's public ones,
	// so azidentity must not query login.microsoft.com about it.
	PrivateCloud bool
	// SubscriptionIDs are the subscriptions to read; empty means all that the identity can list.
	SubscriptionIDs []string
	// ExcludeSubscriptionIDs are left out, however they were found.
	ExcludeSubscriptionIDs []string
	// ManagementGroups limit the subscriptions to those below one of these groups; empty means no
	// limit.
	ManagementGroups []string
	// SubscriptionTags are the names of the tags to keep of each subscription, in any case.
	SubscriptionTags []string
	// OwnerTag is the name of the tag with the owner of a subscription; empty means none.
	OwnerTag string
	// TargetTag is the name of the tag with the secure score that is the target of a subscription, as
	// a percentage or a ratio; empty means none.
	TargetTag string
	// Concurrency is the maximum number of concurrent ARM requests; 0 means [DefaultConcurrency].
	Concurrency int
	// Observe, if set, is called after each HTTP request to Azure, including retries, from many
	// goroutines concurrently.
	Observe func(Request)
	// Version of the program, for the User-Agent header.
	Version string
	// RootCAs replace the system's; nil means the system's.
	RootCAs *x509.CertPool
	// Credential creates the credential from options that carry cloud and transport; nil means
	// azidentity.NewDefaultAzureCredential.
	Credential func(azcore.ClientOptions) (azcore.TokenCredential, error)
	// ClientSecretFile holds the client secret of the service principal AZURE_CLIENT_ID in the tenant
	// AZURE_TENANT_ID, instead of AZURE_CLIENT_SECRET. White space around it is ignored. When the file
	// is replaced, the next token request uses the new secret.
	ClientSecretFile string
	// Logger receives warnings about unexpected responses; nil means none.
	Logger log.Logger

	now          func() time.Time // nil means time.Now
	tokenTimeout time.Duration    // of a token request; 0 means tokenTimeout
}

// DefaultConfig returns the configuration of the public cloud, every subscription that the identity
// can list, and azidentity's default credential.
func DefaultConfig() Config {
	return Config{Cloud: cloud.AzurePublic, Concurrency: DefaultConcurrency, Logger: log.NewNopLogger(), now: time.Now, tokenTimeout: tokenTimeout}
}

// Validate reports the first invalid setting by the name of its flag.
func (c *Config) Validate() error {
	if c.Concurrency < 1 || c.Concurrency > 1000 {
		return errors.New("--azure.concurrency must be from 1 to 1000")
	}
	if len(c.SubscriptionIDs) > 0 && len(c.ManagementGroups) > 0 {
		return errors.New("--azure.subscription-id and --azure.management-group are mutually exclusive")
	}
	seen := map[string]string{} // the flag, by ID
	for _, list := range []struct {
		flag string
		ids  []string
	}{{"--azure.subscription-id", c.SubscriptionIDs}, {"--azure.exclude-subscription-id", c.ExcludeSubscriptionIDs}} {
		for _, id := range list.ids {
			lower, err := ParseSubscriptionID(id)
			switch before := seen[lower]; {
			case err != nil:
				return fmt.Errorf("%s: %w", list.flag, err)
			case before == list.flag:
				return fmt.Errorf("%s: %s is given twice", list.flag, id)
			case before != "":
				return fmt.Errorf("%s: %s contradicts %s", list.flag, id, before)
			}
			seen[lower] = list.flag
		}
	}
	for _, id := range c.ManagementGroups {
		if _, err := ParseManagementGroup(id); err != nil {
			return fmt.Errorf("--azure.management-group: %w", err)
		}
	}
	return c.validateTags()
}

// Client reads from Azure. It is safe for concurrent use.
type Client struct {
	endpoint         *url.URL
	pipeline         runtime.Pipeline
	token            *tokenSource
	transport        *limitedTransport
	subscriptionIDs  []string
	excluded         map[string]bool
	managementGroups []string
	concurrency      int
	logger           log.Logger
	now              func() time.Time
	listing          resumableListing

	tags wantedTags

	groupFailures []failureLog // of managementGroups

	mu         sync.Mutex
	badTargets map[string]string // by subscription ID, as last logged
}

// New creates a client without calling Azure. It fails if the cloud or the configuration of the
// credential is unusable.
func New(cfg Config) (*Client, error) {
	defaults := DefaultConfig()
	if len(cfg.Cloud.Services) == 0 {
		cfg.Cloud = defaults.Cloud
	}
	if cfg.Concurrency <= 0 {
		cfg.Concurrency = defaults.Concurrency
	}
	if cfg.Logger == nil {
		cfg.Logger = defaults.Logger
	}
	if cfg.now == nil {
		cfg.now = defaults.now
	}
	if cfg.tokenTimeout == 0 {
		cfg.tokenTimeout = defaults.tokenTimeout
	}
	resourceManager := cfg.Cloud.Services[cloud.ResourceManager]
	endpoint, err := parseEndpoint(resourceManager.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("ARM endpoint: %w", err)
	}
	if resourceManager.Audience == "" {
		return nil, errors.New("the token audience for ARM is missing")
	}

	transport := newTransport(cfg.RootCAs, cfg.Concurrency)
	options := azcore.ClientOptions{
		Cloud:     cfg.Cloud,
		Transport: transport,
		Telemetry: policy.TelemetryOptions{ApplicationID: "secure-score-exporter"},
		Retry:     policy.RetryOptions{MaxRetries: maxRetries, RetryDelay: retryDelay, MaxRetryDelay: maxRetryDelay},
	}
	credential, err := cfg.newCredentialSource(options)
	if err != nil {
		return nil, fmt.Errorf("credential: %s", printable(err.Error()))
	}
	cfg.warnAboutEnvironment()
	token := newTokenSource(credential, resourceManager.Audience, cfg)
	var subscriptionIDs []string
	for _, id := range cfg.SubscriptionIDs {
		subscriptionIDs = append(subscriptionIDs, strings.ToLower(id))
	}
	excluded := map[string]bool{}
	for _, id := range cfg.ExcludeSubscriptionIDs {
		excluded[strings.ToLower(id)] = true
	}
	return &Client{
		endpoint: endpoint,
		pipeline: runtime.NewPipeline("azure", moduleVersion(cfg.Version), runtime.PipelineOptions{
			PerRetry: []policy.Policy{
				make(limitPolicy, cfg.Concurrency),
				bearerPolicy{host: endpoint.Host, token: token}, // inside the limit, so that no request waits with a token that ARM refuses in the meantime
				metricsPolicy{observe: cfg.Observe},
				streamPolicy{},
			},
		}, &options),
		token:            token,
		transport:        transport,
		subscriptionIDs:  subscriptionIDs,
		excluded:         excluded,
		managementGroups: cfg.ManagementGroups,
		concurrency:      cfg.Concurrency,
		logger:           cfg.Logger,
		now:              cfg.now,
		tags:             wantedTags{cfg.SubscriptionTags, cfg.OwnerTag, cfg.TargetTag},
		groupFailures:    make([]failureLog, len(cfg.ManagementGroups)),
	}, nil
}

var semanticVersion = regexp.MustCompile(`^v?\d+\.\d+\.\d+`)

// moduleVersion returns the version in the form that azcore demands.
func moduleVersion(version string) string {
	if v := semanticVersion.FindString(version); v != "" {
		return "v" + strings.TrimPrefix(v, "v")
	}
	return "v0.0.0"
}

// Close cancels the client's background work and waits for it.
func (c *Client) Close() {
	c.token.close()
	c.transport.CloseIdleConnections()
}

// Authenticate gets a token for ARM, from the cache while it is valid. A failure, or no response
// before the deadline of ctx, has [ReasonAuthentication]; if ctx was canceled, [ReasonCanceled].
// Called once before many requests, it prevents an expired secret from being tried by each of them.
func (c *Client) Authenticate(ctx context.Context) error {
	_, err := c.Identify(ctx)
	return err
}

// Identify is like [Client.Authenticate] and returns the identity that the token describes.
func (c *Client) Identify(ctx context.Context) (Identity, error) {
	token, err := c.token.get(ctx)
	if err != nil {
		return Identity{}, fmt.Errorf("get token: %w", err)
	}
	identity := identityOf(token.Token)
	identity.Credential = credentialType()
	return identity, nil
}
