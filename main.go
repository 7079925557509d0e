// Command azure-secure-score-exporter serves the secure scores of Azure
// subscriptions as Prometheus metrics. Its subcommands are for people at a
// keyboard: export writes the scores into a file, check says what is missing.
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web"
	"github.com/prometheus/exporter-toolkit/web/kingpinflag"
	sloggokit "github.com/tjhop/slog-gokit"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/exporter"
)

const name = "azure-secure-score-exporter"

const (
	// drainTimeout is how long scrapes may go on after the signal to stop, and
	// stopTimeout how long it may take until the process has ended: Kubernetes
	// kills after 30 s, systemd after 90 s, a person after about ten.
	stopTimeout  = 10 * time.Second
)

// defaultAddress is where the metrics are served.
const defaultAddress = ":10060"

// The values of --azure.source.
const (
	sourceARM           = "arm"
	sourceResourceGraph = "resourcegraph"
)

func main() {
	if info, ok := debug.ReadBuildInfo(); ok && version.Version == "" {
		version.Version = info.Main.Version // of go install; releases set it when they are linked
	}
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run returns the exit code: 2 for what the user can mend on the command line, 1
// for what failed later.
func run(args []string, stdout, stderr *os.File) int {
	mistake := func(err error) int {
		line := strings.Join(strings.Fields(err.Error()), " ") // YAML's errors have several
		fmt.Fprintf(stderr, "%s: error: %s\n", name, line)
		return 2
	}
	cfg, err := parseFlags(args)
	if err != nil {
		return mistake(err)
	}
	logger := newLogger(stderr, cfg.logLevel, cfg.logFormat)
	if cfg.logLevel == "debug" || cfg.command == "check" {
		azure.LogSDKEvents(logger)
	}

	if cfg.demo {
		tenant, err := simulator.Start(simulator.Demo())
		if err != nil {
			level.Error(logger).Log("msg", "cannot start the simulator", "err", err)
			return 1
		}
		defer tenant.Close()
		cfg.azure.Cloud, cfg.azure.RootCAs, cfg.azure.Credential = tenant.Cloud(), tenant.RootCAs(), tenant.Credential
		level.Info(logger).Log("msg", "demo: all figures come from a simulated tenant, no call leaves this process")
	}

	api := exporter.NewAPIMetrics()
	cfg.azure.Observe, cfg.azure.Version, cfg.azure.Logger = api.Observe, version.Version, logger
	client, err := azure.New(cfg.azure)
	if err != nil {
		return mistake(err)
	}
	defer client.Close()

	switch cfg.command {
	case "export scores":
		return export(client, azure.SecureScores, cfg.output, stdout, stderr)
	case "export controls":
		return export(client, azure.SecureScoreControls, cfg.output, stdout, stderr)
	case "check":
		return check(client, cfg.output, stdout, stderr)
	}
	return serve(cfg, client, api, logger)
}

// serve serves the metrics until a signal to stop.
func serve(cfg *config, client *azure.Client, api *exporter.APIMetrics, logger log.Logger) int {
	slogger := slog.New(withoutTime{sloggokit.NewGoKitHandler(logger, slog.LevelInfo)})
	cfg.exporter.Logger = logger
	var source exporter.Source = client
	if cfg.source == sourceResourceGraph {
		source = azure.NewResourceGraph(client)
	}
	exp, err := exporter.New(source, api, cfg.exporter)
	if err != nil {
		level.Error(logger).Log("msg", "cannot start", "err", err)
		return 1
	}

	if cfg.demo && *cfg.web.WebConfigFile == "" && !*cfg.web.WebSystemdSocket { // which have an address of their own
		level.Info(logger).Log("msg", "demo", "metrics", "http://localhost"+port(*cfg.web.WebListenAddresses)+"/metrics")
	}
	level.Info(logger).Log("msg", "starting", "version", version.Info(), "build_context", version.BuildContext())
	server := &http.Server{
		Handler:           exp.Handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      cfg.exporter.ScrapeTimeout + 30*time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          stdlog.New(serverLog{logger}, "", 0),
	}
	signals, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	served := make(chan error, 1)
	go func() { served <- web.ListenAndServe(server, cfg.web, slogger) }()

	select {
	case err := <-served:
		level.Error(logger).Log("msg", "cannot serve", "err", err)
		return 1
	case <-signals.Done():
	}
	stop() // a second signal ends the process at once
	level.Info(logger).Log("msg", "stopping")
	shutdown(exp, server, logger)
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		level.Error(logger).Log("msg", "server ended", "err", err)
	}
	return 0
}

// withoutTime leaves the time out of what libraries log: our logger adds it.
type withoutTime struct{ slog.Handler }

// Handle implements [slog.Handler].
func (h withoutTime) Handle(ctx context.Context, record slog.Record) error {
	record.Time = time.Time{}
	return h.Handler.Handle(ctx, record)
}

// serverLog lets the HTTP server log in the format of everything else.
type serverLog struct{ logger log.Logger }

// Write implements [io.Writer]. A probe of Kubernetes that only looks whether the port
// is open ends in the midst of a TLS handshake, every few seconds.
func (l serverLog) Write(text []byte) (int, error) {
	line := strings.TrimSpace(string(text))
	logger := level.Warn(l.logger)
	if strings.HasPrefix(line, "http: TLS handshake error") && strings.HasSuffix(line, ": EOF") {
		logger = level.Debug(l.logger)
	}
	_ = logger.Log("msg", "web server", "err", line)
	return len(text), nil
}

// shutdown lets the scrapes in flight finish. Those that take too long are
// answered with what is known: better than a broken connection.
func shutdown(exp *exporter.Exporter, server *http.Server, logger log.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	_ = exp.Shutdown(ctx)
	if err := server.Shutdown(ctx); err != nil {
		level.Warn(logger).Log("msg", "connections were still open", "err", err)
		_ = server.Close()
	}
}

// export writes what a list says of all subscriptions into a file, in the shape
// of the API's own answer. A subscription that cannot be read is told of and left
// out; nothing is written when none can be read.
func export(client *azure.Client, list azure.List, path string, stdout, stderr *os.File) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	fail := func(err error) int {
		fmt.Fprintf(stderr, "%s: error: %s\n", name, err)
		return 1
	}

	subscriptions, err := listSubscriptions(ctx, client)
	if err != nil {
		return fail(err)
	}
	var ids []string
	for _, s := range subscriptions {
		if s.Active() {
			ids = append(ids, s.ID)
		}
	}
	if len(ids) == 0 {
		return fail(errors.New("the identity sees no subscription that Azure scores; see check"))
	}
	step, end := progress(stderr, len(ids))
	lists := client.Export(ctx, list, ids, step)
	end()
	if ctx.Err() != nil {
		return fail(errors.New("interrupted, nothing was written"))
	}

	var items [][]byte
	failed := 0
	for _, l := range lists {
		if l.Err != nil {
			fail(l.Err)
			failed++
		}
		for _, item := range l.Items {
			items = append(items, item)
		}
	}
	if failed == len(ids) {
		return fail(errors.New("no subscription could be read, nothing was written; see check"))
	}
	// Not by json.Marshal, which would write < and > in another way than Azure.
	var text bytes.Buffer
	if err := json.Indent(&text, slices.Concat([]byte(`{"value":[`), bytes.Join(items, []byte(",")), []byte("]}")), "", "  "); err != nil {
		return fail(err)
	}
	text.WriteByte('\n')
	if path == "-" || path == "" { // kingpin makes "" of a - that stands alone
		_, err = stdout.Write(text.Bytes())
	} else if err = replaceFile(path, text.Bytes()); err == nil {
		fmt.Fprintf(stderr, "%s: %d items of %d subscriptions\n", path, len(items), len(ids)-failed)
	}
	if err != nil {
		return fail(err)
	}
	if failed > 0 {
		return 1
	}
	return 0
}

// listSubscriptions gets the token and the list, which a minute is enough for.
func listSubscriptions(ctx context.Context, client *azure.Client) ([]azure.Subscription, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := client.Authenticate(ctx); err != nil {
		return nil, err
	}
	return client.Subscriptions(ctx)
}

// check tells what the identity may read, and what helps where it may not.
func check(client *azure.Client, format string, stdout, stderr *os.File) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	step, end := func() {}, func() {}
	report := client.Check(ctx, func(n int) { step, end = progress(stderr, n) }, func() { step() })
	end()
	var err error
	if format == "json" {
		encoder := json.NewEncoder(stdout)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(report)
	} else {
		text := reportTable(report)
		if isTerminal(stdout) && os.Getenv("NO_COLOR") == "" {
			text = strings.NewReplacer("✓", "\x1b[32m✓\x1b[0m", "✗", "\x1b[31m✗\x1b[0m").Replace(text)
		}
		_, err = io.WriteString(stdout, text)
	}
	if err != nil {
		fmt.Fprintf(stderr, "%s: error: %s\n", name, err)
		return 1
	}
	if !report.OK {
		return 1
	}
	return 0
}

// reportTable shows a report to a person: what was asked for in the order in which it is
// needed, then the subscriptions, then what helps.
func reportTable(r *azure.Report) string {
	var text strings.Builder
	var cures []string
	mark := func(f azure.CheckResult) string {
		switch {
		case f.OK:
			return "✓"
		case f.Reason != "":
			return "✗ " + string(f.Reason)
		}
		return "✗"
	}
	rows := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, row := range []struct {
		name    string
		finding azure.CheckResult
	}{{"configuration", r.Configuration}, {"credential", r.Credential}, {"subscription list", r.SubscriptionList}} {
		fmt.Fprintf(rows, "%s\t%s\t%s\n", row.name, mark(row.finding), row.finding.Detail)
		if row.finding.Fix != "" {
			cures = append(cures, fmt.Sprintf("%s: %s\n  %s", row.name, cmp.Or(string(row.finding.Reason), row.finding.Detail), row.finding.Fix))
		}
	}
	rows.Flush()

	if len(r.Subscriptions) > 0 {
		fmt.Fprintf(rows, "\nsubscription\tscores\tcontrols\tname\n")
	}
	readable := 0
	for _, s := range r.Subscriptions {
		if s.OK() {
			readable++
		}
		if s.Scores == nil {
			fmt.Fprintf(rows, "%s\t–\t–\t%s (%s)\n", s.ID, s.Name, s.State)
			continue
		}
		scores := mark(*s.Scores)
		if s.Scores.OK && !s.Scored {
			scores += " none"
		}
		fmt.Fprintf(rows, "%s\t%s\t%s\t%s\n", s.ID, scores, mark(*s.Controls), s.Name)
		// One cure is enough when both lists have the same trouble.
		for i, f := range []azure.CheckResult{*s.Scores, *s.Controls} {
			if f.Fix != "" && (i == 0 || f.Fix != s.Scores.Fix) {
				cures = append(cures, fmt.Sprintf("%s %s: %s\n  %s", s.ID, s.Name, f.Detail, f.Fix))
			}
		}
	}
	rows.Flush()
	for _, cure := range cures {
		text.WriteString("\n" + cure + "\n")
	}
	if len(r.Subscriptions) > 0 {
		fmt.Fprintf(&text, "\n%d of %d subscriptions are in order.\n", readable, len(r.Subscriptions))
	}
	return text.String()
}

// replaceFile writes a file whole or not at all: whoever reads it sees the old
// one or the new one. A new file is for its owner alone, since scores tell where
// a tenant is weak; one that is there keeps its permissions.
func replaceFile(path string, content []byte) error {
	mode := os.FileMode(0o600)
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // a link stays one
	} else if target, err := os.Readlink(path); err == nil { // also where its target is still to be made
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		path = target
	}
	if info, err := os.Stat(path); err == nil {
		if mode = info.Mode().Perm(); !info.Mode().IsRegular() && !info.IsDir() {
			return os.WriteFile(path, content, mode) // a device or a pipe must not be replaced
		}
	}
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	err = errors.Join(err, file.Chmod(mode), file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}

// progress counts subscriptions on a terminal, when there are many.
func progress(w *os.File, all int) (step, end func()) {
	if all < 20 || !isTerminal(w) {
		return func() {}, func() {}
	}
	var mu sync.Mutex
	done := 0
	step = func() {
		mu.Lock()
		defer mu.Unlock()
		done++
		fmt.Fprintf(w, "\r%d of %d subscriptions", done, all)
	}
	return step, func() { fmt.Fprint(w, "\r\x1b[K") }
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// config is what the command line says.
type config struct {
	command   string
	output    string // of export the file, of check the format
	azure     azure.Config
	exporter  exporter.Config
	web       *web.FlagConfig
	logLevel  string
	logFormat string
	demo      bool
	source    string

	cloud, authorityHost, armEndpoint, armAudience string // become azure.Cloud
}

// parseFlags reads and checks everything that a user can get wrong, before
// anything listens.
func parseFlags(args []string) (*config, error) {
	var c config
	app := newApp(&c)
	// With a default command kingpin forgets a flag whose value is missing, and
	// completes no other command. So there is one only when there is no mistake.
	_, err := app.ParseContext(args)
	if err == nil {
		app.GetCommand("serve").Default()
	}
	if c.command, err = app.Parse(args); err != nil {
		return nil, err
	}
	for _, f := range app.Model().Flags {
		if !f.Hidden && f.Name != "help" && f.Name != "version" {
			c.exporter.Settings = append(c.exporter.Settings, exporter.Setting{Name: f.Name, Value: f.Value.String()})
		}
	}
	if c.demo && (c.cloud != "public" || c.authorityHost+c.armEndpoint+c.armAudience != "" || len(c.azure.SubscriptionIDs)+len(c.azure.ManagementGroups) > 0) {
		return nil, errors.New("--demo reads a simulated tenant: it cannot be combined with --azure.cloud, its addresses, --azure.subscription-id or --azure.management-group")
	}
	if len(c.azure.SubscriptionIDs) > 0 && len(c.azure.ManagementGroups) > 0 {
		return nil, errors.New("--azure.subscription-id and --azure.management-group exclude each other")
	}
	if c.azure.Cloud, err = azure.ParseCloud(c.cloud, c.authorityHost, c.armEndpoint, c.armAudience); err != nil {
		return nil, fmt.Errorf("--azure.cloud: %w", err)
	}
	c.azure.PrivateCloud = c.cloud == azure.CloudCustom
	for i, id := range c.azure.SubscriptionIDs {
		if c.azure.SubscriptionIDs[i], err = azure.ParseSubscriptionID(id); err != nil {
			return nil, fmt.Errorf("--azure.subscription-id: %w", err)
		}
		if slices.Contains(c.azure.SubscriptionIDs[:i], c.azure.SubscriptionIDs[i]) {
			return nil, fmt.Errorf("--azure.subscription-id: %s is given twice", id)
		}
	}
	for _, id := range c.azure.ManagementGroups {
		if _, err := azure.ParseManagementGroup(id); err != nil {
			return nil, fmt.Errorf("--azure.management-group: %w", err)
		}
	}
	e := c.exporter
	for _, f := range []struct {
		wrong bool
		text  string
	}{
		{c.azure.Concurrency < 1 || c.azure.Concurrency > 1000, "--azure.concurrency must be from 1 to 1000"},
		{e.MaxRequests < 1, "--web.max-requests must be at least 1"},
		{e.ScrapeTimeout <= 0, "--scrape.timeout must be positive"},
		{e.TimeoutOffset < 0 || e.TimeoutOffset >= e.ScrapeTimeout, "--scrape.timeout-offset must be from 0 to less than --scrape.timeout"},
		{e.CacheTTL < 0, "--cache.ttl must not be negative"},
		{e.MaxStale < e.CacheTTL, "--cache.max-stale must not be less than --cache.ttl"},
		{e.DiscoveryInterval < 0, "--azure.discovery-interval must not be negative"},
	} {
		if f.wrong {
			return nil, errors.New(f.text)
		}
	}
	if *c.web.WebSystemdSocket && !slices.Equal(*c.web.WebListenAddresses, []string{defaultAddress}) {
		return nil, errors.New("--web.systemd-socket and --web.listen-address exclude each other")
	}
	for i, address := range *c.web.WebListenAddresses {
		if slices.Contains((*c.web.WebListenAddresses)[:i], address) {
			return nil, fmt.Errorf("--web.listen-address: %s is given twice", address)
		}
		if err := checkListenAddress(address); err != nil {
			return nil, fmt.Errorf("--web.listen-address: %w", err)
		}
	}
	if err := web.Validate(*c.web.WebConfigFile); err != nil {
		return nil, fmt.Errorf("--web.config.file: %w", err)
	}
	return &c, nil
}

// checkListenAddress finds what would only fail when it is listened on, or listen on
// a port that nobody knows.
func checkListenAddress(address string) error {
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

func newApp(c *config) *kingpin.Application {
	app := kingpin.New(name, "Prometheus exporter for the secure score of Microsoft Defender for Cloud.\n\n"+
		"The credential comes from the environment, a workload identity, a managed identity or az login: see the README.")
	app.Version(version.Print(name)).UsageWriter(os.Stdout).DefaultEnvars()
	app.Terminate(func(status int) {
		if status != 0 {
			status = 2 // "help" for a command that there is not
		}
		os.Exit(status)
	})
	app.HelpFlag.Short('h').NoEnvar()
	app.VersionFlag.NoEnvar()

	app.Flag("azure.subscription-id", "Subscription to read, a UUID. Repeatable; without it every subscription that the identity sees.").
		PlaceHolder("UUID").StringsVar(&c.azure.SubscriptionIDs)
	app.Flag("azure.management-group", "Read only subscriptions below this management group, given by its ID. Repeatable.").
		PlaceHolder("ID").StringsVar(&c.azure.ManagementGroups)
	app.Flag("azure.source", "Where scores come from: "+sourceARM+" (two calls for each subscription) or "+sourceResourceGraph+" (one query for 1,000, and connectors to other clouds, too).").
		Default(sourceARM).EnumVar(&c.source, sourceARM, sourceResourceGraph)
	app.Flag("azure.cloud", "Azure cloud: "+strings.Join(azure.CloudNames, ", ")+".").Default("public").EnumVar(&c.cloud, azure.CloudNames...)
	app.Flag("azure.authority-host", "Address that issues tokens, for the custom cloud.").PlaceHolder("https://…").StringVar(&c.authorityHost)
	app.Flag("azure.arm-endpoint", "Address of Azure Resource Manager, for the custom cloud.").PlaceHolder("https://…").StringVar(&c.armEndpoint)
	app.Flag("azure.arm-audience", "Audience of tokens for Azure Resource Manager, for the custom cloud; by default its address.").PlaceHolder("https://…").StringVar(&c.armAudience)
	app.Flag("azure.concurrency", "Calls to Azure Resource Manager in flight at most.").Default(fmt.Sprint(azure.DefaultConcurrency)).SetValue((*wholeNumber)(&c.azure.Concurrency))
	app.Flag("azure.discovery-interval", "How long the list of subscriptions is kept.").Default("10m").DurationVar(&c.exporter.DiscoveryInterval)

	app.Flag("scrape.timeout", "Longest time for a scrape. Prometheus' own timeout, less the offset, applies when it is shorter.").Default("60s").DurationVar(&c.exporter.ScrapeTimeout)
	app.Flag("scrape.timeout-offset", "Time kept back of Prometheus' timeout so that the answer arrives before it.").Default("0.5s").DurationVar(&c.exporter.TimeoutOffset)
	app.Flag("cache.ttl", "How long a snapshot serves before Azure is asked again; 0 asks at every scrape.").Default("0s").DurationVar(&c.exporter.CacheTTL)
	app.Flag("cache.max-stale", "How old the last good values of a failing subscription may be.").Default("1h").DurationVar(&c.exporter.MaxStale)

	c.web = kingpinflag.AddFlags(app, defaultAddress)
	app.Flag("web.max-requests", "Scrapes in flight at most; more are answered 503.").Default("40").SetValue((*wholeNumber)(&c.exporter.MaxRequests))

	app.Flag("log.level", "Log messages of this level or above: debug, info, warn, error.").Default("info").EnumVar(&c.logLevel, "debug", "info", "warn", "error")
	app.Flag("log.format", "Format of log messages: logfmt, json.").Default("logfmt").EnumVar(&c.logFormat, "logfmt", "json")
	app.Flag("demo", "Read a simulated tenant instead of Azure: no account and no network is needed.").BoolVar(&c.demo)

	app.Command("serve", "Serve the metrics. This is what happens without a command.")
	export := app.Command("export", "Write what Azure Resource Manager says, as it says it, into a JSON file.")
	scores := export.Command("scores", "Write the secure scores of all subscriptions.")
	scores.Flag("output", "File to write; - is standard output.").Short('o').NoEnvar().Default("AzureSecureScore.json").StringVar(&c.output)
	controls := export.Command("controls", "Write the security controls of all subscriptions.")
	controls.Flag("output", "File to write; - is standard output.").Short('o').NoEnvar().Default("AzureSecureScoreControls.json").StringVar(&c.output)

	check := app.Command("check", "Say what the identity may read, and what helps where it may not.")
	check.Flag("output", "Format: table, json.").NoEnvar().Default("table").EnumVar(&c.output, "table", "json")

	nameValues(app.Model().FlagGroupModel, app.GetFlag)
	nameValues(scores.Model().FlagGroupModel, scores.GetFlag)
	nameValues(controls.Model().FlagGroupModel, controls.GetFlag)
	nameValues(check.Model().FlagGroupModel, check.GetFlag)
	return app
}

// nameValues makes every flag of a group tell its name when its value is malformed.
func nameValues(group *kingpin.FlagGroupModel, flag func(name string) *kingpin.FlagClause) {
	for _, f := range group.Flags {
		flag(f.Name).SetValue(namedValue{f.Value, f.Name})
	}
}

// wholeNumber is a flag's value. kingpin's own takes 1.9 for 1.
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

// namedValue names its flag when the value is malformed, which kingpin does not.
type namedValue struct {
	kingpin.Value
	flag string
}

// Set implements [kingpin.Value].
func (v namedValue) Set(text string) error {
	if err := v.Value.Set(text); err != nil {
		return fmt.Errorf("--%s: %w", v.flag, err)
	}
	return nil
}

// IsBoolFlag lets kingpin know of a flag that needs no value.
func (v namedValue) IsBoolFlag() bool {
	b, ok := v.Value.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}

// IsCumulative lets kingpin know of a flag that may be repeated.
func (v namedValue) IsCumulative() bool {
	c, ok := v.Value.(interface{ IsCumulative() bool })
	return ok && c.IsCumulative()
}

func newLogger(w io.Writer, allowed, format string) log.Logger {
	logger := log.NewLogfmtLogger(log.NewSyncWriter(w))
	if format == "json" {
		logger = log.NewJSONLogger(log.NewSyncWriter(w))
	}
	logger = level.NewFilter(logger, level.Allow(level.ParseDefault(allowed, level.InfoValue())))
	return log.With(logger, "ts", log.DefaultTimestampUTC)
}

// port returns the port of the first listen address, with its colon.
func port(addresses []string) string {
	_, port, err := net.SplitHostPort(addresses[0])
	if err != nil {
		return ""
	}
	return ":" + port
}
