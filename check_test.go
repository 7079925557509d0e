package main

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

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
		simulator.GenerateAssessments(&tenant, 1)
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
		graph  simulator.Fault
		env    []string
		args   []string
		code   int
		want   []string
	}{
		{name: "healthy", tenant: all(nil), want: []string{
			"configuration      ✓  https://127.0.0.1:", "credential         ✓  " + secretKind, "subscription list  ✓  3 to read", "\n✓ read  " + first + "  Subscription 0001\n", "\n3 subscriptions are readable.\n",
		}},
		{name: "workload identity", tenant: all(nil), env: []string{
			"AZURE_TOKEN_CREDENTIALS=WorkloadIdentityCredential", "AZURE_FEDERATED_TOKEN_FILE=" + write(t, "token", []byte(simulator.FederatedToken)),
		}, want: []string{"credential         ✓  WorkloadIdentityCredential, tenant"}},
		{name: "demo, with one of every kind", tenant: simulator.Demo(), code: 1, want: []string{
			"9 to read\nmanagement groups  ✓  3, above 9 of 9 subscriptions\n\n✗ forbidden  " + simulator.DemoForbiddenID + "  Contoso Finance\n✓ no score   " + simulator.DemoUnscoredID + "  Contoso Sandbox\n– Disabled   " + simulator.DemoDisabledID + "  Contoso Old Datacentre\n✓ read       ",
			"\n✗ forbidden: missing permission Microsoft.Security/secureScores/read: HTTP 403 AuthorizationFailed\n  where: " + simulator.DemoForbiddenID + "  Contoso Finance\n  fix:   " + assign + simulator.DemoForbiddenID + "\n",
			"\n✓ no score: Azure does not score the subscription. Foundational CSPM may be off.\n",
			"\n6 subscriptions are readable, 1 is failing, 1 has no score, 1 is disabled or deleted.\n",
		}},
		{name: "unscored and disabled are not failures", tenant: simulator.Demo(), args: []string{"--azure.subscription-id=" + simulator.DemoUnscoredID, "--azure.subscription-id=" + simulator.DemoDisabledID}, want: []string{
			"2 subscriptions by ID", "\n0 subscriptions are readable, 1 has no score, 1 is disabled or deleted.\n",
		}},
		{name: "no such subscription", tenant: all(nil), args: []string{"--azure.subscription-id=" + simulator.DemoSampleID}, code: 1, want: []string{"✗ not_found", "check --azure.subscription-id; if it exists: " + assign + simulator.DemoSampleID}},
		{name: "not registered", tenant: one(simulator.NotRegistered()), code: 1, want: []string{"✗ not_registered", "az provider register --namespace Microsoft.Security --subscription " + first, "2 subscriptions are readable, 1 is failing."}},
		{name: "malformed response", tenant: one(simulator.Garbage()), code: 1, want: []string{"✗ invalid_response"}},
		{name: "expired secret", tenant: all(nil), token: simulator.ExpiredSecret(), code: 1, want: []string{
			"credential         ✗ authentication\nsubscription list  ✗  skipped: there is no token\n", "\n✗ authentication: the token endpoint answered HTTP 401 AADSTS7000222\n  where: credential\n  fix:   renew the credential",
		}},
		{name: "no management group", tenant: all(nil), want: []string{"management groups  ✓  none visible\n"}},
		{name: "management groups cannot be read", tenant: all(nil), graph: simulator.Forbidden(), args: []string{"--recommendations=off"}, code: 1, want: []string{
			"management groups  ✗ forbidden\n", "\n✗ forbidden: missing permission Microsoft.ResourceGraph/resources/read: HTTP 403", "  where: management groups\n  fix:   " + assign, "\n3 subscriptions are readable.\n",
		}},
		{name: "scores cannot be read from Resource Graph", tenant: all(nil), graph: simulator.OnScoreQueries(simulator.Garbage()), args: []string{"--azure.source=resourcegraph", "--recommendations=off"}, code: 1, want: []string{
			"management groups  ✓", "\n✗ invalid_response", "\n0 subscriptions are readable, 3 are failing.\n",
		}},
		{name: "scores can be read from Resource Graph", tenant: all(nil), args: []string{"--azure.source=resourcegraph", "--recommendations=off"}, want: []string{"\n3 subscriptions are readable.\n"}},
		{name: "no subscription", tenant: simulator.Tenant{}, code: 1, want: []string{"subscription list  ✗ forbidden\n", "\n✗ forbidden: the identity cannot list any subscription; it may lack the role Reader\n  where: subscription list\n  fix:   " + assign + "SUBSCRIPTION_ID"}},
		{name: "no subscription below a group", tenant: emptyGroup, args: []string{"--azure.management-group=empty"}, code: 1, want: []string{
			"✗ forbidden: the identity cannot list any subscription", strings.Replace(assign, "/subscriptions/", "/providers/Microsoft.Management/managementGroups/empty\n", 1),
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			sim := startAzure(t, test.tenant)
			sim.SetTokenFault(test.token)
			sim.SetGraphFault(test.graph)
			env := append(secretEnv(t, sim), test.env...)
			args := append(append(sim.Flags(), "check"), test.args...)
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

// Rows without a failure are only counted if there are many, and no name wraps in a terminal.
func TestCheck_ManySubscriptions(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(60, 1)
	simulator.GenerateAssessments(&tenant, 1)
	long := strings.Repeat("long name ", 6) + "end"
	for i := range tenant.Subscriptions {
		s := &tenant.Subscriptions[i]
		switch {
		case i < 2:
			s.NoAccess, s.Name = i == 0, long
		case i < 5:
			s.NoScore = true
		case i < 30:
			s.State = "Disabled"
		}
	}
	sim := startAzure(t, tenant)
	sim.SetFault(tenant.Subscriptions[1].ID, simulator.OnControls(simulator.Garbage())) // the longest reason
	_, stdout, _ := runToEnd(t, secretEnv(t, sim), append(sim.Flags(), "check")...)
	if want := "\n30 subscriptions are readable, 2 are failing, 3 have no score, 25 are disabled or deleted.\n"; !strings.HasSuffix(stdout, want) {
		t.Errorf("no %q in\n%s", want, stdout)
	}
	rows := regexp.MustCompile(`(?m)^[✗✓–] .*  (0000\S+)  (.*)$`).FindAllStringSubmatch(stdout, -1)
	if len(rows) != 5 {
		t.Errorf("%d rows, want those of 2 failing and 3 unscored subscriptions:\n%s", len(rows), stdout)
	}
	for i, row := range rows {
		if row[1] != tenant.Subscriptions[i].ID || utf8.RuneCountInString(row[0]) > 80 {
			t.Errorf("row %d is %q", i, row[0])
		}
		if i < 2 && (!strings.HasPrefix(row[2], "long name long") || !strings.HasSuffix(row[2], "…") || !strings.Contains(stdout, "  where: "+row[1]+"  "+long+"\n")) {
			t.Errorf("the long name is %q in the row, or is not complete in\n%s", row[2], stdout)
		}
	}
}
