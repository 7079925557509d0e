package exporter

import (
	"fmt"
	"html/template"
	"math"
	"strconv"
	"time"
)

// statusFormats are the functions of the pages' templates. Every number of a kind has the same
// number of decimals, so that columns can be compared.
var statusFormats = template.FuncMap{
	"percent": formatPercent, "points": formatPoints, "share": formatShare, "count": formatCount, "counted": formatCounted,
	"age": formatAge, "duration": formatDuration, "gainHint": func() string { return gainHint }, "barWidth": barWidth, "barLevel": barLevel, "markAt": markAt,
}

// formatPercent formats a ratio.
func formatPercent(ratio float64) string { return fmt.Sprintf("%.1f %%", 100*ratio) }

// formatPoints formats points of a score.
func formatPoints(n float64) string { return formatDecimals(n, 1) }

// formatShare formats a share of the total score in percentage points.
func formatShare(ratio float64) string { return formatDecimals(100*ratio, 2) + " pp" }

// formatDecimals shows a small positive number as less than the smallest one, not as 0.
func formatDecimals(n float64, decimals int) string {
	smallest := math.Pow10(-decimals)
	if n > 0 && n < smallest/2 {
		return fmt.Sprintf("< %.*f", decimals, smallest)
	}
	return strconv.FormatFloat(n, 'f', decimals, 64)
}

// formatCount formats a whole number with commas between thousands.
func formatCount(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// formatCounted formats a number of things: 1 request, 2 requests.
func formatCounted(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return formatCount(int64(n)) + " " + thing
}

// formatAge is the time since then, in one unit.
func formatAge(now, then time.Time) string {
	switch d := now.Sub(then); {
	case then.IsZero():
		return "never"
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s ago", int(max(0, d).Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", int(d.Hours()))
	default:
		return fmt.Sprintf("%d days ago", int(d.Hours()/24))
	}
}

// formatDuration formats the duration of a collection.
func formatDuration(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// bar is a ratio on a bar, with a mark for its target if there is one.
type bar struct {
	Ratio  float64
	Target *float64
}

// Bar shows the score.
func (s *statusScore) Bar() bar { return bar{s.Ratio, s.Target} }

// Bar shows the total.
func (t *total) Bar() bar { return bar{Ratio: t.Ratio()} }

// barWidth is a ratio on a bar that is 100 wide.
func barWidth(ratio float64) string {
	return strconv.FormatFloat(100*min(max(0, ratio), 1), 'f', 1, 64)
}

// markAt is where a mark that is 2 wide starts on the bar.
func markAt(ratio float64) string { return barWidth(min(ratio, 0.98)) }

// barLevel is the class of a bar.
func barLevel(ratio float64) string {
	switch {
	case ratio < 0.5:
		return "low"
	case ratio < 0.8:
		return "middle"
	}
	return "high"
}
