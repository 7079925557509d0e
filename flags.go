package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web"
	"github.com/prometheus/exporter-toolkit/web/kingpinflag"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/exporter"
)

// defaultAddress is where the metrics are served.
const defaultAddress = ":10060"

// The values of --azure.source.
const (
	sourceARM           = "arm"
	sourceResourceGraph = "resourcegraph"
)

// config is the configuration from command line and environment.
type config struct {
	command   string
	output    string // the file of export, the format of check
	azure     azure.Config
	exporter  exporter.Config
	web       *web.FlagConfig
	logLevel  string
	logFormat string
	demo      bool
	source    string
	envars    []string // that the flags read

	cloud, authorityHost, armEndpoint, armAudience string // become azure.Cloud
}

// parseFlags parses and validates the command line and the environment, before anything listens.
func parseFlags(args []string) (*config, error) {
	var c config
	app := newApp(&c)
	// With a default command kingpin forgets a flag whose value is missing and completes no other
	// command. So there is a default only if the command line is well-formed.
	_, err := app.ParseContext(args)
	if err == nil {
		app.GetCommand("serve").Default()
	}
	if c.command, err = app.Parse(args); err != nil {
		return nil, withSuggestion(err, app)
	}
	if c.demo {
		c.setDemoTags()
	}
	c.exporter.SubscriptionTags = c.azure.SubscriptionTags
	for _, f := range app.Model().Flags {
		if !f.Hidden && f.Name != "help" && f.Name != "version" {
			c.exporter.Settings = append(c.exporter.Settings, exporter.Setting{Name: f.Name, Value: f.Value.String()})
			c.envars = append(c.envars, f.Envar)
		}
	}
	for _, step := range []func() error{c.setCloud, c.azure.Validate, c.exporter.Validate, c.validateWeb} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return &c, nil
}

func newApp(c *config) *kingpin.Application {
	c.azure, c.exporter = azure.DefaultConfig(), exporter.DefaultConfig()
	app := kingpin.New(name, "Prometheus exporter for the secure score of Microsoft Defender for Cloud.\n\n"+
		"The credential comes from the environment, a workload identity, a managed identity or az login: see docs/installation.md.")
	app.Version(version.Print(name)).UsageWriter(os.Stdout).DefaultEnvars()
	app.Terminate(func(status int) {
		if status != 0 {
			status = exitUsage // help for an unknown command
		}
		os.Exit(status)
	})
	app.HelpFlag.Short('h').NoEnvar()
	app.VersionFlag.NoEnvar()

	app.Flag("azure.subscription-id", "Subscription to read, a UUID. Repeatable. Default: every subscription that the identity can list.").
		PlaceHolder("UUID").StringsVar(&c.azure.SubscriptionIDs)
	app.Flag("azure.exclude-subscription-id", "Subscription to exclude, a UUID. Repeatable.").
		PlaceHolder("UUID").StringsVar(&c.azure.ExcludeSubscriptionIDs)
	app.Flag("azure.management-group", "Read only the subscriptions below this management group, given by ID. Repeatable. Not with --azure.subscription-id.").
		PlaceHolder("ID").StringsVar(&c.azure.ManagementGroups)
	app.Flag("azure.subscription-tag", "Subscription tag to export as a label of azure_secure_score_subscription_tags. Repeatable.").
		PlaceHolder("NAME").StringsVar(&c.azure.SubscriptionTags)
	app.Flag("azure.owner-tag", "Subscription tag that names the owner.").
		PlaceHolder("NAME").StringVar(&c.azure.OwnerTag)
	app.Flag("azure.target-tag", "Subscription tag that sets the target of the secure score: 80%, 80 or 0.8.").
		PlaceHolder("NAME").StringVar(&c.azure.TargetTag)
	app.Flag("azure.source", "Source of the scores: "+sourceARM+" (two requests per subscription) or "+sourceResourceGraph+" (one query per 1,000 subscriptions; includes connectors to other clouds).").
		Default(sourceARM).EnumVar(&c.source, sourceARM, sourceResourceGraph)
	app.Flag("azure.cloud", "Azure cloud: "+strings.Join(azure.CloudNames, ", ")+".").Default(azure.CloudNames[0]).EnumVar(&c.cloud, azure.CloudNames...)
	app.Flag("azure.authority-host", "Custom cloud: https URL that issues tokens.").PlaceHolder("https://…").StringVar(&c.authorityHost)
	app.Flag("azure.arm-endpoint", "Custom cloud: https URL of Azure Resource Manager.").PlaceHolder("https://…").StringVar(&c.armEndpoint)
	app.Flag("azure.arm-audience", "Custom cloud: token audience. Default: the URL of Azure Resource Manager.").
		PlaceHolder("https://…").StringVar(&c.armAudience)
	app.Flag("azure.client-secret-file", "File with the client secret, instead of AZURE_CLIENT_SECRET. Read again when it is replaced.").
		PlaceHolder("FILE").StringVar(&c.azure.ClientSecretFile)
	app.Flag("azure.concurrency", "Maximum concurrent Azure API requests, 1 to 1000.").
		Default(strconv.Itoa(c.azure.Concurrency)).SetValue((*wholeNumber)(&c.azure.Concurrency))
	duration(app, "azure.discovery-interval", "How long to cache the list of subscriptions, with their tags and management groups.", &c.exporter.DiscoveryInterval)

	duration(app, "scrape.timeout", "Maximum duration of a scrape. A shorter timeout sent by Prometheus takes precedence.", &c.exporter.ScrapeTimeout)
	duration(app, "scrape.timeout-offset", "Time to subtract from the timeout sent by Prometheus, so that the response arrives in time.", &c.exporter.TimeoutOffset)
	duration(app, "cache.ttl", "How long to serve a collection before starting another one. 0 collects on every scrape.", &c.exporter.CacheTTL)
	duration(app, "cache.max-stale", "Maximum age of the last good values served while a subscription is failing.", &c.exporter.MaxStale)

	app.Flag("recommendations", "Recommendations from Resource Graph: full, summary (counts by severity) or off.").
		Default(c.exporter.Recommendations).EnumVar(&c.exporter.Recommendations, exporter.RecommendationsFull, exporter.RecommendationsSummary, exporter.RecommendationsOff)
	duration(app, "recommendations.interval", "Minimum time between two refreshes of recommendations.", &c.exporter.RecommendationsInterval)
	app.Flag("recommendations.max-per-subscription", "Maximum recommendations of a subscription with series of their own. The others are aggregated as other.").
		Default(strconv.Itoa(c.exporter.MaxRecommendations)).SetValue((*wholeNumber)(&c.exporter.MaxRecommendations))

	c.web = kingpinflag.AddFlags(app, defaultAddress)
	app.Flag("web.max-requests", "Maximum number of parallel scrape requests. Further requests get status 503.").
		Default(strconv.Itoa(c.exporter.MaxRequests)).SetValue((*wholeNumber)(&c.exporter.MaxRequests))

	app.Flag("log.level", "Minimum log level: debug, info, warn or error.").Default("info").EnumVar(&c.logLevel, "debug", "info", "warn", "error")
	app.Flag("log.format", "Log format: logfmt or json.").Default("logfmt").EnumVar(&c.logFormat, "logfmt", "json")
	app.Flag("demo", "Read a simulated tenant instead of Azure. Needs no account and no network.").BoolVar(&c.demo)

	app.Command("serve", "Serve metrics (default command).")
	export := app.Command("export", "Write data from Azure to a file.")
	scores := export.Command("scores", "Write the secure scores of all subscriptions, as Azure Resource Manager returns them.")
	scores.Flag("output", "File to write; - is standard output.").Short('o').NoEnvar().Default("AzureSecureScore.json").StringVar(&c.output)
	controls := export.Command("controls", "Write the security controls of all subscriptions, as Azure Resource Manager returns them.")
	controls.Flag("output", "File to write; - is standard output.").Short('o').NoEnvar().Default("AzureSecureScoreControls.json").StringVar(&c.output)
	recommendations := export.Command("recommendations", "Write the recommendations of all subscriptions, from Resource Graph.")
	recommendations.Flag("output", "File to write, CSV if it ends in .csv; - is standard output.").Short('o').NoEnvar().Default("AzureSecureScoreRecommendations.json").StringVar(&c.output)
	check := app.Command("check", "Check the credential and the permissions on each subscription, and print how to fix failures.")
	check.Flag("output", "Format: table, json.").NoEnvar().Default("table").EnumVar(&c.output, "table", "json")

	explainErrors(app.Model().FlagGroupModel, app.GetFlag)
	for _, command := range []*kingpin.CmdClause{scores, controls, recommendations, check} {
		explainErrors(command.Model().FlagGroupModel, command.GetFlag)
	}
	return app
}

// duration adds a flag whose default is the value of d.
func duration(app *kingpin.Application, name, help string, d *time.Duration) {
	text := model.Duration(*d).String()
	if *d <= time.Minute {
		text = strconv.FormatFloat(d.Seconds(), 'g', -1, 64) + "s"
	}
	app.Flag(name, help).Default(text).DurationVar(d)
}

// setDemoTags reads the tags of the simulated tenant, unless the user names others.
func (c *config) setDemoTags() {
	if len(c.azure.SubscriptionTags) == 0 && c.azure.OwnerTag == "" && c.azure.TargetTag == "" {
		c.azure.SubscriptionTags = []string{simulator.DemoEnvironmentTag}
		c.azure.OwnerTag, c.azure.TargetTag = simulator.DemoOwnerTag, simulator.DemoTargetTag
	}
}

// setCloud sets the cloud from the flags that describe it.
func (c *config) setCloud() (err error) {
	switch {
	case c.demo && (c.cloud != azure.CloudNames[0] || c.authorityHost+c.armEndpoint+c.armAudience != "" || len(c.azure.SubscriptionIDs)+len(c.azure.ManagementGroups) > 0 || c.azure.ClientSecretFile != ""):
		return errors.New("--demo reads a simulated tenant: it cannot be combined with --azure.cloud, its URLs, --azure.subscription-id, --azure.management-group or --azure.client-secret-file")
	case c.cloud == azure.CloudCustom && c.authorityHost == "":
		return errors.New("--azure.cloud=custom needs --azure.authority-host")
	case c.cloud == azure.CloudCustom && c.armEndpoint == "":
		return errors.New("--azure.cloud=custom needs --azure.arm-endpoint")
	}
	c.exporter.Demo = c.demo
	c.azure.PrivateCloud = c.cloud == azure.CloudCustom
	if c.azure.Cloud, err = azure.ParseCloud(c.cloud, c.authorityHost, c.armEndpoint, c.armAudience); err != nil {
		return fmt.Errorf("--azure.cloud: %w", err)
	}
	return nil
}

func (c *config) validateWeb() error {
	addresses := *c.web.WebListenAddresses
	if *c.web.WebSystemdSocket && !slices.Equal(addresses, []string{defaultAddress}) {
		return errors.New("--web.systemd-socket and --web.listen-address are mutually exclusive")
	}
	for i, address := range addresses {
		if slices.Contains(addresses[:i], address) {
			return fmt.Errorf("--web.listen-address: %s is given twice", address)
		}
		if err := validateListenAddress(address); err != nil {
			return fmt.Errorf("--web.listen-address: %w", err)
		}
	}
	if err := web.Validate(*c.web.WebConfigFile); err != nil {
		return fmt.Errorf("--web.config.file: %w", err)
	}
	return nil
}

// validateListenAddress rejects addresses that would fail later or listen on a random port.
func validateListenAddress(address string) error {
	if address == "" {
		return errors.New("must not be empty")
	}
	if vsock, ok := strings.CutPrefix(address, "vsock://"); ok {
		_, port, err := net.SplitHostPort(vsock)
		if err == nil {
			_, err = strconv.ParseUint(port, 10, 32)
		}
		return err
	}
	_, err := net.ResolveTCPAddr("tcp", address)
	return err
}

// wholeNumber is the value of a flag. kingpin's own parses 1.9 as 1.
type wholeNumber int

// Set implements [kingpin.Value].
func (n *wholeNumber) Set(text string) error {
	i, err := strconv.Atoi(text)
	if err != nil {
		return fmt.Errorf("expected a whole number, got %q", text)
	}
	*n = wholeNumber(i)
	return nil
}

// String implements [kingpin.Value].
func (n *wholeNumber) String() string { return strconv.Itoa(int(*n)) }

// explainErrors wraps the values of all flags of a group in an explainedValue.
func explainErrors(group *kingpin.FlagGroupModel, flag func(name string) *kingpin.FlagClause) {
	for _, f := range group.Flags {
		flag(f.Name).SetValue(explainedValue{f.Value, f.Name})
	}
}

// explainedValue names its flag if the value is malformed, which kingpin does not.
type explainedValue struct {
	kingpin.Value
	flag string
}

// Set implements [kingpin.Value].
func (v explainedValue) Set(text string) error {
	err := v.Value.Set(text)
	switch {
	case err != nil && v.IsBoolFlag():
		return fmt.Errorf("--%s: expected true or false, got %q", v.flag, text)
	case err != nil:
		return fmt.Errorf("--%s: %w", v.flag, err)
	case v.IsCumulative() && strings.Contains(text, ","):
		return fmt.Errorf("--%s: repeat the flag instead of separating values by commas, got %q", v.flag, text)
	}
	return nil
}

// IsBoolFlag reports to kingpin whether the flag needs no value.
func (v explainedValue) IsBoolFlag() bool {
	b, ok := v.Value.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}

// IsCumulative reports to kingpin whether the flag can be repeated.
func (v explainedValue) IsCumulative() bool {
	c, ok := v.Value.(interface{ IsCumulative() bool })
	return ok && c.IsCumulative()
}
