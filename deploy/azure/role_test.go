package main

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"testing"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
)

// The role allows exactly what the exporter's operations need.
func TestRole(t *testing.T) {
	var role struct {
		Name, Description                       string
		IsCustom                                bool
		Actions                                 []string
		NotActions, DataActions, NotDataActions []string
		AssignableScopes                        []string
	}
	if err := json.Unmarshal(readFile(t, "role.json"), &role); err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, operation := range azure.Operations {
		actions, ok := azure.Actions[operation]
		if !ok {
			t.Errorf("azure.Actions lacks the operation %s", operation)
		}
		want = append(want, actions...)
	}
	slices.Sort(want)
	if want = slices.Compact(want); !slices.Equal(role.Actions, want) {
		t.Errorf("role.json allows\n%q, the operations need\n%q", role.Actions, want)
	}
	if len(role.NotActions)+len(role.DataActions)+len(role.NotDataActions) != 0 || !role.IsCustom || len(role.AssignableScopes) != 1 {
		t.Errorf("role.json is %+v", role)
	}
}

// The documentation explains each action of the role.
func TestRole_IsDocumented(t *testing.T) {
	documented := map[string]bool{}
	for _, match := range regexp.MustCompile("(?m)^\\| `(Microsoft\\.[A-Za-z/.]+)` \\|").FindAllSubmatch(readFile(t, "../../docs/installation.md"), -1) {
		documented[string(match[1])] = true
	}
	used := map[string]bool{}
	for _, actions := range azure.Actions {
		for _, action := range actions {
			used[action] = true
		}
	}
	if !maps.Equal(documented, used) {
		t.Errorf("docs/installation.md explains %v, the role has %v", documented, used)
	}
}
