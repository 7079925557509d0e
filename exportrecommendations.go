package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
)

// exportRecommendations writes one row per subscription and recommendation to path: JSON, or CSV if
// the name ends in .csv. A subscription that cannot be read is reported and left out.
func exportRecommendations(ctx context.Context, client *azure.Client, path string, stdout, stderr *os.File) int {
	target, ids, err := openExport(ctx, client, path, stdout)
	if err != nil {
		return fail(stderr, err)
	}
	defer target.discard()
	read := azure.NewResourceGraph(client).ExportRecommendations(ctx, ids)
	if ctx.Err() != nil {
		return fail(stderr, errors.New("interrupted, nothing was written"))
	}
	failed := 0
	for _, s := range read.Subscriptions {
		if s.Err != nil {
			printError(stderr, s.Err)
			failed++
		}
	}
	if failed == len(ids) {
		return fail(stderr, errors.New("no recommendations could be read, nothing was written; run check"))
	}
	if read.Err != nil {
		printError(stderr, fmt.Errorf("names or controls are incomplete: %w", read.Err))
	}

	rows := slices.Collect(read.Rows())
	encode := recommendationsJSON
	if strings.HasSuffix(strings.ToLower(path), ".csv") {
		encode = recommendationsCSV
	}
	text, err := encode(rows)
	if err != nil {
		return fail(stderr, err)
	}
	if err := target.write(text); err != nil {
		return fail(stderr, err)
	}
	if target.File != stdout {
		fmt.Fprintf(stderr, "%s: %s from %s\n", path, plural(len(rows), "recommendation", "recommendations"), plural(len(ids)-failed, "subscription", "subscriptions"))
	}
	if failed > 0 || read.Err != nil {
		return exitFailure
	}
	return exitOK
}

func recommendationsJSON(rows []azure.RecommendationRow) ([]byte, error) {
	if rows == nil {
		rows = []azure.RecommendationRow{} // [], not null
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(map[string]any{"value": rows})
	return text.Bytes(), err
}

func recommendationsCSV(rows []azure.RecommendationRow) ([]byte, error) {
	var text bytes.Buffer
	w := csv.NewWriter(&text)
	records := [][]string{{
		"subscription_id", "environment", "connector", "recommendation_id", "recommendation", "severity",
		"unhealthy", "exempt", "effort", "user_impact", "category", "preview", "control_ids", "url",
	}}
	for _, r := range rows {
		record := []string{
			r.SubscriptionID, r.Environment, r.Connector, r.RecommendationID, r.Recommendation, r.Severity.String(),
			strconv.Itoa(int(r.Unhealthy)), strconv.Itoa(int(r.Exempt)), r.Effort, r.UserImpact, r.Category,
			strconv.FormatBool(r.Preview), strings.Join(r.ControlIDs, " "), r.URL,
		}
		for i := range record {
			record[i] = cell(record[i])
		}
		records = append(records, record)
	}
	err := w.WriteAll(records)
	return text.Bytes(), err
}

// cell keeps a spreadsheet from reading Azure's text as a formula.
func cell(text string) string {
	if text != "" && strings.ContainsRune("=+-@\t\r", rune(text[0])) {
		return "'" + text
	}
	return text
}
