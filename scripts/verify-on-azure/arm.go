package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
)

// readSubscriptionList verifies which subscriptions ARM lists, and its pages.
func (v *verifier) readSubscriptionList(ctx context.Context) {
	subscriptions := v.readList(ctx, "/subscriptions?api-version=2022-12-01", func(http.Header) {})
	states := map[string]int{}
	for _, item := range subscriptions.items {
		id, err := azure.ParseSubscriptionID(fmt.Sprint(item["subscriptionId"]))
		if err != nil {
			states["invalid ID"]++
			continue
		}
		v.listed = append(v.listed, id)
		for _, key := range []string{"displayName", "tenantId", "subscriptionId"} {
			text, _ := item[key].(string)
			v.anonymizer.keepPrivate(text)
		}
		states[knownState(item["state"])]++
	}
	observed := map[string]any{"list": subscriptions, "states": states}
	switch n := len(v.listed); {
	case subscriptions.Status != http.StatusOK:
		v.report.set(pointList, different, observed, "status %d %s", subscriptions.Status, subscriptions.Code)
	case n == 0:
		v.report.set(pointList, different, observed, "empty, with the role %s", v.options.role)
	default:
		v.report.set(pointList, asAssumed, observed, "%d subscriptions, with the role %s", n, v.options.role)
	}
	switch subscriptions.NextLink {
	case "":
		v.report.set(pointListPages, notObserved, subscriptions, "one page")
	case linkSameHost, linkRelative:
		v.report.set(pointListPages, asAssumed, subscriptions, "%d pages of up to %d items", len(subscriptions.Pages), slices.Max(subscriptions.Pages))
	default:
		v.report.set(pointListPages, different, subscriptions, "nextLink leads to: %s", subscriptions.NextLink)
	}
}

func knownState(value any) string {
	state := fmt.Sprint(value)
	if slices.Contains([]string{"Enabled", "Warned", "PastDue", "Disabled", "Deleted"}, state) {
		return state
	}
	return "another state"
}

// sampled is what Microsoft.Security answers for one subscription.
type sampled struct {
	Registration string `json:"registration"`
	Scores       list   `json:"scores"`
	Controls     list   `json:"controls"`
	Exporter     string `json:"exporter"` // the reason, scored or not scored
}

// answers counts subscriptions with the same answers.
type answers struct {
	sampled
	Subscriptions int `json:"subscriptions"`
}

// readMicrosoftSecurity verifies the lists of Microsoft.Security on a sample of subscriptions.
func (v *verifier) readMicrosoftSecurity(ctx context.Context) {
	ids := slices.Clone(v.options.subscriptions)
	for _, id := range v.listed {
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	ids = ids[:min(len(ids), v.options.sample)]
	if len(ids) == 0 {
		return // nothing is listed, and none is named
	}
	var samples []sampled
	for _, id := range ids {
		samples = append(samples, v.sample(ctx, id))
	}
	v.judgeScores(samples)
	v.judgeControls(samples)
	v.judgeHeaders()
	v.judgeUnregistered(samples)
	v.judgeUnscored(samples)
}

func (v *verifier) sample(ctx context.Context, id string) sampled {
	v.anonymizer.keepPrivate(id)
	provider := "/subscriptions/" + id + "/providers/Microsoft.Security"
	s := sampled{Registration: v.registration(ctx, provider)}
	s.Scores = v.readList(ctx, provider+"/secureScores?api-version=2020-01-01", v.countHeaders)
	s.Controls = v.readList(ctx, provider+"/secureScoreControls?api-version=2020-01-01", v.countHeaders)

	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	switch result := v.client.SecureScores(ctx, []string{id})[0]; {
	case result.Err != nil:
		s.Exporter = string(azure.ReasonOf(result.Err))
	case len(result.Scores) == 0:
		s.Exporter = "not scored"
	default:
		s.Exporter = "scored"
	}
	return s
}

// registration returns the state of Microsoft.Security, which a custom role may not show.
func (v *verifier) registration(ctx context.Context, provider string) string {
	resp, ok := v.get(ctx, provider+"?api-version=2021-04-01")
	var answer struct {
		RegistrationState string `json:"registrationState"`
	}
	if !ok || resp.Status != http.StatusOK || json.Unmarshal(resp.Body, &answer) != nil {
		return "unknown"
	}
	if slices.Contains([]string{"Registered", "NotRegistered", "Registering", "Unregistering", "Unregistered"}, answer.RegistrationState) {
		return answer.RegistrationState
	}
	return "another state"
}

// group counts equal answers.
func group(samples []sampled) []*answers {
	var groups []*answers
	byAnswer := map[string]*answers{}
	for _, s := range samples {
		key, _ := json.Marshal(s) // texts and numbers alone
		if byAnswer[string(key)] == nil {
			byAnswer[string(key)] = &answers{sampled: s}
			groups = append(groups, byAnswer[string(key)])
		}
		byAnswer[string(key)].Subscriptions++
	}
	return groups
}

func (v *verifier) judgeScores(samples []sampled) {
	pages, names, kindsOfMax, shapes := map[int]int{}, map[string]int{}, map[string]int{}, []any{}
	items, odd := 0, 0
	for _, s := range samples {
		for _, n := range s.Scores.Pages {
			pages[n]++
		}
		if len(s.Scores.items) > 1 {
			odd++
		}
		for _, item := range s.Scores.items {
			items++
			shapes = append(shapes, item)
			name := fmt.Sprint(item["name"])
			if name != azure.DefaultInitiative {
				name = v.anonymizer.hash(name)
				odd++
			}
			names[name]++
			score := field(item, "properties", "score")
			kindsOfMax[fmt.Sprint(v.anonymizer.shape(field(score, "max")))]++
			percentage, ok := field(score, "percentage").(json.Number)
			if f, err := percentage.Float64(); !ok || err != nil || f < 0 || f > 1 {
				odd++
			}
		}
	}
	observed := map[string]any{
		"answers": group(samples), "lists_by_items_on_page": pages, "names": names, "max": kindsOfMax, "shapes": v.anonymizer.shape(shapes),
	}
	switch {
	case items == 0:
		v.report.set(pointScores, notObserved, observed, "no score in %d subscriptions", len(samples))
	case odd > 0:
		v.report.set(pointScores, different, observed, "%d of %d scores", odd, items)
	default:
		v.report.set(pointScores, asAssumed, observed, "%d scores", items)
	}
}

func (v *verifier) judgeControls(samples []sampled) {
	pages, shapes := map[int]int{}, []any{}
	items, odd := 0, 0
	for _, s := range samples {
		for _, n := range s.Controls.Pages {
			pages[n]++
		}
		for _, item := range s.Controls.items {
			items++
			shapes = append(shapes, item)
			if name, _ := item["name"].(string); kindOfText(name) != kindGUID {
				odd++
			}
		}
	}
	observed := map[string]any{"lists_by_items_on_page": pages, "shapes": v.anonymizer.shape(shapes)}
	switch {
	case items == 0:
		v.report.set(pointControls, notObserved, observed, "no control in %d subscriptions", len(samples))
	case odd > 0:
		v.report.set(pointControls, different, observed, "%d of %d names are not GUIDs", odd, items)
	default:
		v.report.set(pointControls, asAssumed, observed, "%d controls, up to %d on a page", items, slices.Max(slices.Collect(maps.Keys(pages))))
	}
}

func (v *verifier) judgeHeaders() {
	integers, others := []string{}, []string{}
	for name, values := range v.headers {
		switch {
		case !strings.HasPrefix(name, "x-ms-ratelimit-remaining-"):
		case values.Other > 0:
			others = append(others, name)
		default:
			integers = append(integers, name)
		}
	}
	slices.Sort(integers)
	slices.Sort(others)
	switch {
	case v.responses == 0:
		v.report.set(pointHeaders, notObserved, nil, "no list could be read")
	case len(integers) > 0 && len(others) == 0:
		v.report.set(pointHeaders, asAssumed, v.headers, "%s", strings.Join(integers, ", "))
	case len(others) > 0:
		v.report.set(pointHeaders, different, v.headers, "not an integer: %s", strings.Join(others, ", "))
	default:
		v.report.set(pointHeaders, different, v.headers, "none")
	}
}

func (v *verifier) judgeUnregistered(samples []sampled) {
	found := slices.DeleteFunc(slices.Clone(samples), func(s sampled) bool {
		return s.Registration == "Registered" || s.Registration == "unknown"
	})
	expected := func(s sampled) bool {
		return s.Exporter == string(azure.ReasonNotRegistered) || s.Exporter == "not scored"
	}
	v.judge(pointUnregistered, found, expected, len(samples))
}

func (v *verifier) judgeUnscored(samples []sampled) {
	found := slices.DeleteFunc(slices.Clone(samples), func(s sampled) bool {
		return s.Registration != "Registered" || len(s.Scores.items) > 0 || s.Exporter == string(azure.ReasonForbidden)
	})
	v.judge(pointUnscored, found, func(s sampled) bool { return s.Exporter == "not scored" }, len(samples))
}

func (v *verifier) judge(name string, found []sampled, expected func(sampled) bool, total int) {
	observed := group(found)
	odd := slices.DeleteFunc(slices.Clone(found), expected)
	switch {
	case len(found) == 0:
		v.report.set(name, notObserved, observed, "none of %d subscriptions", total)
	case len(odd) > 0:
		v.report.set(name, different, observed, "the exporter reports %s", odd[0].Exporter)
	default:
		v.report.set(name, asAssumed, observed, "%d subscriptions", len(found))
	}
}

// field returns a value in nested objects, or nil.
func field(value any, path ...string) any {
	for _, key := range path {
		object, ok := value.(map[string]any)
		if !ok {
			return nil
		}
		value = object[key]
	}
	return value
}
