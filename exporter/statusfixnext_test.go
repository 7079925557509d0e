package exporter

import (
	"math"
	"strings"
	"testing"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// "Fix next" shows the controls by gain with their recommendations. Without recommendations the
// controls are listed alone.
func TestStatus_FixNext(t *testing.T) {
	t.Parallel()
	s := startWithRecommendations(t, simulator.Demo(), DefaultConfig())
	s.scrape(t, "10")
	_, _, page := s.get(t, "/status")
	if got := words(page); !strings.Contains(got, "Fix next") || !strings.Contains(got, "Remediate vulnerabilities") || strings.Contains(got, "should be") {
		t.Errorf("before the recommendations are read:\n%s", got)
	}
	s.scrapeWithRecommendations(t)
	_, _, page = s.get(t, "/status")
	for _, want := range []string{"should be", " high ", "more recommendations", "gains of single recommendations do not add up", "recomputes controls every 8 hours"} {
		if !strings.Contains(words(page), want) {
			t.Errorf("no %q in\n%s", want, words(page))
		}
	}
	if _, _, found := s.get(t, "/status?q=Contoso"); strings.Contains(found, "Fix next") {
		t.Error("Fix next is above search results")
	}
	_, _, detail := s.get(t, "/status?subscription="+simulator.DemoSampleID)
	for _, want := range []string{"Management ports should be closed on your virtual machines medium ≤ 2.7 4 ", "the bounds do not add up"} {
		if !strings.Contains(words(detail), want) {
			t.Errorf("no %q in\n%s", want, words(detail))
		}
	}
}

// The gains of all controls are what the total score lacks.
func TestStatus_FixNextGains(t *testing.T) {
	t.Parallel()
	s := startWithRecommendations(t, simulator.Generate(5, fixNextControls), DefaultConfig())
	s.scrape(t, "10")
	snapshot := s.exporter.cache.latest()
	gain := 0.0
	for _, f := range newFixNext(snapshot, newTotals(snapshot)) {
		gain += f.Gain
	}
	if lacks := 1 - newTotals(snapshot).sorted()[0].Ratio(); math.Abs(gain-lacks) > 1e-3 { // Azure rounds ratios
		t.Errorf("all controls gain %g, the total lacks %g", gain, lacks)
	}
}
