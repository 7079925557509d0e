package exporter

import (
	"testing"
	"time"
)

func TestStatusFormat(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	for _, test := range []struct{ got, want string }{
		{formatPercent(0.6727), "67.3 %"},
		{formatPercent(1), "100.0 %"},
		{formatPoints(37), "37.0"},
		{formatPoints(0), "0.0"},
		{formatPoints(0.04), "< 0.1"},
		{formatPoints(0.05), "0.1"},
		{formatShare(0.115), "11.50 pp"},
		{formatShare(0.00001), "< 0.01 pp"},
		{formatCount(0), "0"},
		{formatCount(999), "999"},
		{formatCount(1000), "1,000"},
		{formatCount(1234567), "1,234,567"},
		{formatCounted(0, "request"), "0 requests"},
		{formatCounted(1, "request"), "1 request"},
		{formatCounted(20000, "request"), "20,000 requests"},
		{formatDuration(8400 * time.Microsecond), "8 ms"},
		{formatDuration(61234 * time.Millisecond), "61.2 s"},
		{formatAge(now, time.Time{}), "never"},
		{formatAge(now, now.Add(time.Second)), "0 s ago"},
		{formatAge(now, now.Add(-119*time.Second)), "119 s ago"},
		{formatAge(now, now.Add(-2*time.Minute)), "2 min ago"},
		{formatAge(now, now.Add(-47*time.Hour)), "47 h ago"},
		{formatAge(now, now.Add(-49*time.Hour)), "2 days ago"},
		{barWidth(-1) + " " + barWidth(0.5) + " " + barWidth(2), "0.0 50.0 100.0"},
		{barLevel(0.49) + " " + barLevel(0.5) + " " + barLevel(0.8), "low middle high"},
	} {
		if test.got != test.want {
			t.Errorf("got %q, want %q", test.got, test.want)
		}
	}
}
