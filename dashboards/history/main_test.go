package main

import (
	"bufio"
	"bytes"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// exposed is a sample as OpenMetrics writes it. promtool parses the output in the end-to-end check.
var exposed = regexp.MustCompile(`^([a-z_]+\{(?:[a-z_]+="[^"\\]*",?)+\}) (\S+) (\d+)\n$`)

type sample struct {
	at    time.Time
	value float64
}

// written is the output with one sample per recomputation.
func written(t *testing.T, end time.Time, samples int) []byte {
	t.Helper()
	var text bytes.Buffer
	w := bufio.NewWriter(&text)
	h := history{w: w, end: end, step: recomputation, n: samples}
	h.write(story(0))
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return text.Bytes()
}

// Every series goes forward in time, and the month has what the dashboards are to show: a drop, a
// recovery, and a new subscription.
func TestHistory(t *testing.T) {
	t.Parallel()
	end := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	if !bytes.Equal(written(t, end, 2), written(t, end, 2)) {
		t.Error("the same flags write different output")
	}
	text := written(t, end, 31*3+1)

	all := map[string][]sample{}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "# ") {
			continue
		}
		m := exposed.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("not a sample with a time: %q", line)
		}
		value, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		seconds, err := strconv.ParseInt(m[3], 10, 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		all[m[1]] = append(all[m[1]], sample{time.Unix(seconds, 0), value})
	}
	for series, samples := range all {
		for i, s := range samples {
			if i > 0 && !s.at.After(samples[i-1].at) {
				t.Fatalf("%s goes back in time at %s", series, s.at)
			}
			if strings.HasPrefix(series, "azure_secure_score_ratio{") && !(s.value >= 0 && s.value <= 1) {
				t.Errorf("%s is %g", series, s.value)
			}
		}
		if last := samples[len(samples)-1].at; last.After(end) {
			t.Errorf("%s ends at %s, after the end", series, last)
		}
	}

	subscriptions := story(0)
	ratio := func(name string) []sample {
		i := slices.IndexFunc(subscriptions, func(s subscription) bool { return s.Name == name })
		key := `azure_secure_score_ratio{job="azure-secure-score",instance="localhost:10060",subscription_id="` + subscriptions[i].ID +
			`",environment="Azure",initiative="ascScore"}`
		if len(all[key]) == 0 {
			t.Fatalf("there is no %s", key)
		}
		return all[key]
	}
	at := func(samples []sample, daysAgo float64) float64 {
		for _, s := range samples {
			if math.Abs(end.Sub(s.at).Hours()/24-daysAgo) < 0.05 {
				return s.value
			}
		}
		t.Fatalf("nothing %g days ago", daysAgo)
		return 0
	}
	samples := ratio(recovering)
	before, dropped, recovered := at(samples, 15), at(samples, 10), at(samples, 2)
	if before-dropped < 0.05 || recovered-dropped < 0.05 {
		t.Errorf("no drop and recovery: %g, %g, %g", before, dropped, recovered)
	}
	if first := ratio(added)[0].at; end.Sub(first) > 7*24*time.Hour {
		t.Errorf("the new subscription exists since %s", first)
	}
}
