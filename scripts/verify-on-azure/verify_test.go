package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// verifyTenant verifies a simulated tenant and returns the points by name.
func verifyTenant(t *testing.T, tenant simulator.Tenant, change func(*simulator.Server, *options)) (*report, map[string]*point) {
	t.Helper()
	sim, err := simulator.Start(tenant)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	o := options{sample: 10, role: "reader", azure: azure.DefaultConfig()}
	o.azure.Cloud, o.azure.RootCAs, o.azure.Credential = sim.Cloud(), sim.RootCAs(), sim.Credential
	if change != nil {
		change(sim, &o)
	}
	report, err := verify(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	points := map[string]*point{}
	for _, p := range report.Points {
		points[p.Name] = p
	}
	return report, points
}

// tenant has what every point needs, except the dynamic recommendations.
func tenant() simulator.Tenant {
	tenant := simulator.Demo()
	tenant.Subscriptions = append(tenant.Subscriptions, simulator.Subscription{
		ID: "c1a7e5b3-92d4-4f60-8e1b-7a3c5d9f0b26", Name: "Contoso Unregistered", Unregistered: true,
	})
	tenant.PageSize = 8
	tenant.ManagementGroups = map[string][]string{"contoso-landing-zones": {simulator.DemoSampleID}}
	tenant.ManagementGroupNames = map[string]string{"contoso-landing-zones": "Contoso Landing Zones"}
	return tenant
}

const (
	dynamicKey  = "0d1e2f3a-0000-4000-8000-00000000abcd"
	unmappedKey = "0d1e2f3a-0000-4000-8000-00000000ffff"
)

// dynamicKeys answers the queries for the control map and for dynamic recommendations, which the
// simulator does not parse.
func dynamicKeys(found string) simulator.Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		row := ""
		switch query := string(body); {
		case strings.Contains(query, "assessmentDefinitions"):
			row = fmt.Sprintf(`{"control":"c","keys":"[{\"id\":\"/providers/Microsoft.Security/assessmentMetadata/%s\"}]","id":"c1"}`, dynamicKey)
		case strings.Contains(query, "DynamicBuiltIn"):
			row = fmt.Sprintf(`{"id":%q,"findings":3}`, found)
		default:
			next.ServeHTTP(w, r)
			return
		}
		simulator.Body(http.StatusOK, "application/json", `{"totalRecords":1,"count":1,"data":[`+row+`],"resultTruncated":"false"}`)(w, r, next)
	}
}

// noDynamicKeys answers the query for the control map alone.
func noDynamicKeys() simulator.Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		if strings.Contains(string(body), "DynamicBuiltIn") {
			next.ServeHTTP(w, r)
			return
		}
		dynamicKeys(dynamicKey)(w, r, next)
	}
}

func TestVerify_AsAssumed(t *testing.T) {
	t.Parallel()
	var azure *simulator.Server
	_, points := verifyTenant(t, tenant(), func(sim *simulator.Server, _ *options) {
		azure = sim
		sim.SetGraphFault(dynamicKeys(unmappedKey))
	})
	if n := azure.Requests()[simulator.RouteOther]; n > 0 {
		t.Errorf("%d requests had an unknown path", n)
	}
	for name, p := range points {
		if p.Outcome != asAssumed {
			t.Errorf("%s: %s, %s", name, p.Outcome, p.Detail)
		}
	}
}

// Each point can also come out in the other two ways.
func TestVerify_Outcomes(t *testing.T) {
	t.Parallel()
	const first = simulator.DemoSampleID
	onFirst := func(f simulator.Fault) func(*simulator.Server, *options) {
		return func(sim *simulator.Server, _ *options) { sim.SetFault(first, f) }
	}
	onGraph := func(f simulator.Fault) func(*simulator.Server, *options) {
		return func(sim *simulator.Server, _ *options) { sim.SetGraphFault(f) }
	}
	onAll := func(f simulator.Fault) func(*simulator.Server, *options) {
		return func(sim *simulator.Server, _ *options) {
			for _, s := range tenant().Subscriptions {
				sim.SetFault(s.ID, f)
			}
		}
	}
	onList := func(f simulator.Fault) func(*simulator.Server, *options) {
		return func(sim *simulator.Server, _ *options) { sim.SetListFault(f) }
	}
	refused := simulator.Error(http.StatusBadRequest, "InvalidQuery", "refused")
	registered := simulator.Tenant{Subscriptions: simulator.Demo().Subscriptions[:1]}
	for name, test := range map[string]struct {
		point   string
		tenant  simulator.Tenant
		change  func(*simulator.Server, *options)
		outcome outcome
		detail  string
	}{
		"expired secret":            {pointToken, tenant(), func(s *simulator.Server, _ *options) { s.SetTokenFault(simulator.ExpiredSecret()) }, different, "authentication"},
		"nothing after that":        {pointList, tenant(), func(s *simulator.Server, _ *options) { s.SetTokenFault(simulator.ExpiredSecret()) }, notObserved, "not reached"},
		"list is empty":             {pointList, tenant(), onList(simulator.EmptyList()), different, "empty, with the role reader"},
		"list is forbidden":         {pointList, tenant(), onList(simulator.Forbidden()), different, "status 403 AuthorizationFailed"},
		"list without a response":   {pointList, tenant(), onList(simulator.Truncated()), different, "no response"},
		"list on one page":          {pointListPages, registered, nil, notObserved, "one page"},
		"list with relative links":  {pointListPages, tenant(), onList(simulator.Replace(`"nextLink":"https://[^/]*`, `"nextLink":"`)), asAssumed, "2 pages of up to 8 items"},
		"list on another host":      {pointListPages, tenant(), onList(simulator.NextLink("https://example.org/next")), different, "another host"},
		"score is null":             {pointScores, tenant(), onFirst(simulator.NullScore()), different, "1 of 6 scores"},
		"score above 1":             {pointScores, registered, onFirst(simulator.Number("percentage", "67.27")), different, "1 of 1 scores"},
		"no score":                  {pointScores, tenant(), onAll(simulator.EmptyList()), notObserved, "no score in 10 subscriptions"},
		"control without a GUID":    {pointControls, registered, onFirst(simulator.Replace(`"name":"[^"]*"`, `"name":"mfa"`)), different, "15 of 15 names"},
		"no control":                {pointControls, tenant(), onAll(simulator.EmptyList()), notObserved, "no control"},
		"header without an integer": {pointHeaders, tenant(), onFirst(withHeader("x-ms-ratelimit-remaining-subscription-resource-requests", "Microsoft.Security/Reads;749")), different, "not an integer: x-ms-ratelimit-remaining-subscription-resource-requests"},
		"no header":                 {pointHeaders, tenant(), onAll(withHeader("", "")), different, "none"},
		"nothing can be read":       {pointHeaders, tenant(), onAll(simulator.Forbidden()), notObserved, "no list could be read"},
		"unregistered is 404": {pointUnregistered, tenant(), func(s *simulator.Server, _ *options) {
			s.SetFault("c1a7e5b3-92d4-4f60-8e1b-7a3c5d9f0b26", exceptRegistration(simulator.Error(http.StatusNotFound, "SomethingNew", "?")))
		}, different, "not_found"},
		"registration is forbidden": {pointUnregistered, tenant(), onAll(onlyRegistration(simulator.Forbidden())), notObserved, "none of 10"},
		"none is unregistered":      {pointUnregistered, registered, nil, notObserved, "none of 1"},
		"unscored is refused": {pointUnscored, tenant(), func(s *simulator.Server, _ *options) {
			s.SetFault(simulator.DemoUnscoredID, exceptRegistration(simulator.Error(http.StatusBadRequest, "SomethingNew", "?")))
		}, different, "invalid_response"},
		"all are scored":            {pointUnscored, registered, nil, notObserved, "none of 1"},
		"bag_pack is refused":       {pointBagPack, tenant(), onGraph(simulator.RefuseBagPack()), different, "status 400"},
		"pack is not":               {pointPack, tenant(), onGraph(simulator.RefuseBagPack()), asAssumed, "6 of 6 rows"},
		"pack is refused":           {pointPack, tenant(), onGraph(simulator.RefusePacking()), different, "status 400"},
		"items are a text":          {pointBagPack, tenant(), onGraph(simulator.Replace(`"items":\[.*?\]`, `"items":"[]"`)), different, "rows or items of another shape"},
		"packed is forbidden":       {pointBagPack, tenant(), onGraph(simulator.Forbidden()), notObserved, "status 403"},
		"plain is refused":          {pointPlain, tenant(), onGraph(refused), different, "status 400 InvalidQuery"},
		"plain repeats its page":    {pointPlain, tenant(), onGraph(simulator.RepeatSkipToken()), different, "5 distinct"},
		"plain is cut":              {pointPlain, tenant(), onGraph(simulator.ResultTruncated(3)), different, "3 of"},
		"plain is one page":         {pointPlain, simulator.Generate(1, 2), nil, notObserved, "3 of 3 rows, pages: 1"},
		"connectors have other IDs": {pointConnectors, tenant(), onGraph(simulator.Replace("(?i)/securityconnectors/", "/connectedaccounts/")), different, "2 of 2 IDs"},
		"no connectors":             {pointConnectors, registered, nil, notObserved, "no score outside Azure"},
		"dynamic keys are mapped":   {pointDynamicKeys, tenant(), onGraph(dynamicKeys(dynamicKey)), different, "1 of 1 are mapped"},
		"control map is refused":    {pointDynamicKeys, tenant(), onGraph(refused), notObserved, "no control map; status 400"},
		"no dynamic recommendation": {pointDynamicKeys, tenant(), onGraph(noDynamicKeys()), notObserved, "no dynamic recommendation; status 400"},
		"a subscription is absent":  {pointGraphCoverage, tenant(), onGraph(simulator.DropRows(first)), different, "1 of 10 are absent"},
		"subscriptions are refused": {pointGraphCoverage, tenant(), onGraph(refused), notObserved, "status 400"},
		"ancestors are null":        {pointAncestors, registered, nil, notObserved, "null in 1 rows"},
		"ancestors are a text":      {pointAncestors, tenant(), onGraph(simulator.Replace(`"chain":(null|\[[^\]]*\])`, `"chain":"root"`)), different, "10 of another shape"},
		"security reader sees it":   {pointList, tenant(), func(_ *simulator.Server, o *options) { o.role = "security-reader" }, asAssumed, "with the role security-reader"},
		"named, although not listed": {pointScores, tenant(), func(s *simulator.Server, o *options) {
			s.SetListFault(simulator.EmptyList())
			o.subscriptions = []string{first}
		}, asAssumed, "1 scores"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, points := verifyTenant(t, test.tenant, test.change)
			if p := points[test.point]; p.Outcome != test.outcome || !strings.Contains(p.Detail, test.detail) {
				t.Errorf("%s: %s, %q; want %s, %q", p.Name, p.Outcome, p.Detail, test.outcome, test.detail)
			}
		})
	}
}

// withHeader sets a header of the healthy answer, after removing the limits that ARM reports.
func withHeader(name, value string) simulator.Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		for _, limit := range []string{"reads", "global-reads"} {
			w.Header().Del("x-ms-ratelimit-remaining-subscription-" + limit)
		}
		if name != "" {
			w.Header().Set(name, value)
		}
		next.ServeHTTP(w, r)
	}
}

// onlyRegistration applies the fault only to the registration, which a custom role may not show.
func onlyRegistration(f simulator.Fault) simulator.Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if !strings.HasSuffix(r.URL.Path, "/microsoft.security") {
			next.ServeHTTP(w, r)
			return
		}
		f(w, r, next)
	}
}

// exceptRegistration applies the fault to the lists only.
func exceptRegistration(f simulator.Fault) simulator.Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.HasSuffix(r.URL.Path, "/microsoft.security") {
			next.ServeHTTP(w, r)
			return
		}
		f(w, r, next)
	}
}

// Nothing in the report identifies the tenant.
func TestReport_Anonymous(t *testing.T) {
	t.Parallel()
	tenant := tenant()
	for i := range tenant.Subscriptions {
		tenant.Subscriptions[i].Tags = map[string]string{"cost-center": "4711"}
	}
	report, _ := verifyTenant(t, tenant, func(sim *simulator.Server, _ *options) {
		sim.SetGraphFault(dynamicKeys(dynamicKey))
		// A second initiative, whose name is the tenant's.
		sim.SetFault(simulator.DemoSampleID, simulator.OnScores(simulator.Replace(`"name":"ascScore"`, `"name":"Contoso Baseline"`)))
	})
	text, err := report.encode()
	if err != nil {
		t.Fatal(err)
	}
	private := []string{"contoso", "fabrikam", "4711", "cost-center", simulator.TenantID, simulator.ClientID, simulator.ObjectID, "simulated-access-token", "127.0.0.1"}
	for _, s := range tenant.Subscriptions {
		private = append(private, s.ID, s.Name)
	}
	for _, secret := range private {
		if strings.Contains(strings.ToLower(string(text)), strings.ToLower(secret)) {
			t.Errorf("the report contains %q:\n%s", secret, text)
		}
	}
	if !regexp.MustCompile(`"#[0-9a-f]{8}": 1`).Match(text) {
		t.Errorf("the name of the other initiative is not hashed:\n%s", text)
	}
	if !json.Valid(text) {
		t.Errorf("the report is not JSON:\n%s", text)
	}
}

func TestReport_RefusesToLeak(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]any{
		"GUID": "see " + simulator.TenantID, "name": "contoso production", "nested": map[string]any{"a": []any{"Contoso Production"}},
		"key": map[string]int{simulator.TenantID: 1},
	} {
		a := newAnonymizer()
		a.keepPrivate("Contoso Production")
		r := newReport("reader", a)
		r.set(pointList, asAssumed, value, "")
		if text, err := r.encode(); err == nil {
			t.Errorf("%s is in the report:\n%s", name, text)
		}
	}
	// A subscription whose name is a word of the report does not block it.
	a := newAnonymizer()
	a.keepPrivate("reader")
	if _, err := newReport("reader", a).encode(); err != nil {
		t.Error(err)
	}
}

// The points are those that docs/limitations.md lists.
func TestReport_HasDocumentedPoints(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/limitations.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, match := range regexp.MustCompile("(?m)^\\| `([a-zA-Z$_ ]+)` \\|").FindAllSubmatch(text, -1) {
		documented[string(match[1])] = true
	}
	for _, known := range assumptions {
		if !documented[known.point] {
			t.Errorf("docs/limitations.md lacks the point %q", known.point)
		}
		delete(documented, known.point)
	}
	for name := range documented {
		t.Errorf("docs/limitations.md has the point %q, which is not verified", name)
	}
}

func TestRun_WritesReport(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "report.json")
	report, _ := verifyTenant(t, tenant(), nil)
	var out bytes.Buffer
	if err := write(report, file, &out); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("the report has mode %v, %v", info.Mode(), err)
	}
	for _, want := range []string{"as assumed", "not observed", "dynamic keys in the control map", file} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the summary lacks %q:\n%s", want, out.String())
		}
	}
}

func TestParseOptions(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"-role=owner":                  `-role: "owner" is none of reader, security-reader, custom, other`,
		"-sample=0":                    "-sample must be from 1 to 1000",
		"-subscription=production":     `-subscription: "production" is not a subscription ID`,
		"-cloud=mars":                  `-cloud: unknown cloud "mars"`,
		"report":                       `unexpected argument "report"`,
		"-subscription=" + dynamicKey:  "",
		"-role=custom -cloud=china":    "",
		"-role=security-reader -o=out": "",
	} {
		_, err := parseOptions(strings.Fields(args), io.Discard)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want %q", args, err, want)
		}
	}
}
