package azure

import (
	"math"
	"strings"
	"testing"
	"unicode/utf8"
)

// Whatever Azure sends, the result is an error or values that are fit for metrics.
func FuzzScores(f *testing.F) {
	f.Add([]byte(`[{"id":"/subscriptions/x/providers/Microsoft.Security/secureScores/ascScore","name":"ascScore","properties":{"displayName":"ASC score","score":{"max":55,"current":37.0}}}]`))
	f.Add([]byte(`[{"properties":{"score":{"max":39,"current":23.53,"percentage":0.6033},"weight":67}}]`))
	f.Add([]byte(`[{"properties":{"score":null}},{"name":"\u0000\n","properties":{"score":{"max":-1}}}]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var items []scoreItem
		if decode(body, &items, scoreLimits.items) != nil {
			return
		}
		got, err := parseScores("x", items)
		if err != nil && ReasonOf(err) != ReasonInvalidResponse {
			t.Errorf("reason %q", ReasonOf(err))
		}
		checkScores(t, got)
	})
}

func checkScores(t *testing.T, scores []Score) {
	for _, s := range scores {
		checkNumbers(t, s.Current, s.Max, s.Ratio, s.Weight)
		checkLabels(t, s.Initiative, s.Environment)
		if s.Initiative == "" || s.Environment == "" {
			t.Errorf("no initiative or environment: %+v", s)
		}
	}
}

func FuzzControls(f *testing.F) {
	f.Add([]byte(`[{"id":"/subscriptions/x/providers/Microsoft.Security/secureScores/ascScore/secureScoreControls/a9909064-42b4-4d34-8143-275477afe18b","name":"a9909064-42b4-4d34-8143-275477afe18b","properties":{"displayName":"Protect applications against DDoS attacks","score":{"max":2,"current":0.0},"healthyResourceCount":0,"unhealthyResourceCount":0,"notApplicableResourceCount":1}}]`))
	f.Add([]byte(`[{"id":"/secureScores","properties":{"healthyResourceCount":1e300}},{"id":"x/"}]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var items []scoreItem
		if decode(body, &items, scoreLimits.items) != nil {
			return
		}
		got, err := parseControls("x", items)
		if err != nil && ReasonOf(err) != ReasonInvalidResponse {
			t.Errorf("reason %q", ReasonOf(err))
		}
		checkControls(t, got)
	})
}

func checkControls(t *testing.T, controls []Control) {
	for _, c := range controls {
		checkNumbers(t, c.Current, c.Max, c.Weight, c.Healthy, c.Unhealthy, c.NotApplicable)
		checkLabels(t, c.ID, c.Name, c.Initiative, c.Environment)
		if c.ID == "" || c.Initiative == "" || c.Environment == "" {
			t.Errorf("no ID, initiative or environment: %+v", c)
		}
	}
}

func checkNumbers(t *testing.T, numbers ...float64) {
	for _, n := range numbers {
		if math.IsNaN(n) || n < 0 || n > maxNumber {
			t.Errorf("number %g", n)
		}
	}
}

func checkLabels(t *testing.T, labels ...string) {
	for _, l := range labels {
		if !utf8.ValidString(l) || utf8.RuneCountInString(l) > maxLabel || strings.ContainsAny(l, "\n\r\x00\u2028\u202e") {
			t.Errorf("label %q", l)
		}
	}
}
