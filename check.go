package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
)

// check makes every request that a scrape makes and prints which of them fail and how to fix that.
func check(ctx context.Context, client *azure.Client, format string, stdout, stderr *os.File) int {
	progress := &progress{w: stderr}
	report := client.Check(ctx, progress.start, progress.advance)
	progress.erase()
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
		printError(stderr, err)
		return exitFailure
	}
	if !report.OK {
		return exitFailure
	}
	return exitOK
}

// reportTable formats a report for people: first what every subscription depends on, then the
// subscriptions, then how to fix what fails.
func reportTable(r *azure.Report) string {
	var text strings.Builder
	var fixes []string
	rows := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, row := range []struct {
		name   string
		result azure.CheckResult
	}{{"configuration", r.Configuration}, {"credential", r.Credential}, {"subscription list", r.SubscriptionList}} {
		fmt.Fprintf(rows, "%s\t%s\t%s\n", row.name, symbol(row.result), row.result.Detail)
		if row.result.Fix != "" {
			fixes = append(fixes, fmt.Sprintf("%s: %s\n  %s", row.name, cmp.Or(string(row.result.Reason), row.result.Detail), row.result.Fix))
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
		scores := symbol(*s.Scores)
		if s.Scores.OK && !s.Scored {
			scores += " none"
		}
		fmt.Fprintf(rows, "%s\t%s\t%s\t%s\n", s.ID, scores, symbol(*s.Controls), s.Name)
		for i, result := range []azure.CheckResult{*s.Scores, *s.Controls} {
			if result.Fix != "" && (i == 0 || result.Fix != s.Scores.Fix) { // one fix is enough for both lists
				fixes = append(fixes, fmt.Sprintf("%s %s: %s\n  %s", s.ID, s.Name, result.Detail, result.Fix))
			}
		}
	}
	rows.Flush()
	for _, fix := range fixes {
		text.WriteString("\n" + fix + "\n")
	}
	if len(r.Subscriptions) > 0 {
		fmt.Fprintf(&text, "\n%d of %d subscriptions are in order.\n", readable, len(r.Subscriptions))
	}
	return text.String()
}

func symbol(r azure.CheckResult) string {
	switch {
	case r.OK:
		return "✓"
	case r.Reason != "":
		return "✗ " + string(r.Reason)
	}
	return "✗"
}
