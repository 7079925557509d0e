package azure

import (
	"bytes"
	"net/http"
	"testing"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

func TestResourceGraphRows_InvalidRowFailsAlone(t *testing.T) {
	t.Parallel()
	for name, replacement := range map[string]string{
		"text for a number": `"max":"x","ignored":`,
		"negative number":   `"max":-1,"ignored":`,
	} {
		tenant := simulator.Generate(5, 2)
		sim, g := startGraph(t, tenant, Config{})
		sim.SetGraphFault(simulator.Rewrite(func(_ *http.Request, body []byte) []byte {
			return bytes.Replace(body, []byte(`"max":`), []byte(replacement), 1)
		}))
		failed := 0
		for _, result := range g.SecureScores(within(t, time.Minute), ids(tenant)) {
			if result.Err != nil {
				failed++
				if ReasonOf(result.Err) != ReasonInvalidResponse {
					t.Errorf("%s: %v", name, result.Err)
				}
			}
		}
		if failed != 1 {
			t.Errorf("%s: %d subscriptions failed, want 1", name, failed)
		}
	}
}
