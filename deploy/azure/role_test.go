package main

import (
	"encoding/json"
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
