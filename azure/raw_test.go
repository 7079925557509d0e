package azure

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

func TestGet_ReturnsEveryStatus(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(1, 2)
	sim, client := start(t, tenant, Config{})
	const target = "/subscriptions?api-version=2022-12-01"
	resp, err := client.Get(within(t, 10*time.Second), target)
	if err != nil || resp.Status != http.StatusOK || !strings.Contains(string(resp.Body), tenant.Subscriptions[0].ID) {
		t.Errorf("got %d %s, %v", resp.Status, resp.Body, err)
	}
	if resp.Header.Get("x-ms-ratelimit-remaining-tenant-reads") == "" {
		t.Errorf("the headers are %v", resp.Header)
	}
	sim.SetListFault(simulator.Forbidden())
	if resp, err = client.Get(within(t, 10*time.Second), target); err != nil || resp.Status != http.StatusForbidden || len(resp.Body) == 0 {
		t.Errorf("got %d %s, %v", resp.Status, resp.Body, err)
	}
	sim.SetListFault(simulator.Truncated())
	if _, err = client.Get(within(t, 10*time.Second), target); ReasonOf(err) != ReasonNetwork {
		t.Errorf("got %v, want a broken connection", err)
	}
}

// The target cannot send the token to another host.
func TestGet_OnlyARM(t *testing.T) {
	t.Parallel()
	sim, client := start(t, simulator.Generate(1, 1), Config{})
	for _, target := range []string{"https://example.org/", "//example.org/", "//user@example.org/x", "example.org", "", "?a=b", "\x00"} {
		if resp, err := client.Get(within(t, 10*time.Second), target); ReasonOf(err) != ReasonInvalidResponse {
			t.Errorf("%q: got %d, %v", target, resp.Status, err)
		}
	}
	if requests := sim.Requests(); len(requests) != 0 {
		t.Errorf("the requests %v were sent", requests)
	}
}

func TestQueryResourceGraph_Pages(t *testing.T) {
	t.Parallel()
	_, client := start(t, simulator.Generate(3, 1), Config{})
	first, err := client.QueryResourceGraph(within(t, 10*time.Second), Queries["plain"], nil, 2, "")
	if err != nil || first.Status != http.StatusOK {
		t.Fatalf("got %d %s, %v", first.Status, first.Body, err)
	}
	var page struct {
		TotalRecords int               `json:"totalRecords"`
		Data         []json.RawMessage `json:"data"`
		SkipToken    string            `json:"$skipToken"`
	}
	if err := json.Unmarshal(first.Body, &page); err != nil || len(page.Data) != 2 || page.TotalRecords != 6 || page.SkipToken == "" {
		t.Fatalf("got %s, %v", first.Body, err)
	}
	next, err := client.QueryResourceGraph(within(t, 10*time.Second), Queries["plain"], nil, 2, page.SkipToken)
	if err != nil || next.Status != http.StatusOK || string(next.Body) == string(first.Body) {
		t.Errorf("got %d %s, %v", next.Status, next.Body, err)
	}
}
