package azure

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"go.uber.org/goleak"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs a simulated Azure and a client of it.
func start(t testing.TB, tenant simulator.Tenant, cfg Config) (*simulator.Server, *Client) {
	t.Helper()
	sim, err := simulator.Start(tenant)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	cfg.Cloud, cfg.PrivateCloud = sim.Cloud(), true
	if cfg.RootCAs == nil {
		cfg.RootCAs = sim.RootCAs()
	} else {
		cfg.RootCAs.AppendCertsFromPEM(sim.CertificatePEM())
	}
	if cfg.Credential == nil {
		cfg.Credential = sim.Credential
	}
	client, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return sim, client
}

// clock is the real time plus what a test adds to it.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func ids(tenant simulator.Tenant) []string {
	var ids []string
	for _, s := range tenant.Subscriptions {
		ids = append(ids, s.ID)
	}
	return ids
}

func TestConfig_Validate(t *testing.T) {
	t.Parallel()
	const id, other = "aaaaaaaa-0000-4000-8000-000000000001", "aaaaaaaa-0000-4000-8000-000000000002"
	for name, test := range map[string]struct {
		change func(*Config)
		want   string // in the error; empty means valid
	}{
		"default":                  {func(*Config) {}, ""},
		"two subscriptions":        {func(c *Config) { c.SubscriptionIDs = []string{id, other} }, ""},
		"management groups":        {func(c *Config) { c.ManagementGroups = []string{"a", "b"} }, ""},
		"no concurrency":           {func(c *Config) { c.Concurrency = 0 }, "--azure.concurrency must be from 1 to 1000"},
		"too much concurrency":     {func(c *Config) { c.Concurrency = 1001 }, "--azure.concurrency must be from 1 to 1000"},
		"subscription by name":     {func(c *Config) { c.SubscriptionIDs = []string{"production"} }, `--azure.subscription-id: "production" is not a subscription ID`},
		"subscription twice":       {func(c *Config) { c.SubscriptionIDs = []string{id, strings.ToUpper(id)} }, "is given twice"},
		"management group by name": {func(c *Config) { c.ManagementGroups = []string{"My group"} }, `--azure.management-group: "My group" is not a management group ID`},
		"subscription and group":   {func(c *Config) { c.SubscriptionIDs, c.ManagementGroups = []string{id}, []string{"a"} }, "are mutually exclusive"},
		"tags": {func(c *Config) {
			c.SubscriptionTags, c.OwnerTag, c.TargetTag = []string{"Cost Centre", "env"}, "env", "Ziel"
		}, ""},
		"tag twice":              {func(c *Config) { c.SubscriptionTags = []string{"env", "Env"} }, "--azure.subscription-tag: Env is given twice"},
		"empty tag":              {func(c *Config) { c.SubscriptionTags = []string{""} }, `--azure.subscription-tag: "" is not a tag name`},
		"tag that Azure refuses": {func(c *Config) { c.OwnerTag = "a/b" }, `--azure.owner-tag: "a/b" is not a tag name`},
		"target of a long name":  {func(c *Config) { c.TargetTag = strings.Repeat("x", 513) }, "--azure.target-tag: "},
		"excluded":               {func(c *Config) { c.ExcludeSubscriptionIDs = []string{id, other} }, ""},
		"excluded from a group":  {func(c *Config) { c.ExcludeSubscriptionIDs, c.ManagementGroups = []string{id}, []string{"a"} }, ""},
		"excluded by name":       {func(c *Config) { c.ExcludeSubscriptionIDs = []string{"production"} }, `--azure.exclude-subscription-id: "production" is not a subscription ID`},
		"excluded twice":         {func(c *Config) { c.ExcludeSubscriptionIDs = []string{id, strings.ToUpper(id)} }, "--azure.exclude-subscription-id: " + strings.ToUpper(id) + " is given twice"},
		"excluded and included": {func(c *Config) {
			c.SubscriptionIDs, c.ExcludeSubscriptionIDs = []string{strings.ToUpper(id)}, []string{id}
		}, "--azure.exclude-subscription-id: " + id + " contradicts --azure.subscription-id"},
		"one subscription, no group": {func(c *Config) { c.SubscriptionIDs, c.ManagementGroups = []string{id}, []string{} }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := DefaultConfig()
			test.change(&cfg)
			err := cfg.Validate()
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// The credentials that operators use come from the environment, as azidentity reads it.
func TestNew_DefaultCredential(t *testing.T) {
	for _, name := range []string{"AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_USERNAME", "AZURE_AUTHORITY_HOST"} {
		t.Setenv(name, "")
	}
	tokenFile := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(tokenFile, []byte(simulator.FederatedToken), 0o600); err != nil {
		t.Fatal(err)
	}
	for kind, environment := range map[string]map[string]string{
		"EnvironmentCredential":      {"AZURE_CLIENT_SECRET": simulator.ClientSecret},
		"WorkloadIdentityCredential": {"AZURE_FEDERATED_TOKEN_FILE": tokenFile},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Setenv("AZURE_TOKEN_CREDENTIALS", kind)
			t.Setenv("AZURE_TENANT_ID", simulator.TenantID)
			t.Setenv("AZURE_CLIENT_ID", simulator.ClientID)
			for key, value := range environment {
				t.Setenv(key, value)
			}
			credential := func(o azcore.ClientOptions) (azcore.TokenCredential, error) {
				return azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{ClientOptions: o, DisableInstanceDiscovery: true})
			}
			_, client := start(t, simulator.Generate(3, 1), Config{Credential: credential})
			ctx := within(t, 20*time.Second)
			if err := client.Authenticate(ctx); err != nil {
				t.Fatal(err)
			}
			if got, err := client.Subscriptions(ctx); err != nil || len(got) != 3 {
				t.Errorf("%d subscriptions, %v", len(got), err)
			}
		})
	}
	t.Run("unreachable", func(t *testing.T) {
		t.Setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
		t.Setenv("AZURE_TENANT_ID", simulator.TenantID)
		t.Setenv("AZURE_CLIENT_ID", simulator.ClientID)
		t.Setenv("AZURE_CLIENT_SECRET", simulator.ClientSecret)
		cloud, err := ParseCloud(CloudCustom, "https://127.0.0.1:1", "https://127.0.0.1:1", "")
		if err != nil {
			t.Fatal(err)
		}
		client, err := New(Config{Cloud: cloud, PrivateCloud: true})
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		err = client.Authenticate(within(t, 10*time.Second))
		if ReasonOf(err) != ReasonAuthentication || !strings.Contains(err.Error(), "127.0.0.1:1: connect") {
			t.Errorf("got %v, want the cause named", err)
		}
	})
	t.Run("none", func(t *testing.T) {
		t.Setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
		t.Setenv("AZURE_TENANT_ID", "")
		client, err := New(Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		err = client.Authenticate(within(t, 5*time.Second))
		if ReasonOf(err) != ReasonAuthentication || !strings.Contains(err.Error(), "AZURE_TENANT_ID") {
			t.Errorf("got %v, want the missing variable named", err)
		}
	})
}

func TestClose_EndsTokenRequest(t *testing.T) {
	t.Parallel()
	sim, client := start(t, simulator.Tenant{}, Config{})
	sim.SetTokenFault(simulator.Hang())
	_ = client.Authenticate(within(t, 50*time.Millisecond))
	start := time.Now()
	client.Close()
	if time.Since(start) > 5*time.Second {
		t.Errorf("Close took %s", time.Since(start))
	}
	if err := client.Authenticate(within(t, time.Second)); ReasonOf(err) != ReasonCanceled {
		t.Errorf("after Close: %v", err)
	}
}

func TestAuthenticate_ExpiredSecret(t *testing.T) {
	t.Parallel()
	sim, client := start(t, simulator.Generate(1, 1), Config{})
	sim.SetTokenFault(simulator.ExpiredSecret())
	err := client.Authenticate(within(t, 10*time.Second))
	if ReasonOf(err) != ReasonAuthentication || err.Error() != "get token: the token endpoint answered HTTP 401 AADSTS7000222" {
		t.Errorf("got %v", err)
	}
	if n := sim.Requests()[simulator.RouteToken]; n != 1 {
		t.Errorf("%d token requests, want 1", n)
	}
	sim.SetTokenFault(nil)
	if err := client.Authenticate(within(t, 10*time.Second)); err != nil {
		t.Errorf("after the secret was renewed: %v", err)
	}
}

func TestAuthenticate_Reasons(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault simulator.Fault
		text  string
	}{
		"wrong secret": {simulator.LoginError(401, "invalid_client", 7000215, "Invalid client secret provided."), "HTTP 401 AADSTS7000215"},
		"server error": {simulator.ServerError(500), "HTTP 500"},
		"garbage":      {simulator.Garbage(), ""},
		"huge":         {simulator.Huge(1<<30, false), ""},
		"hang":         {simulator.Hang(), "deadline exceeded"},
		"redirect":     {simulator.Redirect("https://127.0.0.1:1/"), "HTTP 307"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim, client := start(t, simulator.Tenant{}, Config{})
			sim.SetTokenFault(test.fault)
			err := client.Authenticate(within(t, 3*time.Second))
			if ReasonOf(err) != ReasonAuthentication || !strings.Contains(err.Error(), test.text) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %q (%s), want %q", err, ReasonOf(err), test.text)
			}
			if strings.Contains(err.Error(), "<html") || strings.Contains(err.Error(), simulator.ClientSecret) {
				t.Errorf("the error quotes the response: %v", err)
			}
		})
	}
}
