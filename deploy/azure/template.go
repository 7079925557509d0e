package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Limits of Azure. The number of rules is from "Azure Monitor service limits", the times from the
// REST reference "Prometheus Rule Groups - Create Or Update" (api-version 2023-03-01), the length
// from the JSON schema of Microsoft's az-prom-rules-converter.
const (
	maxRules       = 20 // in a group
	minInterval    = time.Minute
	maxInterval    = 15 * time.Minute
	maxResolveTime = 15 * time.Minute
	maxAnnotation  = 1024 // characters
)

// template is an ARM template.
type template struct {
	Schema         string               `json:"$schema"`
	ContentVersion string               `json:"contentVersion"`
	Metadata       map[string]string    `json:"metadata"`
	Parameters     map[string]parameter `json:"parameters"`
	Variables      map[string]string    `json:"variables"`
	Resources      []ruleGroup          `json:"resources"`
}

type parameter struct {
	Type         string            `json:"type"`
	DefaultValue any               `json:"defaultValue,omitempty"`
	Metadata     map[string]string `json:"metadata"`
}

type ruleGroup struct {
	Type       string              `json:"type"`
	APIVersion string              `json:"apiVersion"`
	Name       string              `json:"name"`
	Location   string              `json:"location"`
	Properties ruleGroupProperties `json:"properties"`
}

type ruleGroupProperties struct {
	Scopes      string      `json:"scopes"` // an expression
	ClusterName string      `json:"clusterName"`
	Interval    string      `json:"interval"`
	Rules       []azureRule `json:"rules"`
}

type azureRule struct {
	Record               string                `json:"record,omitempty"`
	Alert                string                `json:"alert,omitempty"`
	Expression           string                `json:"expression"`
	Severity             *int                  `json:"severity,omitempty"`
	For                  string                `json:"for,omitempty"`
	ResolveConfiguration *resolveConfiguration `json:"resolveConfiguration,omitempty"`
	Labels               map[string]string     `json:"labels,omitempty"`
	Annotations          map[string]string     `json:"annotations,omitempty"`
	Actions              string                `json:"actions,omitempty"` // an expression
}

type resolveConfiguration struct {
	AutoResolved  bool   `json:"autoResolved"`
	TimeToResolve string `json:"timeToResolve"`
}

// severities translates the label severity.
var severities = map[string]int{"critical": 0, "warning": 2, "info": 3}

// renderTemplate returns the ARM template of the groups. A group with more rules than Azure allows
// becomes several.
func renderTemplate(groups []group) ([]byte, error) {
	text := func(description string, defaultValue any) parameter {
		return parameter{Type: "string", DefaultValue: defaultValue, Metadata: map[string]string{"description": description}}
	}
	t := template{
		Schema:         "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
		ContentVersion: "1.0.0.0",
		Metadata:       map[string]string{"description": "Generated from dashboards/rules by go generate ./deploy/azure. Do not edit."},
		Parameters: map[string]parameter{
			"azureMonitorWorkspaceId": text("Resource ID of the Azure Monitor workspace that stores the metrics", nil),
			"location":                text("Region of the Azure Monitor workspace", "[resourceGroup().location]"),
			"actionGroupId":           text("Resource ID of the action group to notify; empty for none", ""),
			"clusterId":               text("Resource ID of the cluster whose metrics the rules read; empty for all clusters of the workspace", ""),
			"clusterName":             text("Value of the label cluster, if it is not the name of the cluster", ""),
		},
		Variables: map[string]string{
			"scopes":      "[if(empty(parameters('clusterId')), createArray(parameters('azureMonitorWorkspaceId')), createArray(parameters('azureMonitorWorkspaceId'), parameters('clusterId')))]",
			"clusterName": "[if(empty(parameters('clusterName')), if(empty(parameters('clusterId')), json('null'), last(split(parameters('clusterId'), '/'))), parameters('clusterName'))]",
			"actions":     "[if(empty(parameters('actionGroupId')), createArray(), createArray(createObject('actionGroupId', parameters('actionGroupId'))))]",
		},
	}
	for _, g := range groups {
		part := 0
		for rules := range slices.Chunk(g.Rules, maxRules) {
			part++
			resource, err := convertGroup(g, rules, part)
			if err != nil {
				return nil, fmt.Errorf("group %s: %w", g.Name, err)
			}
			t.Resources = append(t.Resources, resource)
		}
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false) // keeps > readable
	encoder.SetIndent("", "  ")
	err := encoder.Encode(t)
	return out.Bytes(), err
}

func convertGroup(g group, rules []rule, part int) (ruleGroup, error) {
	name := g.Name
	if part > 1 {
		name = fmt.Sprintf("%s-%d", name, part)
	}
	resource := ruleGroup{
		Type: "Microsoft.AlertsManagement/prometheusRuleGroups", APIVersion: "2023-03-01",
		Name: name, Location: "[parameters('location')]",
		Properties: ruleGroupProperties{
			Scopes: "[variables('scopes')]", ClusterName: "[variables('clusterName')]",
			Interval: iso8601(min(max(time.Duration(g.Interval), minInterval), maxInterval)),
		},
	}
	for _, r := range rules {
		converted, err := convertRule(r)
		if err != nil {
			return ruleGroup{}, fmt.Errorf("%s%s: %w", r.Alert, r.Record, err)
		}
		resource.Properties.Rules = append(resource.Properties.Rules, converted)
	}
	return resource, nil
}

func convertRule(r rule) (azureRule, error) {
	converted := azureRule{
		Record: r.Record, Alert: r.Alert, Expression: literal(strings.TrimSpace(r.Expr)),
		Labels: literals(r.Labels), Annotations: literals(annotations(r)),
	}
	if r.Alert == "" {
		return converted, nil
	}
	severity, ok := severities[r.Labels["severity"]]
	if !ok {
		return azureRule{}, fmt.Errorf("unknown severity %q", r.Labels["severity"])
	}
	converted.Severity = &severity
	if r.Labels["severity"] != "info" { // which is a state to look up, not an event
		converted.Actions = "[variables('actions')]"
	}
	if r.For > 0 {
		converted.For = iso8601(time.Duration(r.For))
	}
	if r.KeepFiringFor > 0 {
		keep := min(max(time.Duration(r.KeepFiringFor), time.Minute), maxResolveTime)
		converted.ResolveConfiguration = &resolveConfiguration{AutoResolved: true, TimeToResolve: iso8601(keep)}
	}
	return converted, nil
}

// annotations returns the annotations of a rule. The summary replaces a description that is too
// long: a template cannot be cut.
func annotations(r rule) map[string]string {
	all := maps.Clone(r.Annotations)
	if len([]rune(all["description"])) > maxAnnotation {
		all["description"] = all["summary"]
	}
	return all
}

// literal protects a text in brackets, which an ARM template would evaluate as an expression.
func literal(text string) string {
	if strings.HasPrefix(text, "[") && strings.HasSuffix(text, "]") {
		return "[" + text
	}
	return text
}

func literals(texts map[string]string) map[string]string {
	escaped := make(map[string]string, len(texts))
	for name, text := range texts {
		escaped[name] = literal(text)
	}
	return escaped
}

// iso8601 formats a duration of whole seconds, such as PT1H30M.
func iso8601(d time.Duration) string {
	text := strings.ToUpper(d.Round(time.Second).String()) // 1H30M0S
	if strings.HasSuffix(text, "M0S") {
		text = strings.TrimSuffix(text, "0S")
	}
	if strings.HasSuffix(text, "H0M") {
		text = strings.TrimSuffix(text, "0M")
	}
	return "PT" + text
}
