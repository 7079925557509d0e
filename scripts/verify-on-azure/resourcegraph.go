package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
)

const (
	// scoresQuery lists the scores alone, with those of connectors.
	scoresQuery = `securityresources | where type in~ ('microsoft.security/securescores') | project id, name, subscriptionId, environment = properties.environment | order by id asc`

	// subscriptionsQuery lists the subscriptions with the management groups above them.
	subscriptionsQuery = `resourcecontainers | where type in~ ('microsoft.resources/subscriptions') | project id, subscriptionId, chain = properties.managementGroupAncestorsChain | order by id asc`

	// controlMapQuery lists the recommendations of each control.
	controlMapQuery = `securityresources | where type =~ 'microsoft.security/securescores/securescorecontrols' | where isnotempty(properties.definition) | summarize by control = tolower(name), keys = tostring(properties.definition.properties.assessmentDefinitions) | extend id = strcat(control, tostring(hash(keys))) | order by id asc`

	// dynamicKeysQuery lists the recommendations that Azure creates per software or secret.
	dynamicKeysQuery = `securityresources | where type =~ 'microsoft.security/assessments' | where tostring(properties.metadata.assessmentType) =~ 'DynamicBuiltIn' | summarize findings = count() by id = tolower(name) | order by id asc`
)

const (
	pageSize = 1000
	// pause between queries keeps the program within Resource Graph's quota of 15 in 5 seconds.
	pause = 400 * time.Millisecond
)

// graphResult is the result of a query.
type graphResult struct {
	Status    int    `json:"status"` // 0 without a response
	Code      string `json:"code,omitempty"`
	Rows      int    `json:"rows"`
	Total     int    `json:"total_records"`
	Pages     int    `json:"pages"`
	Truncated string `json:"truncated,omitempty"`
	Quota     string `json:"quota,omitempty"` // remaining, and when it resets

	data []map[string]any
}

func (r graphResult) describe() string {
	if r.Status != http.StatusOK {
		return strings.TrimSpace(fmt.Sprintf("status %d %s", r.Status, r.Code))
	}
	return fmt.Sprintf("%d of %d rows, pages: %d", r.Rows, r.Total, r.Pages)
}

// query reads up to 5 pages of a query, each of up to top rows. A report needs no more.
func (v *verifier) query(ctx context.Context, query string, top int) graphResult {
	var result graphResult
	token := ""
	for range 5 {
		select {
		case <-time.After(v.options.pause):
		case <-ctx.Done():
			return graphResult{Code: "no response"}
		}
		requestCtx, cancel := context.WithTimeout(ctx, requestTimeout)
		resp, err := v.client.QueryResourceGraph(requestCtx, query, v.scope(), top, token)
		cancel()
		if err != nil {
			return graphResult{Code: "no response"}
		}
		result.Status, result.Code, result.Quota = resp.Status, errorCode(resp.Body), graphQuota(resp.Header)
		if resp.Status != http.StatusOK {
			return result
		}
		var page struct {
			TotalRecords    int              `json:"totalRecords"`
			Data            []map[string]any `json:"data"`
			ResultTruncated string           `json:"resultTruncated"`
			SkipToken       string           `json:"$skipToken"`
		}
		if err := decode(resp.Body, &page); err != nil {
			result.Code = "not a JSON result"
			return result
		}
		result.data = append(result.data, page.Data...)
		result.Rows, result.Total, result.Pages = len(result.data), page.TotalRecords, result.Pages+1
		result.Truncated = "false"
		if strings.EqualFold(page.ResultTruncated, "true") {
			result.Truncated = "true"
		}
		if token = page.SkipToken; token == "" {
			return result
		}
	}
	return result
}

// scope returns the subscriptions of a query: the first listed ones. If none is listed, a query is
// about all that the identity can read.
func (v *verifier) scope() []string {
	if len(v.listed) > pageSize {
		return v.listed[:pageSize]
	}
	return v.listed
}

// graphQuota returns Resource Graph's own headers, which are a number and a time of day.
func graphQuota(header http.Header) string {
	quota := header.Get("x-ms-user-quota-remaining") + ", " + header.Get("x-ms-user-quota-resets-after")
	if strings.Trim(quota, "0123456789:., ") != "" {
		return "unknown format"
	}
	return quota
}

// queryScores verifies each form of the exporter's own query.
func (v *verifier) queryScores(ctx context.Context) {
	v.judgePacked(pointBagPack, v.query(ctx, azure.Queries["bag_pack"], pageSize))
	v.judgePacked(pointPack, v.query(ctx, azure.Queries["pack"], pageSize))
	v.judgePlain(v.query(ctx, azure.Queries["plain"], 5))
}

func (v *verifier) judgePacked(name string, result graphResult) {
	arrays, odd := 0, 0
	var shapes []any
	for _, row := range result.data {
		items, ok := row["items"].([]any)
		if !ok {
			odd++
			shapes = append(shapes, row["items"])
			continue
		}
		arrays++
		shapes = append(shapes, items...)
		for _, item := range items {
			if _, ok := item.(map[string]any); !ok {
				odd++
			}
		}
	}
	observed := map[string]any{"result": result, "shapes": v.anonymizer.shape(shapes)}
	switch {
	case result.Status == http.StatusBadRequest, odd > 0:
		v.report.set(name, different, observed, "%s, %d rows or items of another shape", result.describe(), odd)
	case result.Status != http.StatusOK, arrays == 0:
		v.report.set(name, notObserved, observed, "%s", result.describe())
	default:
		v.report.set(name, asAssumed, observed, "%s", result.describe())
	}
}

func (v *verifier) judgePlain(result graphResult) {
	seen := map[string]bool{}
	for _, row := range result.data {
		seen[fmt.Sprint(row["id"])] = true
	}
	switch {
	case result.Status == http.StatusBadRequest, len(seen) < result.Rows, result.Truncated == "true":
		v.report.set(pointPlain, different, result, "%s, %d distinct", result.describe(), len(seen))
	case result.Status != http.StatusOK, result.Pages < 2:
		v.report.set(pointPlain, notObserved, result, "%s", result.describe())
	default:
		v.report.set(pointPlain, asAssumed, result, "%s", result.describe())
	}
}

// queryConnectors verifies the IDs of scores outside Azure.
func (v *verifier) queryConnectors(ctx context.Context) {
	result := v.query(ctx, scoresQuery, pageSize)
	patterns, environments := map[string]int{}, map[string]int{}
	connectors, odd := 0, 0
	for _, row := range result.data {
		id, environment := fmt.Sprint(row["id"]), environmentOf(row["environment"])
		environments[environment]++
		patterns[v.anonymizer.pathPattern(id)]++
		if environment == "Azure" || environment == "none" {
			continue
		}
		connectors++
		if !strings.Contains(strings.ToLower(id), "/securityconnectors/") {
			odd++
		}
	}
	observed := map[string]any{"result": result, "ids": patterns, "environments": environments}
	switch {
	case connectors == 0:
		v.report.set(pointConnectors, notObserved, observed, "no score outside Azure; %s", result.describe())
	case odd > 0:
		v.report.set(pointConnectors, different, observed, "%d of %d IDs", odd, connectors)
	default:
		v.report.set(pointConnectors, asAssumed, observed, "%d scores", connectors)
	}
}

// environmentOf returns an environment that Microsoft documents.
func environmentOf(value any) string {
	text, _ := value.(string)
	if text == "" {
		return "none"
	}
	for _, known := range []string{"Azure", "AWS", "GCP", "AzureDevOps", "GitHub", "GitLab", "DockerHub", "JFrog"} {
		if strings.EqualFold(text, known) {
			return known
		}
	}
	return "another environment"
}

// queryDynamicKeys verifies whether a control maps dynamic recommendations.
func (v *verifier) queryDynamicKeys(ctx context.Context) {
	controls := v.query(ctx, controlMapQuery, pageSize)
	dynamic := v.query(ctx, dynamicKeysQuery, pageSize)
	keys := map[string]bool{}
	for _, row := range controls.data {
		var definitions []struct {
			ID string `json:"id"`
		}
		text, _ := row["keys"].(string)
		_ = json.Unmarshal([]byte(text), &definitions) // counted below
		for _, definition := range definitions {
			keys[strings.ToLower(definition.ID[strings.LastIndexByte(definition.ID, '/')+1:])] = true
		}
	}
	mapped := 0
	for _, row := range dynamic.data {
		if keys[strings.ToLower(fmt.Sprint(row["id"]))] {
			mapped++
		}
	}
	observed := map[string]any{
		"controls": controls, "recommendations_of_controls": len(keys), "dynamic": dynamic, "dynamic_in_controls": mapped,
	}
	switch {
	case len(keys) == 0:
		v.report.set(pointDynamicKeys, notObserved, observed, "no control map; %s", controls.describe())
	case dynamic.Rows == 0:
		v.report.set(pointDynamicKeys, notObserved, observed, "no dynamic recommendation; %s", dynamic.describe())
	case mapped > 0:
		v.report.set(pointDynamicKeys, different, observed, "%d of %d are mapped", mapped, dynamic.Rows)
	default:
		v.report.set(pointDynamicKeys, asAssumed, observed, "none of %d is mapped", dynamic.Rows)
	}
}

// querySubscriptions verifies which subscriptions Resource Graph shows, with their management
// groups.
func (v *verifier) querySubscriptions(ctx context.Context) {
	result := v.query(ctx, subscriptionsQuery, pageSize)
	visible, lengths := map[string]bool{}, map[int]int{}
	chains, nulls, odd := 0, 0, 0
	for _, row := range result.data {
		visible[strings.ToLower(fmt.Sprint(row["subscriptionId"]))] = true
		switch chain := row["chain"].(type) {
		case nil:
			nulls++
		case []any:
			chains++
			lengths[len(chain)]++
			for _, group := range chain {
				if _, ok := field(group, "name").(string); !ok {
					odd++
				}
			}
		default:
			odd++
		}
	}
	absent := 0
	for _, id := range v.scope() {
		if !visible[id] {
			absent++
		}
	}
	coverage := map[string]any{"result": result, "listed": len(v.listed), "absent": absent}
	switch {
	case result.Status != http.StatusOK, len(v.listed) == 0:
		v.report.set(pointGraphCoverage, notObserved, coverage, "%s; ARM lists %d", result.describe(), len(v.listed))
	case absent > 0:
		v.report.set(pointGraphCoverage, different, coverage, "%d of %d are absent, with the role %s", absent, len(v.scope()), v.options.role)
	default:
		v.report.set(pointGraphCoverage, asAssumed, coverage, "%d subscriptions, with the role %s", len(visible), v.options.role)
	}
	ancestors := map[string]any{"with_groups": chains, "null": nulls, "subscriptions_by_groups_above": lengths}
	switch {
	case odd > 0:
		v.report.set(pointAncestors, different, ancestors, "%d of another shape", odd)
	case chains == 0:
		v.report.set(pointAncestors, notObserved, ancestors, "null in %d rows", nulls)
	default:
		v.report.set(pointAncestors, asAssumed, ancestors, "%d of %d subscriptions, with the role %s", chains, result.Rows, v.options.role)
	}
}
