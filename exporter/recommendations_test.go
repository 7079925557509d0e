package exporter

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// startWithRecommendations starts an exporter whose quota windows are short: a refresh leaves the
// first one to the scores.
func startWithRecommendations(t *testing.T, tenant simulator.Tenant, cfg Config) *system {
	t.Helper()
	return startWithRecommendationsFrom(t, tenant, cfg, func(c *azure.Client) Source { return c })
}

func startWithRecommendationsFrom(t *testing.T, tenant simulator.Tenant, cfg Config, source func(*azure.Client) Source) *system {
	t.Helper()
	started := time.Now()
	tenant.Now = func() time.Time { return epoch.Add(time.Since(started)) } // windows end, figures do not drift
	tenant.ResourceGraph.Window = time.Second
	return startFrom(t, tenant, cfg, azure.Config{}, source)
}

// scrapeWithRecommendations scrapes until a refresh has ended.
func (s *system) scrapeWithRecommendations(t *testing.T) []string {
	t.Helper()
	s.scrape(t, "10")
	waitFor(t, func() bool { return s.exporter.cache.latest().recommendations != nil })
	return s.scrape(t, "10")
}

var seriesLabels = regexp.MustCompile(`(\w+)="((?:[^"\\]|\\.)*)"`)

// labelsOf returns the labels and the value of a series.
func labelsOf(t *testing.T, line string) (map[string]string, float64) {
	t.Helper()
	labels := map[string]string{}
	for _, match := range seriesLabels.FindAllStringSubmatch(line, -1) {
		labels[match[1]] = match[2]
	}
	value, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
	if err != nil {
		t.Fatal(err)
	}
	return labels, value
}

func TestRecommendations_Golden(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{RecommendationsFull, RecommendationsSummary} {
		cfg := DefaultConfig()
		cfg.Recommendations = mode
		cfg.MaxRecommendations = 4
		s := startWithRecommendations(t, simulator.Demo(), cfg)
		var lines []string
		for _, line := range containing(s.scrapeWithRecommendations(t), "recommendation") {
			lines = append(lines, regexp.MustCompile(`^(azure_secure_score_recommendations_last_success_timestamp_seconds) .*`).ReplaceAllString(line, "$1 TIMESTAMP"))
		}
		golden(t, "recommendations "+mode, lines)
	}
}

// A refresh never touches anything else, whether it works or fails.
func TestRecommendations_LeaveScoresAlone(t *testing.T) {
	t.Parallel()
	others := func(lines []string) string {
		var kept []string
		for _, line := range lines {
			if !strings.Contains(line, "recommendation") && !regexp.MustCompile(`_total|timestamp_seconds|duration_seconds|quota|build_info`).MatchString(line) {
				kept = append(kept, line)
			}
		}
		return strings.Join(kept, "\n")
	}
	tenant := simulator.Generate(3, 4)
	simulator.GenerateAssessments(&tenant, 10)
	off := others(start(t, tenant, DefaultConfig(), azure.Config{}).scrape(t, "10"))
	for name, fault := range map[string]simulator.Fault{
		"works": nil, "forbidden": simulator.Forbidden(), "throttled": simulator.Throttle(-1, time.Hour), "hangs": simulator.Hang(),
		"server error": simulator.ServerError(500), "garbage": simulator.Garbage(), "huge": simulator.Huge(1<<30, false),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startWithRecommendations(t, tenant, DefaultConfig())
			s.SetGraphFault(fault)
			s.scrape(t, "10")
			ends := name != "hangs" && name != "throttled" && name != "huge" // within seconds
			if ends {
				waitFor(t, func() bool { return s.exporter.cache.latest().recommendations != nil })
			}
			lines := s.scrape(t, "10")
			if got := others(lines); got != off {
				t.Errorf("other series differ:\n%s", difference(off, got))
			}
			want := map[bool]int{true: 3}[ends && name != "works"]
			if got := count(lines, "recommendations_scrape_failure"); got != want {
				t.Errorf("%d failures, want %d:\n%s", got, want, strings.Join(containing(lines, "recommendations"), "\n"))
			}
		})
	}
}

// No bound exceeds what its control lacks, and every recommendation has one info.
func TestRecommendations_Bounds(t *testing.T) {
	t.Parallel()
	cfg := DefaultConfig()
	cfg.MaxRecommendations = 1000
	s := startWithRecommendations(t, simulator.Demo(), cfg)
	lines := s.scrapeWithRecommendations(t)
	points := map[string]float64{}
	for _, line := range containing(lines, "azure_secure_score_control_") {
		if strings.HasPrefix(line, "#") {
			continue
		}
		l, v := labelsOf(t, line)
		key := l["subscription_id"] + l["connector"] + l["control_id"]
		switch {
		case strings.HasPrefix(line, prefix+"control_max{"):
			points[key] += v
		case strings.HasPrefix(line, prefix+"control_current{"):
			points[key] -= v
		}
	}
	bounds := 0
	for _, line := range containing(lines, prefix+"recommendation_max_increase{") {
		l, v := labelsOf(t, line)
		bounds++
		if lack := points[l["subscription_id"]+l["connector"]+l["control_id"]]; v < 0 || v > lack+1e-9 {
			t.Errorf("bound %g of %g points: %s", v, lack, line)
		}
	}
	if bounds < 20 {
		t.Errorf("%d bounds", bounds)
	}
	infos, previews := map[string]int{}, map[string]bool{}
	for _, line := range containing(lines, prefix+"recommendation_info{") {
		l, _ := labelsOf(t, line)
		infos[l["recommendation_id"]]++
		previews[l["recommendation_id"]] = l["preview"] == "true"
	}
	for _, line := range containing(lines, prefix+"recommendation_max_increase{") {
		if l, _ := labelsOf(t, line); previews[l["recommendation_id"]] {
			t.Errorf("a preview has a bound: %s", line)
		}
	}
	for _, line := range containing(lines, `state="unhealthy"`) {
		if l, _ := labelsOf(t, line); strings.HasPrefix(line, prefix+"recommendation_resources") && infos[l["recommendation_id"]] != 1 {
			t.Errorf("%d infos of %s", infos[l["recommendation_id"]], l["recommendation_id"])
		}
	}
}

// Fixing every unhealthy resource of a control gains exactly the points that it lacks.
func TestRecommendations_FixingAllGainsAll(t *testing.T) {
	t.Parallel()
	for healthy := range 20 {
		for unhealthy := range 20 {
			c := &control{Points: azure.Points{Max: 8}, hasPoints: true, healthy: float64(healthy), unhealthy: float64(unhealthy)}
			if n := healthy + unhealthy; n > 0 {
				c.Current = c.Max * float64(healthy) / float64(n)
			}
			want := c.Max - c.Current
			if healthy+unhealthy == 0 {
				want = 0
			}
			for _, all := range []uint32{uint32(unhealthy), uint32(unhealthy) + 7} {
				if got := c.maxIncrease(all); math.Abs(got-want) > 1e-9 {
					t.Errorf("%d healthy, %d unhealthy, %d fixed: %g, want %g", healthy, unhealthy, all, got, want)
				}
			}
		}
	}
}

// The maximum keeps the most urgent ones and sums up the others.
func TestRecommendations_Maximum(t *testing.T) {
	t.Parallel()
	for unhealthy, want := range map[int]struct{ shown, folded int }{25: {25, 0}, 26: {25, 1}} {
		tenant := simulator.Generate(1, 4)
		simulator.GenerateAssessments(&tenant, unhealthy)
		s := startWithRecommendations(t, tenant, DefaultConfig())
		lines := s.scrapeWithRecommendations(t)
		if got := len(containing(containing(lines, prefix+"recommendation_resources{"), `state="unhealthy"`)); got != want.shown+want.folded {
			t.Errorf("%d recommendations: %d series, want %d", unhealthy, got, want.shown+want.folded)
		}
		if got := value(lines, prefix+"recommendations_folded"); got != fmt.Sprint(want.folded) {
			t.Errorf("%d recommendations: %s folded, want %d", unhealthy, got, want.folded)
		}
		if got := len(containing(containing(lines, prefix+"recommendation_info{"), `recommendation_id="other"`)); got != want.folded {
			t.Errorf("%d recommendations: %d infos of the others", unhealthy, got)
		}
	}
}

// A refresh that could read nothing, or got an answer that makes no sense, is no success. One that
// Azure refuses some subscriptions is.
func TestRecommendations_LastSuccess(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(3, 4)
	simulator.GenerateAssessments(&tenant, 10)
	for name, test := range map[string]struct {
		fault   simulator.Fault
		success bool
	}{
		"all are read":         {nil, true},
		"one is forbidden":     {simulator.OnAssessments(simulator.DropRows(tenant.Subscriptions[0].ID)), true},
		"all are forbidden":    {simulator.Forbidden(), false},
		"the query is refused": {simulator.Error(400, "BadRequest", "…"), false},
		"a portal answers":     {simulator.Body(200, "text/html", "<html>"), false},
		"server error":         {simulator.ServerError(500), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startWithRecommendations(t, tenant, DefaultConfig())
			s.SetGraphFault(test.fault)
			lines := s.scrapeWithRecommendations(t)
			if got := value(lines, prefix+"recommendations_last_success_timestamp_seconds") != ""; got != test.success {
				t.Errorf("success %t, want %t:\n%s", got, test.success, strings.Join(containing(lines, "recommendations_"), "\n"))
			}
		})
	}
}

// When nothing could be read for more than a day, the series vanish. They do not become 0.
func TestRecommendations_Expire(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(2, 4)
	simulator.GenerateAssessments(&tenant, 10)
	s := startWithRecommendations(t, tenant, DefaultConfig())
	if lines := s.scrapeWithRecommendations(t); count(lines, "recommendation_info") == 0 {
		t.Fatalf("no recommendations:\n%s", strings.Join(lines, "\n"))
	}
	s.SetTokenFault(simulator.ExpiredSecret())
	s.ExpireTokens()
	s.advance(25 * time.Hour)
	lines := s.scrape(t, "10")
	if got := containing(lines, prefix+"unhealthy_recommendations{"); len(got) != 0 || count(lines, "recommendation_info") != 0 {
		t.Errorf("served after 25 hours: %v", got)
	}
}
