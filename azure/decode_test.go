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
				if ReasonOf(result.Err) != ReasonInvalidResponse || Cause(result.Err) != causeTooLarge {
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

// Only an array in value is a list: anything else must not look like a subscription without a
// score, or like an identity that sees nothing.
func TestDecode_OnlyAnArrayIsAList(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		``, `null`, `{}`, `[]`, `"value"`, `{"value":null}`, `{"value":{}}`, `{"value":"x"}`, `{"values":[]}`, `{"value":[],"value":null}`,
		`{"error":{"code":"AuthorizationFailed","message":"…"}}`, `{"Error":{"Code":"InternalServerError"}}`, `{"message":"An error has occurred."}`,
		`{"code":"Forbidden"}`, `{"value":[],"error":{"code":"InternalServerError"}}`, `{"value":[],"error":{"message":"…"}}`, `{"value":[],"error":"…"}`,
		`{"value":[],"nextLink":{}}`, `<html></html>`, `{"value":[null]}`, `{"value":[{}]}`, `{"value":["x"]}`, `{"value":[[]]}`,
	} {
		t.Run(body, func(t *testing.T) {
			t.Parallel()
			tenant := simulator.Generate(1, 1)
			id := ids(tenant)[0]
			sim, client := start(t, tenant, Config{})
			ctx := within(t, 20*time.Second)
			fault := simulator.Body(200, "application/json", body)
			sim.SetFault(id, fault)
			result := client.SecureScores(ctx, ids(tenant))[0]
			if ReasonOf(result.Err) != ReasonInvalidResponse {
				t.Errorf("scores: %v", result.Err)
			}
			if report := client.Check(ctx, func(int) {}, func() {}); report.OK {
				t.Errorf("check: %+v", report)
			}
			sim.SetListFault(fault)
			if got, err := client.Subscriptions(ctx); ReasonOf(err) != ReasonInvalidResponse {
				t.Errorf("subscriptions: %v, %v", got, err)
			}
			if body == `{"value":[{}]}` {
				return // an export takes any object
			}
			if exported := client.Export(ctx, SecureScores, ids(tenant), func() {})[0]; ReasonOf(exported.Err) != ReasonInvalidResponse {
				t.Errorf("export: %v", exported.Err)
			}
		})
	}
}

func TestDecode_ListThatIsAnErrorShowsItsCode(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(1, 1)
	sim, client := start(t, tenant, Config{})
	sim.SetFault(ids(tenant)[0], simulator.Body(200, "application/json", `{"error":{"code":"Internal Server Error"}}`))
	result := client.SecureScores(within(t, 20*time.Second), ids(tenant))[0]
	if !strings.HasSuffix(result.Err.Error(), "an error instead of a list: Internal Server Error") || Cause(result.Err) != "not_a_list" {
		t.Errorf("got %v (%s)", result.Err, Cause(result.Err))
	}
}
