package simulator_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

func TestRegistration(t *testing.T) {
	tenant := simulator.Generate(3, 1)
	registered, unregistered, forbidden := &tenant.Subscriptions[0], &tenant.Subscriptions[1], &tenant.Subscriptions[2]
	unregistered.Unregistered, forbidden.NoAccess = true, true
	_, c := start(t, tenant)
	for _, test := range []struct {
		id     string
		status int
		want   string
	}{
		{registered.ID, http.StatusOK, `"registrationState":"Registered"`},
		{unregistered.ID, http.StatusOK, `"registrationState":"NotRegistered"`},
		{forbidden.ID, http.StatusForbidden, `"AuthorizationFailed"`},
		{"aaaaaaaa-0000-4000-8000-000000000001", http.StatusNotFound, `"SubscriptionNotFound"`},
	} {
		response, body := c.body("/subscriptions/" + test.id + "/providers/Microsoft.Security?api-version=2021-04-01")
		if response.StatusCode != test.status || !strings.Contains(body, test.want) {
			t.Errorf("%s: got %d %s, want %d with %s", test.id, response.StatusCode, body, test.status, test.want)
		}
	}
	for _, path := range []string{scoresPath(unregistered.ID), controlsPath(unregistered.ID)} {
		if response, body := c.body(path); response.StatusCode != http.StatusConflict || !strings.Contains(body, `"MissingSubscriptionRegistration"`) {
			t.Errorf("%s: got %d %s", path, response.StatusCode, body)
		}
	}
}
