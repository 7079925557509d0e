package main

import (
	"bufio"
	"bytes"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// exposed is a sample as OpenMetrics writes it; promtool reads the real thing in the end-to-end check.
var exposed = regexp.MustCompile(`^([a-z_]+\{(?:[a-z_]+="[^"\\]*",?)+\}) (\S+) (\d+)\n$`)

type sample struct {
	at    time.Time
	value float64
}

// written is the whole story with so many samples, a recomputation apart.
func written(t *testing.T, end time.Time, samples int) []byte {
	t.Helper()
	var text bytes.Buffer
	w := bufio.NewWriter(&text)
	h := history{w: w, end: end, step: recomputation, n: samples}
	h.write(cast(0), true)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return append(text.Bytes(), "# EOF\n"...)
}

// Every series goes forward in time, as promtool wants it, and the month has what the dashboards are to show: a drop and a recovery, and a
// subscription that is new.
func TestHistory(t *testing.T) {
	t.Parallel()
	end := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	if !bytes.Equal(written(t, end, 2), written(t, end, 2)) {
		t.Error("the same flags write something else the second time")
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

	ratio := func(subscription string) []sample {
		key := `azure_secure_score_ratio{job="azure-secure-score",instance="localhost:10060",subscription_id="` + guid(subscription) +
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
	shared := ratio("Contoso Shared Services")
	before, dropped, recovered := at(shared, 15), at(shared, 10), at(shared, 2)
	if before-dropped < 0.05 || recovered-dropped < 0.05 {
		t.Errorf("no drop and recovery: %g, %g, %g", before, dropped, recovered)
	}
	if first := ratio("Northwind Analytics")[0].at; end.Sub(first) > 7*24*time.Hour {
		t.Errorf("the new subscription is there since %s", first)
	}
}
