package simulator_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

func TestScore_Formula(t *testing.T) {
	for _, test := range []struct {
		name    string
		control simulator.Control
		want    simulator.Score
	}{
		{"the documentation's example", simulator.Control{Max: 4, Healthy: 6, Unhealthy: 72}, simulator.Score{Max: 4, Current: 0.31, Ratio: 0.0775}},
		{"the specification's example", simulator.Control{Max: 4, Healthy: 5, Unhealthy: 1, NotApplicable: 3}, simulator.Score{Max: 4, Current: 3.33, Ratio: 0.8325}},
		{"all healthy", simulator.Control{Max: 10, Healthy: 3}, simulator.Score{Max: 10, Current: 10, Ratio: 1}},
		{"no resource that counts", simulator.Control{Max: 2, NotApplicable: 1}, simulator.Score{}},
		{"no points to earn", simulator.Control{Healthy: 7}, simulator.Score{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.control.Score(); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestAt_DriftKeepsTheWeight(t *testing.T) {
	begin := time.Date(2026, 6, 30, 0, 0, 0, 0, time.UTC)
	for _, s := range simulator.Demo().Subscriptions {
		seen := map[float64]bool{}
		for minute := range 120 {
			at := begin.Add(time.Duration(minute) * time.Minute)
			drifted := s.At(at)
			if again := s.At(at.In(time.FixedZone("elsewhere", 3600))); !reflect.DeepEqual(drifted, again) {
				t.Fatalf("%s differs from itself at %s", s.Name, at)
			}
			for i, c := range drifted.Controls {
				original := s.Controls[i]
				if c.Weight() != original.Weight() || c.Healthy < 0 || c.Unhealthy < 0 || c.NotApplicable != original.NotApplicable {
					t.Fatalf("%s: %+v became %+v", s.Name, original, c)
				}
				if moved := c.Healthy - original.Healthy; moved > original.Drift || -moved > original.Drift {
					t.Fatalf("%s: %d resources moved, want no more than %d", c.DisplayName, moved, original.Drift)
				}
			}
			seen[drifted.Score().Current] = true
		}
		moves := len(s.Controls) > 0 && s.ID != simulator.DemoSampleID
		if moves && len(seen) < 5 {
			t.Errorf("%s had only %d scores in two hours", s.Name, len(seen))
		}
		if !moves && len(seen) != 1 {
			t.Errorf("%s should not drift but had %d scores", s.Name, len(seen))
		}
	}
}
