//go:build e2e

package dashboards

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// Owners receive their alerts, and info never reaches the default receiver.
func TestAlertmanager_Routes(t *testing.T) {
	t.Parallel()
	for labels, want := range map[string]string{
		"category=score severity=warning":                                  "security",
		"category=score severity=warning subscription_owner=payments":      "payments",
		"category=score severity=info subscription_owner=payments":         "payments",
		"category=score severity=info subscription_owner=other":            "dashboards-only",
		"category=score severity=info":                                     "dashboards-only",
		"category=collection severity=critical":                            "operations",
		"category=collection severity=warning subscription_owner=payments": "operations",
	} {
		args := append([]string{"config", "routes", "test", "--config.file=alertmanager.yml"}, strings.Fields(labels)...)
		out, err := exec.Command("amtool", args...).Output()
		if got := strings.TrimSpace(string(out)); err != nil || got != want {
			t.Errorf("%s: got the receiver %q (%v), want %s", labels, got, err, want)
		}
	}
}

// A drop is notified at the highest level. What it does not explain is notified too.
func TestAlertmanager_Inhibition(t *testing.T) {
	t.Parallel()
	subscription := map[string]string{"initiative": "ascScore", "subscription_owner": "team-a", "subscription_id": "one"}
	owner := map[string]string{"initiative": "ascScore", "subscription_owner": "team-a"}
	initiative := map[string]string{"initiative": "ascScore"}
	job := map[string]string{"job": "a"}
	for _, test := range []struct {
		name           string
		alerts         map[string]map[string]string // labels by name
		wantSuppressed []string
	}{
		{"the estate dropped", map[string]map[string]string{
			"EstateDropped": initiative, "ControlDropped": initiative, "OwnerDropped": owner, "SubscriptionDropped": subscription, "Lost": subscription,
		}, []string{"ControlDropped", "OwnerDropped", "SubscriptionDropped"}},
		{"the estate of another initiative dropped", map[string]map[string]string{
			"EstateDropped": {"initiative": "custom"}, "SubscriptionDropped": subscription,
		}, nil},
		{"a control dropped, and an owner elsewhere", map[string]map[string]string{
			"ControlDropped": initiative, "OwnerDropped": owner,
		}, nil},
		{"an owner dropped", map[string]map[string]string{"OwnerDropped": owner, "SubscriptionDropped": subscription}, []string{"SubscriptionDropped"}},
		{"another owner dropped", map[string]map[string]string{
			"OwnerDropped": owner, "SubscriptionDropped": {"initiative": "ascScore", "subscription_owner": "team-b"},
		}, nil},
		{"a subscription without an owner dropped", map[string]map[string]string{
			"OwnerDropped": owner, "SubscriptionDropped": initiative,
		}, nil},
		{"nothing is collected", map[string]map[string]string{
			"NothingCollected": job, "CollectionIncomplete": job, "SubscriptionFailing": job, "RecommendationsOld": job,
		}, []string{"CollectionIncomplete", "RecommendationsOld", "SubscriptionFailing"}},
		{"another job collects nothing", map[string]map[string]string{
			"NothingCollected": job, "SubscriptionFailing": {"job": "b"},
		}, nil},
		{"many subscriptions are missing", map[string]map[string]string{"SubscriptionsMissing": job, "Lost": subscription}, []string{"Lost"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a := startAlertmanager(t, startWebhook(t))
			var alerts []map[string]any
			for _, name := range slices.Sorted(maps.Keys(test.alerts)) {
				labels := maps.Clone(test.alerts[name])
				labels["alertname"] = "AzureSecureScore" + name
				labels["category"] = "score"
				if labels["job"] != "" {
					labels["category"] = "collection"
				}
				alerts = append(alerts, map[string]any{"labels": labels})
			}
			body, err := json.Marshal(alerts)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.Post("http://"+a.address+"/api/v2/alerts", "application/json", bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK {
				t.Fatalf("%s (%v)", resp.Status, err)
			}
			eventually(t, fmt.Sprintf("only %v are suppressed", test.wantSuppressed), func() error {
				all, err := a.alerts(`alertname=~"AzureSecureScore.+"`)
				var suppressed []string
				for _, alert := range all {
					if alert.Status.State == "suppressed" {
						suppressed = append(suppressed, strings.TrimPrefix(alert.Labels["alertname"], "AzureSecureScore"))
					} else if alert.Status.State != "active" {
						return fmt.Errorf("%v is %s", alert.Labels, alert.Status.State)
					}
				}
				slices.Sort(suppressed)
				if err == nil && (len(all) != len(alerts) || !slices.Equal(suppressed, test.wantSuppressed)) {
					err = fmt.Errorf("got %v of %d", suppressed, len(all))
				}
				return err
			})
		})
	}
}
