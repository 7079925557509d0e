package azure

import (
	"bytes"
	"net/http"
	"regexp"
	"testing"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

func TestResourceGraphRows_InvalidRowFailsAlone(t *testing.T) {
	t.Parallel()
	const other = "99999999-0000-4000-8000-000000000000"
	for name, test := range map[string]struct{ pattern, replacement string }{
		"text for a number":    {`"max":`, `"max":"x","ignored":`},
		"negative number":      {`"max":`, `"max":-1,"ignored":`},
		"other subscription":   {`"id":"/subscriptions/[^/]+`, `"id":"/subscriptions/` + other},
		"items is null":        {`"items":\[`, `"items":null,"ignored":[`},
		"items is an object":   {`"items":\[`, `"items":{},"ignored":[`},
		"items is missing":     {`"items":\[`, `"ignored":[`},
		"items has null in it": {`"items":\[`, `"items":[null,`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenant := simulator.Generate(5, 2)
			sim, g := startGraph(t, tenant, Config{})
			pattern := regexp.MustCompile(test.pattern)
			sim.SetGraphFault(simulator.Rewrite(func(_ *http.Request, body []byte) []byte {
				first := pattern.FindIndex(body)
				return bytes.Join([][]byte{body[:first[0]], []byte(test.replacement), body[first[1]:]}, nil)
			}))
			failed := 0
			for _, result := range g.SecureScores(within(t, time.Minute), ids(tenant)) {
				if result.Err != nil {
					failed++
					if ReasonOf(result.Err) != ReasonInvalidResponse {
						t.Errorf("got %v", result.Err)
					}
				}
			}
			if failed != 1 {
				t.Errorf("%d subscriptions failed, want 1", failed)
			}
			if asked := sim.Requests()[simulator.RouteSecureScores]; asked != 0 {
				t.Errorf("ARM was asked %d times", asked)
			}
		})
	}
}
