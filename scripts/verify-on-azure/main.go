// Command verify-on-azure compares what the exporter assumes about Azure with a real tenant. It
// only reads, and writes one anonymised report: outcomes, counts, statuses and shapes, no IDs or
// names.
//
//	az login
//	AZURE_TOKEN_CREDENTIALS=AzureCLICredential go run ./scripts/verify-on-azure -role reader
//
// See docs/verify-on-azure.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "verify-on-azure:", err)
		os.Exit(1)
	}
}

// options are what the command line says.
type options struct {
	subscriptions []string
	sample        int
	role          string
	output        string
	pause         time.Duration // between queries of Resource Graph
	azure         azure.Config
}

var roles = []string{"reader", "security-reader", "custom", "other"}

func parseOptions(args []string, stderr io.Writer) (options, error) {
	o := options{pause: pause, azure: azure.DefaultConfig()}
	flags := flag.NewFlagSet("verify-on-azure", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.role, "role", "other", "role of the identity on its subscriptions: "+strings.Join(roles, ", "))
	flags.StringVar(&o.output, "o", "verify-on-azure.json", "file for the report")
	flags.IntVar(&o.sample, "sample", 50, "maximum number of subscriptions to read from Microsoft.Security")
	subscriptions := flags.String("subscription", "", "comma-separated IDs of subscriptions to read, also if they are not listed")
	cloudName := flags.String("cloud", "public", "public, usgovernment or china")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if !slices.Contains(roles, o.role) {
		return o, fmt.Errorf("-role: %q is none of %s", o.role, strings.Join(roles, ", "))
	}
	if o.sample < 1 || o.sample > 1000 {
		return o, errors.New("-sample must be from 1 to 1000")
	}
	if *subscriptions != "" {
		for id := range strings.SplitSeq(*subscriptions, ",") {
			id, err := azure.ParseSubscriptionID(strings.TrimSpace(id))
			if err != nil {
				return o, fmt.Errorf("-subscription: %w", err)
			}
			o.subscriptions = append(o.subscriptions, id)
		}
	}
	var err error
	if o.azure.Cloud, err = azure.ParseCloud(*cloudName, "", "", ""); err != nil {
		return o, fmt.Errorf("-cloud: %w", err)
	}
	return o, nil
}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	o, err := parseOptions(args, stdout)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	report, err := verify(ctx, o)
	if err != nil {
		return err
	}
	return write(report, o.output, stdout)
}

// write writes the report into a file for its owner alone, and a summary of it to stdout.
func write(r *report, file string, stdout io.Writer) error {
	text, err := r.encode()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Clean(file), text, 0o600); err != nil { //nolint:gosec // the operator names the file
		return err
	}
	_, err = fmt.Fprintf(stdout, "%s\nThe report is in %s. Read it before you send it.\n", r.summary(), file)
	return err
}

// verify reads from Azure and returns the report. It fails only if there is nothing to report.
func verify(ctx context.Context, o options) (*report, error) {
	client, err := azure.New(o.azure)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	v := &verifier{
		client: client, options: o, anonymizer: newAnonymizer(),
		headers: map[string]*headerValues{},
	}
	v.report = newReport(o.role, v.anonymizer)
	v.run(ctx)
	return v.report, ctx.Err()
}

// requestTimeout bounds one request with its retries.
const requestTimeout = time.Minute
