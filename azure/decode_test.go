package azure

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// Many small items are refused before they take memory, at any depth.
func TestDecode_ItemsAreBounded(t *testing.T) {
	t.Parallel()
	objects, nulls := strings.Repeat("{},", 2_000_000), strings.Repeat("null,", 1_000_000)
	for name, body := range map[string]string{
		"objects": `{"value":[` + objects + `{}]}`,
		"nulls":   `{"value":[` + nulls + `null]}`,
		"rows":    `{"totalRecords":1,"data":[` + objects + `{}]}`,
		"packed":  `{"totalRecords":1,"data":[{"subscriptionId":"x","items":[` + objects + `{}]}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			tenant := simulator.Generate(1, 1)
			sim, client := start(t, tenant, Config{})
			sim.SetFault(ids(tenant)[0], simulator.Body(200, "application/json", body))
			sim.SetGraphFault(simulator.Body(200, "application/json", body))
			for source, read := range map[string]func(context.Context, []string) []Result{
				"ARM": client.SecureScores, "Resource Graph": NewResourceGraph(client).SecureScores,
			} {
				result := read(within(t, 20*time.Second), ids(tenant))[0]
				if ReasonOf(result.Err) != ReasonInvalidResponse || !strings.Contains(result.Err.Error(), "items") {
					t.Errorf("%s: %v", source, result.Err)
				}
			}
		})
	}
}

func TestCountElements(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		`{"value":[]}`: 1, `{"value":[{"a":1,"b":[2,3]},{}]}`: 4, `["a,[b\"",",,"]`: 2, `]]}}`: 0, `"`: 0, `"\`: 0, ``: 0,
	} {
		if got := countElements([]byte(text)); got != want {
			t.Errorf("%s: %d elements, want %d", text, got, want)
		}
	}
}
