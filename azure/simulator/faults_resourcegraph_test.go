package simulator_test

import (
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

func TestFaults_OfResourceGraph(t *testing.T) {
	for _, test := range []struct {
		name   string
		fault  simulator.Fault
		status int
		want   string // part of the body for three subscriptions
		small  int    // status for two
	}{
		{"payload too large", simulator.PayloadTooLarge(2), 400, `"code":"ResponsePayloadTooLarge"`, 200},
		{"gateway timeout", simulator.GatewayTimeout(2), 504, `"code":"GatewayTimeout"`, 200},
		{"truncated", simulator.ResultTruncated(2), 200, `"resultTruncated":"true"}`, 200},
		{"throttled", simulator.Throttle(-1, 3*time.Second), 429, `"code":"RateLimiting"`, 429},
		{"forbidden", simulator.Forbidden(), 403, `"code":"AccessDenied"`, 403},
		{"no valid subscriptions", simulator.NoValidSubscriptions(), 400, `{"error":{"code":"BadRequest","details":[{"code":"NoValidSubscriptionsInQueryRequest"`, 400},
		{"garbage", simulator.Garbage(), 200, `<!DOCTYPE html>`, 200},
		{"null score", simulator.NullScore(), 200, `"score":null`, 200},
	} {
		t.Run(test.name, func(t *testing.T) {
			tenant := generous(simulator.Generate(3, 1))
			a, c := start(t, tenant)
			a.SetGraphFault(test.fault)
			response, body := c.refusal(object{"query": packedQuery, "subscriptions": idsOf(tenant)})
			if response.StatusCode != test.status || !strings.Contains(body, test.want) {
				t.Errorf("got %d %s, want %d with %s", response.StatusCode, body, test.status, test.want)
			}
			response, body = c.refusal(object{"query": packedQuery, "subscriptions": idsOf(tenant)[:2]})
			if response.StatusCode != test.small || strings.Contains(body, `"resultTruncated":"true"`) {
				t.Errorf("smaller: got %d %s, want %d", response.StatusCode, body, test.small)
			}
			a.SetGraphFault(nil)
			if got := c.query(object{"query": packedQuery}); got.Count != 3 {
				t.Errorf("healthy: %d rows", got.Count)
			}
		})
	}

	t.Run("drop rows", func(t *testing.T) {
		tenant := generous(simulator.Generate(3, 1))
		a, c := start(t, tenant)
		a.SetGraphFault(simulator.DropRows(tenant.Subscriptions[1].ID))
		packed, plain := c.query(object{"query": packedQuery}), c.query(object{"query": plainQuery})
		if packed.TotalRecords != 2 || packed.Data[1].SubscriptionID != tenant.Subscriptions[2].ID || plain.TotalRecords != 4 || plain.Count != 4 {
			t.Errorf("packed %+v, plain %+v", packed, plain)
		}
	})

	t.Run("repeated token", func(t *testing.T) {
		a, c := start(t, generous(simulator.Generate(3, 1)))
		a.SetGraphFault(simulator.RepeatSkipToken())
		first := c.query(object{"query": plainQuery, "options": object{"$top": 2}})
		second := c.query(object{"query": plainQuery, "options": object{"$top": 2, "$skipToken": first.SkipToken}})
		if first.SkipToken == "" || !reflect.DeepEqual(first, second) {
			t.Errorf("%+v, then %+v", first, second)
		}
	})

	t.Run("cut short", func(t *testing.T) {
		a, c := start(t, generous(simulator.Generate(3, 1)))
		a.SetGraphFault(simulator.Truncated())
		response, err := c.post(graphPath, object{"query": packedQuery})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		if got, err := io.ReadAll(response.Body); err == nil {
			t.Errorf("got %d bytes and no error", len(got))
		}
	})
}

// A refused form of the packed query leaves the other forms healthy.
func TestFaults_OfPacking(t *testing.T) {
	form := func(query, function string) string { return strings.Replace(query, "bag_pack(", function+"(", 1) }
	queries := map[string]string{
		"scores bag_pack": packedQuery, "scores pack": form(packedQuery, "pack"), "scores plain": plainQuery,
		"containers bag_pack": packedSubscriptionsQuery, "containers pack": form(packedSubscriptionsQuery, "pack"),
		"containers plain": plainSubscriptionsQuery,
	}
	for name, test := range map[string]struct {
		fault   simulator.Fault
		refused []string
	}{
		"both": {
			simulator.RefusePacking(),
			[]string{"containers bag_pack", "containers pack", "scores bag_pack", "scores pack"},
		},
		"bag_pack": {simulator.RefuseBagPack(), []string{"containers bag_pack", "scores bag_pack"}},
	} {
		t.Run(name, func(t *testing.T) {
			a, c := start(t, generous(simulator.Generate(1, 1)))
			a.SetGraphFault(test.fault)
			var refused []string
			for _, form := range slices.Sorted(maps.Keys(queries)) {
				response, body := c.refusal(object{"query": queries[form]})
				if response.StatusCode == 400 && strings.Contains(body, `"code":"InvalidQuery"`) {
					refused = append(refused, form)
				} else if response.StatusCode != 200 {
					t.Errorf("%s: %d %s", form, response.StatusCode, body)
				}
			}
			if !slices.Equal(refused, test.refused) {
				t.Errorf("refused %v, want %v", refused, test.refused)
			}
		})
	}
}
