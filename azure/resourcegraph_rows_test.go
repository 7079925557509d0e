package azure

import (
	"bytes"
	"fmt"
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

// FuzzGraphPage: whatever Resource Graph sends, each subscription gets an error or values that are fit
// for metrics.
func FuzzGraphPage(f *testing.F) {
	const item = `{"type":"microsoft.security/securescores","id":"/subscriptions/x/providers/Microsoft.Security/secureScores/ascScore","name":"ascScore","score":{"max":39,"current":23.53,"percentage":0.6033},"weight":67}`
	const control = `{"type":"microsoft.security/securescores/securescorecontrols","name":"c","displayName":"\u202e","healthy":1e300}`
	f.Add([]byte(fmt.Sprintf(`{"totalRecords":1,"count":1,"data":[{"subscriptionId":"X","items":[%s,%s]}],"resultTruncated":"false"}`, item, control)))
	f.Add([]byte(`{"totalRecords":1,"data":[{"subscriptionId":"x",` + item[1:] + `],"$skipToken":"t"}`))
	f.Add([]byte(`{"data":[{"subscriptionId":"x","items":null},{"subscriptionId":"y","items":[{"score":{"max":"1"}}]},7,null]}`))
	f.Add([]byte(`{"data":null,"error":{"code":"BadRequest"}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		page, err := decodePage(body)
		answer := graphAnswer{subscriptions: map[string]*graphItems{}}
		if err == nil {
			err = answer.add(page.rows)
		}
		if err != nil && ReasonOf(err) != ReasonInvalidResponse {
			t.Errorf("reason %q", ReasonOf(err))
		}
		for id, items := range answer.subscriptions {
			scores, controls, err := items.parse(id)
			if err != nil {
				if ReasonOf(err) != ReasonInvalidResponse {
					t.Errorf("reason %q", ReasonOf(err))
				}
				continue
			}
			checkScores(t, scores)
			checkControls(t, controls)
		}
	})
}
