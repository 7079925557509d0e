package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
)

// readRecommendations reads one row per subscription and recommendation: CSV if path ends in .csv,
// otherwise JSON.
func readRecommendations(path string) exportReader {
	encode := recommendationsJSON
	if strings.HasSuffix(strings.ToLower(path), ".csv") {
		encode = recommendationsCSV
	}
	return func(ctx context.Context, client *azure.Client, ids []string) (document, error) {
		read := azure.NewResourceGraph(client).ExportRecommendations(ctx, ids)
		doc := document{kind: "recommendation"}
		for _, s := range read.Subscriptions {
			if s.Err != nil {
				doc.failures = append(doc.failures, s.Err)
			}
		}
		if read.Err != nil {
			doc.incomplete = fmt.Errorf("names or controls are incomplete: %w", read.Err)
		}
		rows := slices.Collect(read.Rows())
		doc.items = len(rows)
		var err error
		doc.text, err = encode(rows)
		return doc, err
	}
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
			record[i] = withoutFormula(record[i])
		}
		records = append(records, record)
	}
	err := w.WriteAll(records)
	return text.Bytes(), err
}

// withoutFormula keeps a spreadsheet from reading Azure's text as a formula.
func withoutFormula(text string) string {
	if text != "" && strings.ContainsRune("=+-@\t\r", rune(text[0])) {
		return "'" + text
	}
	return text
}
