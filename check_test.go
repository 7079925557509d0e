package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// check names everything that keeps scores from being read and how to fix it, and nothing else.
func TestCheck(t *testing.T) {
	t.Parallel()
	const assign = "az role assignment create --role Reader --assignee-object-id " + simulator.ObjectID + " --assignee-principal-type ServicePrincipal --scope /subscriptions/"
	const secretKind = "ClientSecretCredential, tenant " + simulator.TenantID + ", client " + simulator.ClientID + ", object " + simulator.ObjectID
	first := simulator.Generate(3, 2).Subscriptions[0].ID
	all := func(faults map[string]simulator.Fault) simulator.Tenant {
		tenant := simulator.Generate(3, 2)
		tenant.Faults = faults
		return tenant
	}
	emptyGroup := all(nil)
	emptyGroup.ManagementGroups = map[string][]string{"empty": nil}
	one := func(fault simulator.Fault) simulator.Tenant { return all(map[string]simulator.Fault{first: fault}) }

	for _, test := range []struct {
		name   string
		tenant simulator.Tenant
		token  simulator.Fault
		env    []string
		args   []string
		code   int
		want   []string
	}{
		{name: "healthy", tenant: all(nil), want: []string{
			"configuration      ✓  https://127.0.0.1:", "credential         ✓  " + secretKind, "subscription list  ✓  3 to read", first + "  ✓       ✓         Subscription 0001", "3 of 3 subscriptions are in order",
		}},
		{name: "workload identity", tenant: all(nil), env: []string{
			"AZURE_TOKEN_CREDENTIALS=WorkloadIdentityCredential", "AZURE_FEDERATED_TOKEN_FILE=" + write(t, "token", []byte(simulator.FederatedToken)),
		}, want: []string{"credential         ✓  WorkloadIdentityCredential, tenant"}},
		{name: "demo, with one of every kind", tenant: simulator.Demo(), code: 1, want: []string{
			simulator.DemoForbiddenID + "  ✗ forbidden  ✗ forbidden  Contoso Finance", assign + simulator.DemoForbiddenID + "\n",
			"Microsoft.Security/secureScores/read is missing: HTTP 403 AuthorizationFailed", simulator.DemoUnscoredID + "  ✓ none ", simulator.DemoDisabledID + "  –            –            Contoso Old Datacentre (Disabled)",
			"8 of 9 subscriptions are in order",
		}},
		{name: "unscored and disabled are no failures", tenant: simulator.Demo(), args: []string{"--azure.subscription-id=" + simulator.DemoUnscoredID, "--azure.subscription-id=" + simulator.DemoDisabledID}, want: []string{
			"2 subscriptions by ID", "2 of 2 subscriptions are in order",
		}},
		{name: "no such subscription", tenant: all(nil), args: []string{"--azure.subscription-id=" + simulator.DemoSampleID}, code: 1, want: []string{"✗ not_found", "check --azure.subscription-id; if it exists: " + assign + simulator.DemoSampleID}},
		{name: "not registered", tenant: one(simulator.NotRegistered()), code: 1, want: []string{"✗ not_registered", "az provider register --namespace Microsoft.Security --subscription " + first, "2 of 3"}},
		{name: "malformed response", tenant: one(simulator.Garbage()), code: 1, want: []string{"✗ invalid_response"}},
		{name: "expired secret", tenant: all(nil), token: simulator.ExpiredSecret(), code: 1, want: []string{
			"credential         ✗ authentication  the token endpoint answered HTTP 401 AADSTS7000222", "subscription list  ✗                 not asked for without a token", "renew the credential",
		}},
		{name: "no subscription", tenant: simulator.Tenant{}, code: 1, want: []string{"subscription list  ✗ forbidden  the identity sees no subscription", assign + "SUBSCRIPTION_ID"}},
		{name: "no subscription below a group", tenant: emptyGroup, args: []string{"--azure.management-group=empty"}, code: 1, want: []string{
			"subscription list  ✗ forbidden  the identity sees no subscription", strings.Replace(assign, "/subscriptions/", "/providers/Microsoft.Management/managementGroups/empty\n", 1),
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			sim := startAzure(t, test.tenant)
			sim.SetTokenFault(test.token)
			env := append(append(secretEnv(), trust(t, sim)), test.env...)
			args := append(append(cloudFlags(sim), "check"), test.args...)
			code, stdout, stderr := runToEnd(t, env, args...)
			if code != test.code || stderr != "" {
				t.Errorf("exit code %d, want %d; standard error %q", code, test.code, stderr)
			}
			for _, want := range test.want {
				if !strings.Contains(stdout, want) {
					t.Errorf("no %q in\n%s", want, stdout)
				}
			}
			if test.code == 0 && (strings.Contains(stdout, "✗") || strings.Contains(stdout, "az ")) {
				t.Errorf("a failure where there is none:\n%s", stdout)
			}

			code, document, stderr := runToEnd(t, env, append(args, "--output=json")...)
			if code != test.code || stderr != "" {
				t.Errorf("as JSON: exit code %d, standard error %q", code, stderr)
			}
			var report azure.Report
			if err := json.Unmarshal([]byte(document), &report); err != nil {
				t.Fatal(err)
			}
			if report.OK != (test.code == 0) {
				t.Errorf("as JSON, ok is %t", report.OK)
			}
			// Both formats have the same content.
			for _, s := range report.Subscriptions {
				if !strings.Contains(stdout, s.ID) || s.Scores != nil && !strings.Contains(stdout, s.Scores.Fix) {
					t.Errorf("the table lacks %+v", s)
				}
			}
			for _, secret := range []string{simulator.TokenPrefix, simulator.ClientSecret, simulator.FederatedToken, "\x1b"} {
				if strings.Contains(stdout+document, secret) {
					t.Errorf("%q in\n%s\n%s", secret, stdout, document)
				}
			}
		})
	}
}
