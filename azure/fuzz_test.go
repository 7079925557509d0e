package azure

import (
	"encoding/json"
	"math"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"
)

// Whatever Azure answers, a decoder gives an error or values that are fit to be
// metrics.
func FuzzScores(f *testing.F) {
	f.Add([]byte(`[{"id":"/subscriptions/x/providers/Microsoft.Security/secureScores/ascScore","name":"ascScore","properties":{"displayName":"ASC score","score":{"max":55,"current":37.0}}}]`))
	f.Add([]byte(`[{"properties":{"score":{"max":39,"current":23.53,"percentage":0.6033},"weight":67}}]`))
	f.Add([]byte(`[{"properties":{"score":null}},{"name":"\u0000\n","properties":{"score":{"max":-1}}}]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var items []scoreItem
		if json.Unmarshal(body, &items) != nil {
			return
		}
		got, err := scores(items)
		if err != nil && ReasonOf(err) != ReasonInvalidResponse {
			t.Errorf("reason %q", ReasonOf(err))
		}
		for _, s := range got {
			checkNumbers(t, s.Current, s.Max, s.Ratio, s.Weight)
			checkLabels(t, s.Initiative, s.Environment)
			if s.Initiative == "" || s.Environment == "" {
				t.Errorf("no initiative or environment: %+v", s)
			}
		}
	})
}

func FuzzControls(f *testing.F) {
	f.Add([]byte(`[{"id":"/subscriptions/x/providers/Microsoft.Security/secureScores/ascScore/secureScoreControls/a9909064-42b4-4d34-8143-275477afe18b","name":"a9909064-42b4-4d34-8143-275477afe18b","properties":{"displayName":"Protect applications against DDoS attacks","score":{"max":2,"current":0.0},"healthyResourceCount":0,"unhealthyResourceCount":0,"notApplicableResourceCount":1}}]`))
	f.Add([]byte(`[{"id":"/secureScores","properties":{"healthyResourceCount":1e300}},{"id":"x/"}]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var items []scoreItem
		if json.Unmarshal(body, &items) != nil {
			return
		}
		got, err := controls(items)
		if err != nil && ReasonOf(err) != ReasonInvalidResponse {
			t.Errorf("reason %q", ReasonOf(err))
		}
		for _, c := range got {
			if c.Points != nil {
				checkNumbers(t, c.Points.Current, c.Points.Max)
			}
			checkNumbers(t, c.Weight, c.Healthy, c.Unhealthy, c.NotApplicable)
			checkLabels(t, c.ID, c.Name, c.Initiative, c.Environment)
			if c.ID == "" || c.Initiative == "" || c.Environment == "" {
				t.Errorf("no ID, initiative or environment: %+v", c)
			}
		}
	})
}

func checkNumbers(t *testing.T, numbers ...float64) {
	for _, n := range numbers {
		if math.IsNaN(n) || n < 0 || n > maxNumber {
			t.Errorf("number %g", n)
		}
	}
}

func checkLabels(t *testing.T, labels ...string) {
	for _, l := range labels {
		if !utf8.ValidString(l) || utf8.RuneCountInString(l) > maxLabel || strings.ContainsAny(l, "\n\r\x00\u2028\u202e") {
			t.Errorf("label %q", l)
		}
	}
}

// A nextLink that is followed leads to the endpoint's host and nowhere else, by
// the reading of the package that sends the request.
func FuzzNextLink(f *testing.F) {
	endpoint := &url.URL{Scheme: "https", Host: "management.azure.com"}
	for _, link := range []string{
		"https://management.azure.com/subscriptions?api-version=2022-12-01&$skiptoken=eyJ",
		"https://MANAGEMENT.azure.com:443/x", "https://management.azure.com:444/", "http://management.azure.com/",
		"https://management.azure.com@evil.example/", "https://evil.example/?https://management.azure.com", "//evil.example", "https://management.azure.com.evil.example/",
		"https://management.azure.com\\@evil.example/", "https://management.azure.com%2f@evil.example", " https://management.azure.com", "https:///x", "/relative", "",
	} {
		f.Add(link)
	}
	f.Fuzz(func(t *testing.T, link string) {
		got, err := sameHost(endpoint, link)
		if err != nil {
			return
		}
		u, err := url.Parse(got)
		if err != nil || u.Scheme != "https" || u.User != nil || !strings.EqualFold(u.Hostname(), endpoint.Host) || u.Port() != "" && u.Port() != "443" {
			t.Errorf("%q became %q", link, got)
		}
	})
}
