// Command azure converts the Prometheus rules in dashboards/rules into rule-groups.json, an ARM
// template of rule groups for Azure Managed Prometheus. Their resource type is
// Microsoft.AlertsManagement/prometheusRuleGroups, api-version 2023-03-01.
//
//	go generate ./deploy/azure
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

//go:generate go run .

const (
	rulesDir     = "../../dashboards/rules"
	templateFile = "rule-groups.json"
	docFile      = "../../docs/azure-managed-prometheus.md"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "generate rule groups:", err)
		os.Exit(1)
	}
}

func run() error {
	groups, err := readGroups(rulesDir)
	if err != nil {
		return err
	}
	template, err := renderTemplate(groups)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.FromSlash(templateFile), template, 0o644); err != nil { //nolint:gosec // part of the repository, for everyone
		return err
	}
	doc, err := os.ReadFile(filepath.FromSlash(docFile))
	if err != nil {
		return err
	}
	doc, err = updateDoc(doc, groups)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.FromSlash(docFile), doc, 0o644) //nolint:gosec // part of the repository, for everyone
}
