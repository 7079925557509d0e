package simulator_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// A query is recognized by its table and columns, not by its text.
func TestQuery_Forms(t *testing.T) {
	tenant := generous(simulator.Generate(1, 1))
	id := tenant.Subscriptions[0].ID
	_, c := start(t, tenant)
	const score = `"id":"/subscriptions/00000001-0000-4000-8000-000000000001/providers/microsoft.security/securescores/ascscore"`
	for name, test := range map[string]struct{ query, want string }{
		"bag_pack": {
			`securityresources | where type == 'microsoft.security/securescores' | summarize items = make_list(bag_pack('id', id)) by subscriptionId`,
			`[{"subscriptionId":"` + id + `","items":[{` + score + `}]}]`,
		},
		"pack": {
			`securityresources|where type =~'Microsoft.Security/secureScores'|summarize list=make_list(pack('id',id)) by subscriptionId`,
			`[{"subscriptionId":"` + id + `","list":[{` + score + `}]}]`,
		},
		"plain": {
			"securityresources\n| where type in~ ('microsoft.security/securescores')\n| project id, name, healthy = properties.healthyResourceCount\n| order by id asc",
			`[{` + score + `,"name":"ascScore","healthy":null}]`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			response, body := c.refusal(object{"query": test.query})
			if response.StatusCode != 200 || !strings.Contains(body, `"data":`+test.want) {
				t.Errorf("%d %s, want rows %s", response.StatusCode, body, test.want)
			}
		})
	}
}

func TestQuery_Invalid(t *testing.T) {
	_, c := start(t, generous(simulator.Generate(1, 1)))
	const types = `resourcecontainers | where type =~ 'microsoft.resources/subscriptions' `
	for name, query := range map[string]string{
		"empty":                    "",
		"unknown table":            `resources | project id`,
		"no type":                  `resourcecontainers | project id`,
		"no column":                types,
		"type of another table":    `securityresources | where type =~ 'microsoft.resources/subscriptions' | project id`,
		"unknown column":           types + `| project id, owner`,
		"column of another table":  types + `| project id, properties.score`,
		"key without a value":      types + `| summarize a = make_list(bag_pack('id')) by subscriptionId`,
		"key without quotes":       types + `| summarize a = make_list(bag_pack(id, id)) by subscriptionId`,
		"unknown function":         types + `| summarize a = make_list(pack_all()) by subscriptionId`,
		"unknown group":            types + `| summarize a = make_list(pack('id', id)) by name`,
		"hash into no part":        types + `| summarize a = make_list(pack('id', id)) by part = hash(subscriptionId, 0)`,
		"two projections":          types + `| project id | project id`,
		"unknown operator":         types + `| project id | take 1`,
		"order without the column": types + `| project name | order by id asc`,
	} {
		t.Run(name, func(t *testing.T) {
			response, body := c.refusal(object{"query": query})
			if response.StatusCode != 400 || !strings.Contains(body, `{"code":"InvalidQuery"`) {
				t.Errorf("%d %s", response.StatusCode, body)
			}
		})
	}
}

// A page without a column called id has no $skipToken for the next one.
func TestQuery_PagesNeedAnID(t *testing.T) {
	_, c := start(t, generous(simulator.Generate(3, 1)))
	options := object{"$top": 2}
	named := c.query(object{"query": subscriptionTypes + "| project name", "options": options})
	paged := c.query(object{"query": subscriptionTypes + "| project id", "options": options})
	if named.Count != 2 || named.ResultTruncated != "true" || named.SkipToken != "" {
		t.Errorf("without an id: %+v", named)
	}
	if paged.Count != 2 || paged.ResultTruncated != "false" || paged.SkipToken == "" {
		t.Errorf("with an id: %+v", paged)
	}
	if reflect.DeepEqual(named.Data, paged.Data) {
		t.Error("the columns make no difference")
	}
}
