// Command azure-secure-score-exporter serves the secure scores of Azure subscriptions as
// Prometheus metrics. Its subcommands export what Azure returns and check what the identity can
// read.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/common/version"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/exporter"
)

const name = "azure-secure-score-exporter"

// The exit codes. A mistake on the command line is a usage error, found before anything listens or
// calls Azure.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

func main() {
	if info, ok := debug.ReadBuildInfo(); ok && version.Version == "" {
		version.Version = info.Main.Version // as go install sets it; releases set it when linking
	}
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run runs the command that args name and returns its exit code.
func run(args []string, stdout, stderr *os.File) int {
	cfg, err := parseFlags(args)
	if err != nil {
		printError(stderr, err)
		return exitUsage
	}
	logger := newLogger(stderr, cfg.logLevel, cfg.logFormat)
	warnUnknownEnv(logger, cfg.envars, os.Environ())
	if cfg.logLevel == "debug" || cfg.command == "check" {
		azure.LogSDKEvents(logger)
	}

	if cfg.demo {
		tenant, err := startDemo(cfg, logger)
		if err != nil {
			return fail(stderr, err)
		}
		defer tenant.Close()
	}

	api := exporter.NewAPIMetrics()
	cfg.azure.Observe, cfg.azure.Version, cfg.azure.Logger = api.Observe, version.Version, logger
	client, err := azure.New(cfg.azure)
	if err != nil {
		printError(stderr, err)
		return exitUsage
	}
	defer client.Close()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	defer stop()
	switch cfg.command {
	case "export scores":
		return export(ctx, client, readList(azure.SecureScores, stderr), cfg.output, stdout, stderr)
	case "export controls":
		return export(ctx, client, readList(azure.SecureScoreControls, stderr), cfg.output, stdout, stderr)
	case "export recommendations":
		return export(ctx, client, readRecommendations(cfg.output), cfg.output, stdout, stderr)
	case "check":
		return check(ctx, cfg, client, stdout, stderr)
	}
	return serve(ctx, cfg, client, api, logger)
}

// startDemo starts a simulated Azure and points the configuration at it.
func startDemo(cfg *config, logger log.Logger) (*simulator.Server, error) {
	tenant, err := simulator.Start(simulator.Demo())
	if err != nil {
		return nil, fmt.Errorf("start the simulator: %w", err)
	}
	cfg.azure.Cloud, cfg.azure.RootCAs, cfg.azure.Credential = tenant.Cloud(), tenant.RootCAs(), tenant.Credential
	level.Info(logger).Log("msg", "demo: serving a simulated tenant; no request leaves this process")
	return tenant, nil
}

// printError prints an error on one line; errors in YAML files have several.
func printError(stderr *os.File, err error) {
	fmt.Fprintf(stderr, "%s: error: %s\n", name, strings.Join(strings.Fields(err.Error()), " "))
}

// fail prints an error and returns the exit code of a failure.
func fail(stderr *os.File, err error) int {
	printError(stderr, err)
	return exitFailure
}
