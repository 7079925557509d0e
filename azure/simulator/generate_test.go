package simulator_test

import (
	"reflect"
	"testing"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

func TestGenerate_IsDeterministic(t *testing.T) {
	a, b := simulator.Generate(20, 16), simulator.Generate(20, 16)
	if !reflect.DeepEqual(a, b) {
		t.Error("two tenants differ")
	}
	scores, ids := map[simulator.Score]bool{}, map[string]bool{}
	for _, s := range a.Subscriptions {
		scores[s.Score()] = true
		for _, c := range s.Controls {
			ids[s.ID+c.ID] = true
		}
	}
	if len(scores) != 20 || len(ids) != 20*16 {
		t.Errorf("%d different scores and %d different controls, want 20 and 320", len(scores), len(ids))
	}
}
