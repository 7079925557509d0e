package main

import (
	"encoding/json"
	"net"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/alecthomas/kingpin/v2"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/exporter"
)

func TestFlags_HelpAndVersion(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{"--help", "-h"} {
		code, stdout, stderr := runToEnd(t, nil, flag)
		if code != 0 || stderr != "" {
			t.Errorf("%s: exit code %d, standard error %q", flag, code, stderr)
		}
		for _, f := range flags(t) {
			if !strings.Contains(stdout, f.Name) || !strings.Contains(stdout, "$"+f.Envar) {
				t.Errorf("%s lacks --%s or $%s", flag, f.Name, f.Envar)
			}
		}
	}
	code, stdout, stderr := runToEnd(t, nil, "--version")
	if code != 0 || stderr != "" || !strings.HasPrefix(stdout, name+", version ") || !strings.Contains(stdout, runtime.Version()) {
		t.Errorf("--version: exit code %d, standard output %q, standard error %q", code, stdout, stderr)
	}
}

// Invalid flags print one line and exit with status 2. The listen address is in use: a program
// that listens before it has validated everything exits with 1.
func TestFlags_Invalid(t *testing.T) {
	t.Parallel()
	used, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer used.Close()
	unknownKey := write(t, "web.yml", []byte("tls_server: {}\n"))
	badConfig := write(t, "web.yml", []byte("tls_server_config: {cert_file: missing.pem}\n"))
	const id, other = "20ff7fc3-e762-44dd-bd96-b71116dcdc23", "4f9b2c7d-81e3-4a56-b0d8-6c25e7f1a930"
	const prefix = "AZURE_SECURE_SCORE_EXPORTER_"

	for _, test := range []struct {
		name string
		args []string
		env  []string
		want string // in the line
	}{
		{"unknown flag", []string{"--no-such-flag"}, nil, "unknown long flag '--no-such-flag'\n"},
		{"unknown short flag", []string{"-x"}, nil, "unknown short flag '-x'"},
		{"misspelt flag", []string{"--cache.tl=5s"}, nil, "unknown long flag '--cache.tl', did you mean --cache.ttl?"},
		{"misspelt flag of a command", []string{"check", "--outptu=json"}, nil, "unknown long flag '--outptu', did you mean --output?"},
		{"unknown command", []string{"list"}, nil, "expected command but got \"list\"\n"},
		{"misspelt command", []string{"chekc"}, nil, `expected command but got "chekc", did you mean check?`},
		{"misspelt thing to export", []string{"export", "score"}, nil, `expected command but got "score", did you mean scores?`},
		{"argument", []string{"serve", "scores"}, nil, "unexpected scores"},
		{"nothing to export", []string{"export"}, nil, "must select a subcommand of 'export'"},
		{"unknown thing to export", []string{"export", "everything"}, nil, `expected command but got "everything"`},
		{"flag of another command", []string{"serve", "--output=-"}, nil, "unknown long flag '--output'\n"},
		{"value missing", []string{"--log.level"}, nil, "expected argument for flag '--log.level'"},
		{"value missing before another flag", []string{"--log.level", "--demo"}, nil, "expected argument for flag '--log.level'"},
		{"secret as a flag", []string{"--azure.client-secret=x"}, nil, "unknown long flag '--azure.client-secret'"},

		{"subscription is not a UUID", []string{"--azure.subscription-id=production"}, nil, `--azure.subscription-id: "production" is not a subscription ID`},
		{"subscriptions with commas", []string{"--azure.subscription-id=" + id + "," + other}, nil, "--azure.subscription-id: repeat the flag"},
		{"management groups with commas", nil, []string{prefix + "AZURE_MANAGEMENT_GROUP=a,b"}, "--azure.management-group: repeat the flag"},
		{"second subscription no UUID", []string{"--azure.subscription-id=" + id, "--azure.subscription-id=" + id[1:]}, nil, "--azure.subscription-id: "},
		{"subscription empty", []string{"--azure.subscription-id="}, nil, "--azure.subscription-id: "},
		{"subscription twice", []string{"--azure.subscription-id=" + id, "--azure.subscription-id=" + other, "--azure.subscription-id=" + strings.ToUpper(id)}, nil, "is given twice"},
		{"management group malformed", []string{"--azure.management-group=a/b"}, nil, "--azure.management-group: "},
		{"management group with dots only", []string{"--azure.management-group=.."}, nil, "--azure.management-group: "},
		{"management group empty", []string{"--azure.management-group="}, nil, "--azure.management-group: "},
		{"management group beside a subscription", []string{"--azure.management-group=contoso", "--azure.subscription-id=" + id}, nil, "--azure.subscription-id and --azure.management-group are mutually exclusive"},
		{"unknown source", []string{"--azure.source=graph"}, nil, "--azure.source: "},
		{"unknown cloud", []string{"--azure.cloud=germany"}, nil, "--azure.cloud: "},
		{"custom cloud without addresses", []string{"--azure.cloud=custom"}, nil, "--azure.cloud=custom needs --azure.authority-host"},
		{"custom cloud without ARM endpoint", []string{"--azure.cloud=custom", "--azure.authority-host=https://login.example.org"}, nil, "--azure.cloud=custom needs --azure.arm-endpoint"},
		{"custom cloud without TLS", []string{"--azure.cloud=custom", "--azure.authority-host=https://login.example.org", "--azure.arm-endpoint=http://arm.example.org"}, nil, "http://arm.example.org"},
		{"addresses of a known cloud", []string{"--azure.arm-endpoint=https://arm.example.org"}, nil, "are for the custom cloud"},
		{"concurrency 0", []string{"--azure.concurrency=0"}, nil, "--azure.concurrency must be from 1 to 1000"},
		{"concurrency too high", []string{"--azure.concurrency=1001"}, nil, "--azure.concurrency must be from 1 to 1000"},
		{"concurrency is not a whole number", []string{"--azure.concurrency=1.9"}, nil, `--azure.concurrency: expected a whole number, got "1.9"`},
		{"concurrency no number", []string{"--azure.concurrency=many"}, nil, "--azure.concurrency: "},
		{"discovery interval negative", []string{"--azure.discovery-interval=-1s"}, nil, "--azure.discovery-interval must not be negative"},

		{"timeout no duration", []string{"--scrape.timeout=10"}, nil, "--scrape.timeout: "},
		{"timeout 0", []string{"--scrape.timeout=0s"}, nil, "--scrape.timeout must be positive"},
		{"offset negative", []string{"--scrape.timeout-offset=-1s"}, nil, "--scrape.timeout-offset must be"},
		{"offset above timeout", []string{"--scrape.timeout=1s", "--scrape.timeout-offset=1s"}, nil, "--scrape.timeout-offset must be"},
		{"ttl negative", []string{"--cache.ttl=-1s"}, nil, "--cache.ttl must not be negative"},
		{"max-stale below ttl", []string{"--cache.ttl=2h"}, nil, "--cache.max-stale must be at least --cache.ttl"},

		{"listen address without port", []string{"--web.listen-address=localhost"}, nil, "--web.listen-address: "},
		{"listen address with a bad port", []string{"--web.listen-address=:99999"}, nil, "--web.listen-address: "},
		{"listen address empty", []string{"--web.listen-address="}, nil, "--web.listen-address: must not be empty"},
		{"vsock address without port", []string{"--web.listen-address=vsock://x"}, nil, "--web.listen-address: "},
		{"vsock address with a bad port", []string{"--web.listen-address=vsock://:http"}, nil, "--web.listen-address: "},
		{"listen address twice", []string{"--web.listen-address=127.0.0.1:0", "--web.listen-address=127.0.0.1:0"}, nil, "--web.listen-address: 127.0.0.1:0 is given twice"},
		{"listen address beside systemd's", []string{"--web.systemd-socket", "--web.listen-address=:1"}, nil, "--web.systemd-socket and --web.listen-address are mutually exclusive"},
		{"web config missing", []string{"--web.config.file=missing.yml"}, nil, "--web.config.file: "},
		{"web config unusable", []string{"--web.config.file=" + badConfig}, nil, "--web.config.file: "},
		{"web config with an unknown key", []string{"--web.config.file=" + unknownKey}, nil, "--web.config.file: "},
		{"no request allowed", []string{"--web.max-requests=0"}, nil, "--web.max-requests must be at least 1"},
		{"unknown log level", []string{"--log.level=trace"}, nil, "--log.level: "},
		{"unknown log format", []string{"--log.format=xml"}, nil, "--log.format: "},
		{"demo of a cloud", []string{"--demo", "--azure.cloud=china"}, nil, "--demo reads a simulated tenant"},
		{"demo of a subscription", []string{"--demo", "--azure.subscription-id=" + id}, nil, "--demo reads a simulated tenant"},

		{"subscription by environment", nil, []string{prefix + "AZURE_SUBSCRIPTION_ID=" + id + "\nproduction"}, `--azure.subscription-id: "production" is not a subscription ID`},
		{"cloud by environment", nil, []string{prefix + "AZURE_CLOUD=germany"}, "--azure.cloud: "},
		{"concurrency by environment", nil, []string{prefix + "AZURE_CONCURRENCY=0"}, "--azure.concurrency must be"},
		{"timeout by environment", nil, []string{prefix + "SCRAPE_TIMEOUT=soon"}, "--scrape.timeout: "},
		{"web config by environment", nil, []string{prefix + "WEB_CONFIG_FILE=missing.yml"}, "--web.config.file: "},
		{"log level by environment", nil, []string{prefix + "LOG_LEVEL=trace"}, "--log.level: "},
		{"demo by environment", nil, []string{prefix + "DEMO=yes"}, `--demo: expected true or false, got "yes"`},

		{"help for no command", []string{"help", "NOPE"}, nil, `expected command but got "NOPE"`},
		{"unknown kind of credential", nil, []string{"AZURE_TOKEN_CREDENTIALS=password"}, "AZURE_TOKEN_CREDENTIALS"},
	} {
		t.Run(test.name, func(t *testing.T) {
			args := test.args
			if !slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "--web.listen-address") }) {
				args = append([]string{"--web.listen-address=" + used.Addr().String()}, args...)
			}
			code, stdout, stderr := runToEnd(t, test.env, args...)
			if code != 2 {
				t.Errorf("exit code %d, want 2", code)
			}
			if stdout != "" {
				t.Errorf("standard output: %q", stdout)
			}
			if strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, name+": error: ") || !strings.Contains(stderr, test.want) {
				t.Errorf("want one line about %q on standard error, got\n%s", test.want, stderr)
			}
		})
	}
}

// The environment sets flags, and the command line wins.
func TestFlags_Environment(t *testing.T) {
	t.Parallel()
	p := start(t, []string{
		"AZURE_SECURE_SCORE_EXPORTER_DEMO=true",
		"AZURE_SECURE_SCORE_EXPORTER_LOG_FORMAT=json",
		"AZURE_SECURE_SCORE_EXPORTER_LOG_LEVEL=error",
	}, "--log.level=info")
	if value := p.scrape(t).value("azure_secure_score_up"); value != 1 {
		t.Errorf("up is %g", value)
	}
	p.stop(t, syscall.SIGTERM)
	for line := range strings.Lines(p.log.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("no JSON: %s", line)
		}
	}
}

// Without flags the configuration is the packages' own default.
func TestFlags_Defaults(t *testing.T) {
	t.Parallel()
	c, err := parseFlags(nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := azure.DefaultConfig(); c.command != "serve" || c.azure.Concurrency != want.Concurrency || !reflect.DeepEqual(c.azure.Cloud, want.Cloud) {
		t.Errorf("got %s %+v, want %+v", c.command, c.azure, want)
	}
	want := exporter.DefaultConfig()
	for _, pair := range [][2]any{
		{c.exporter.ScrapeTimeout, want.ScrapeTimeout},
		{c.exporter.TimeoutOffset, want.TimeoutOffset},
		{c.exporter.CacheTTL, want.CacheTTL},
		{c.exporter.MaxStale, want.MaxStale},
		{c.exporter.DiscoveryInterval, want.DiscoveryInterval},
		{c.exporter.MaxRequests, want.MaxRequests},
	} {
		if pair[0] != pair[1] {
			t.Errorf("got %v, want %v of\n%+v", pair[0], pair[1], want)
		}
	}
}

// flags returns the flags that configure the program.
func flags(t *testing.T) []*kingpin.FlagModel {
	t.Helper()
	app := newApp(&config{})
	if _, err := app.ParseContext(nil); err != nil { // fills in the names of the environment
		t.Fatal(err)
	}
	return slices.DeleteFunc(app.Model().Flags, func(f *kingpin.FlagModel) bool {
		return f.Hidden || f.Name == "help" || f.Name == "version"
	})
}

// The demo reads the tags of its own tenant, unless the user names one.
func TestFlags_Tags(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args          []string
		tags          []string
		owner, target string
	}{
		{nil, nil, "", ""},
		{[]string{"--azure.subscription-tag=env", "--azure.subscription-tag=Cost Centre", "--azure.owner-tag=team", "--azure.target-tag=goal"}, []string{"env", "Cost Centre"}, "team", "goal"},
		{[]string{"--demo"}, []string{"environment"}, "owner", "secure-score-target"},
		{[]string{"--demo", "--azure.owner-tag=environment"}, nil, "environment", ""},
	} {
		cfg, err := parseFlags(test.args)
		if err != nil {
			t.Fatal(err)
		}
		if a := cfg.azure; !slices.Equal(a.SubscriptionTags, test.tags) || a.OwnerTag != test.owner || a.TargetTag != test.target || !slices.Equal(cfg.exporter.SubscriptionTags, test.tags) {
			t.Errorf("%v: %+v", test.args, a)
		}
	}
}
