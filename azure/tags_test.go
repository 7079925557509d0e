package azure

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/go-kit/log"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

func TestParseTarget(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]float64{
		"80%": 0.8, "80 %": 0.8, "80": 0.8, "82.5": 0.825, "0.8": 0.8, "1": 1, "1%": 0.01, "0.5%": 0.005,
		"1.5": 0.015, "100": 1, "100%": 1, "0": 0, "0%": 0, "2": 0.02,
	} {
		if got, err := parseTarget(text); err != nil || got != want {
			t.Errorf("%q: %g, %v, want %g", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "%", "none", "-1", "-0.5", "+1", "100.1", "101%", "1e9", "1e-3", "NaN", "Inf", "0x10", "1_0", "0,8", "80%%", "80 percent", ".5", "5.",
		strings.Repeat("9", 400), "0." + strings.Repeat("0", 400) + "1",
	} {
		if got, err := parseTarget(text); err == nil {
			t.Errorf("%q is read as %g", text, got)
		}
	}
}

func TestWantedTags(t *testing.T) {
	t.Parallel()
	half := 0.5
	wanted := wantedTags{names: []string{"Cost Centre", "env"}, owner: "owner", target: "target"}
	for name, test := range map[string]struct {
		wanted wantedTags
		tags   string
		want   Subscription
	}{
		"every tag":         {wanted, `{"env":"prod","OWNER":"web","Target":"50%","cost centre":"4711","other":"x"}`, Subscription{Owner: "web", Tags: []string{"4711", "prod"}, Target: &half}},
		"none of them":      {wanted, `{"other":"x"}`, Subscription{}},
		"no tags":           {wanted, `null`, Subscription{}},
		"none are wanted":   {wantedTags{}, `{"owner":"web","":"x"}`, Subscription{}},
		"a tag for both":    {wantedTags{names: []string{"Owner"}, owner: "owner"}, `{"oWner":"web"}`, Subscription{Owner: "web", Tags: []string{"web"}}},
		"empty values":      {wanted, `{"env":"","owner":" ","target":""}`, Subscription{}},
		"a list":            {wanted, `["owner"]`, Subscription{}},
		"values of no text": {wanted, `{"owner":1,"env":["x"],"target":null,"Cost Centre":{"owner":"x"}}`, Subscription{}},
		"names twice":       {wanted, `{"owner":"b","Owner":"a","target":"x","Target":"50"}`, Subscription{Owner: "a", Target: &half}},
		"an unreadable one": {wanted, `{"target":"high","owner":"a"}`, Subscription{Owner: "a", badTarget: "high"}},
		"hostile values":    {wanted, `{"owner":"a\nb\"} 1","env":"` + "\\u202e" + strings.Repeat("ü", 300) + `"}`, Subscription{Owner: `a b"} 1`, Tags: []string{"", strings.Repeat("ü", 127) + "…"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got Subscription
			test.wanted.addTo(&got, []byte(test.tags))
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

// Of 50 tags, those that the configuration names are kept, and an unreadable target is logged once.
func TestSubscriptions_Tags(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(3, 1)
	many := map[string]string{"Team": "web", "score": "1.5.0"}
	for i := range 48 {
		many[fmt.Sprintf("tag %d", i)] = strings.Repeat("x", 256)
	}
	tenant.Subscriptions[0].Tags = many
	tenant.Subscriptions[1].Tags = map[string]string{"score": "70%"}
	var logged bytes.Buffer
	sim, client := start(t, tenant, Config{SubscriptionTags: []string{"tag 7"}, OwnerTag: "team", TargetTag: "Score", Logger: log.NewLogfmtLogger(&logged)})
	list := func() []Subscription {
		got, err := client.Subscriptions(within(t, time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	list()
	got := list()
	if s := got[0]; s.Owner != "web" || len(s.Tags) != 1 || len(s.Tags[0]) != 127+len("…") || s.Target != nil {
		t.Errorf("50 tags: %+v", s)
	}
	if s := got[1]; s.Owner != "" || s.Tags != nil || s.Target == nil || *s.Target != 0.7 {
		t.Errorf("a target: %+v", s)
	}
	if s := got[2]; s.Owner != "" || s.Tags != nil || s.Target != nil {
		t.Errorf("no tags: %+v", s)
	}
	for _, score := range []string{"1.5.0", "2.5.0", "60"} {
		many["score"] = score
		sim.SetSubscription(tenant.Subscriptions[0])
		list()
	}
	if n := strings.Count(logged.String(), "ignoring an invalid target"); n != 2 || !strings.Contains(logged.String(), "1.5.0") {
		t.Errorf("logged %d times, want once for each text:\n%s", n, logged.String())
	}
}
