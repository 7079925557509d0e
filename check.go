package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/exporter"
)

// check makes every request that a scrape makes and prints which of them fail and how to fix that.
func check(ctx context.Context, cfg *config, client *azure.Client, stdout, stderr *os.File) int {
	progress := &progress{w: stderr}
	report := client.Check(ctx, progress.start, progress.advance)
	progress.erase()
	if len(report.Subscriptions) > 0 {
		graph := azure.NewResourceGraph(client)
		if cfg.source == sourceResourceGraph {
			report.CheckSecureScores(ctx, graph)
		}
		report.CheckManagementGroups(ctx, graph)
		if cfg.exporter.Recommendations != exporter.RecommendationsOff {
			report.CheckRecommendations(ctx, graph)
		}
	}
	var err error
	if cfg.output == "json" {
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
		return fail(stderr, err)
	}
	if !report.OK {
		return exitFailure
	}
	return exitOK
}

const (
	// maxGoodRows is the number of rows above which those without a failure are only counted.
	maxGoodRows = 20
	// tableWidth is the width of a terminal in which no row wraps.
	tableWidth = 80
)

// outcome is the result for a subscription. What needs attention comes first.
type outcome int

const (
	failing outcome = iota
	notScored
	inactive // disabled or deleted, and so not read
	readable
	outcomes // their number
)

func outcomeOf(s azure.SubscriptionReport) outcome {
	switch {
	case !s.OK():
		return failing
	case s.Scores == nil:
		return inactive
	case !s.Scored:
		return notScored
	}
	return readable
}

// reportTable formats a report as text: what every subscription depends on, the subscriptions with
// the failing ones first, and then what is wrong, where, and how to fix it.
func reportTable(r *azure.Report) string {
	var text strings.Builder
	failures := writeBasics(&text, r)
	var counts [outcomes]int
	for _, s := range r.Subscriptions {
		counts[outcomeOf(s)]++
	}
	rows := slices.Clone(r.Subscriptions)
	slices.SortStableFunc(rows, func(a, b azure.SubscriptionReport) int { return cmp.Compare(outcomeOf(a), outcomeOf(b)) })
	rows = slices.DeleteFunc(rows, func(s azure.SubscriptionReport) bool { return s.OK() && counts[outcomeOf(s)] > maxGoodRows })
	writeSubscriptions(&text, rows)
	for _, s := range rows {
		failures = append(failures, failuresOf(s)...)
	}
	for _, failure := range failures {
		text.WriteString("\n" + failure)
	}
	if counts[notScored] > 0 {
		text.WriteString("\n✓ no score: Azure does not score the subscription. Foundational CSPM may be off.\n")
	}
	if len(r.Subscriptions) > 0 {
		fmt.Fprintf(&text, "\n%s.\n", summary(counts))
	}
	return text.String()
}

// writeBasics writes a row for each result that concerns no single subscription, and returns the
// failures among them.
func writeBasics(w io.Writer, r *azure.Report) (failures []string) {
	rows := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	type row struct {
		name   string
		result azure.CheckResult
	}
	basics := []row{{"configuration", r.Configuration}, {"credential", r.Credential}, {"subscription list", r.SubscriptionList}}
	if r.ManagementGroups != nil {
		basics = append(basics, row{"management groups", *r.ManagementGroups})
	}
	for _, row := range basics {
		detail := "  " + row.result.Detail
		if row.result.Fix != "" {
			failures = append(failures, failure(row.result, row.name))
			detail = "" // is part of the failure
		}
		fmt.Fprintf(rows, "%s\t%s%s\n", row.name, symbol(row.result), detail)
	}
	rows.Flush()
	return failures
}

// writeSubscriptions writes one row for each subscription, with its name cut where it would wrap.
func writeSubscriptions(w io.Writer, subscriptions []azure.SubscriptionReport) {
	if len(subscriptions) == 0 {
		return
	}
	width := 0
	for _, s := range subscriptions {
		width = max(width, utf8.RuneCountInString(outcomeText(s)))
	}
	fmt.Fprintln(w)
	for _, s := range subscriptions {
		fmt.Fprintf(w, "%-*s  %s  %s\n", width, outcomeText(s), s.ID, cut(s.Name, tableWidth-width-len(s.ID)-2*len("  ")))
	}
}

// outcomeText is the outcome of a subscription in the words of the status page.
func outcomeText(s azure.SubscriptionReport) string {
	switch outcomeOf(s) {
	case notScored:
		return "✓ no score"
	case inactive:
		return "– " + s.State
	case readable:
		return "✓ read"
	}
	for _, r := range []*azure.CheckResult{s.Scores, s.Controls, s.Recommendations} {
		if r != nil && !r.OK {
			return symbol(*r)
		}
	}
	return symbol(*s.Scores)
}

// failuresOf returns what is wrong with a subscription, once for each fix.
func failuresOf(s azure.SubscriptionReport) (failures []string) {
	if s.OK() {
		return nil
	}
	where := strings.TrimSpace(s.ID + "  " + s.Name)
	fixes := map[string]bool{}
	for _, r := range []*azure.CheckResult{s.Scores, s.Controls, s.Recommendations} {
		if r != nil && !r.OK && !fixes[r.Fix] {
			fixes[r.Fix] = true
			failures = append(failures, failure(*r, where))
		}
	}
	return failures
}

// failure formats what is wrong, where, and how to fix it.
func failure(r azure.CheckResult, where string) string {
	text := fmt.Sprintf("%s: %s\n  where: %s\n", symbol(r), r.Detail, where)
	if r.Fix != "" {
		text += "  fix:   " + r.Fix + "\n"
	}
	return text
}

// summary counts the subscriptions by outcome.
func summary(counts [outcomes]int) string {
	parts := []string{plural(counts[readable], "subscription is readable", "subscriptions are readable")}
	for _, other := range []struct {
		count     int
		one, many string
	}{
		{counts[failing], "is failing", "are failing"},
		{counts[notScored], "has no score", "have no score"},
		{counts[inactive], "is disabled or deleted", "are disabled or deleted"},
	} {
		if other.count > 0 {
			parts = append(parts, plural(other.count, other.one, other.many))
		}
	}
	return strings.Join(parts, ", ")
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// cut shortens a text to a number of characters.
func cut(text string, length int) string {
	runes := []rune(text)
	if len(runes) <= length {
		return text
	}
	return string(runes[:length-1]) + "…"
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
