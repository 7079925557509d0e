// Command history writes a month of the exporter's series as OpenMetrics text, to fill a Prometheus
// so that the dashboards have something to show:
//
//	go run ./dashboards/history > history.om
//	promtool tsdb create-blocks-from --max-block-duration=1000h openmetrics history.om data
//	prometheus --config.file=dashboards/prometheus.yml --storage.tsdb.path=data \
//	  --query.lookback-delta=11m --storage.tsdb.retention.time=60d
//	promtool tsdb create-blocks-from --max-block-duration=170h rules --start=… --output-dir=data \
//	  dashboards/rules/recording-rules.yaml
//
// The text is 1 GB. Recording rules that build on each other need the last command once per
// layer, four times in all; each takes some minutes, and a block can have up to 11,000 evaluations.
// The same flags give the same output. The tenant is the demo's; the scores follow Microsoft's
// published formula.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"time"
)

func main() {
	var (
		days          = flag.Float64("days", 31, "days to write; 31, so that a change over 30 days has a start")
		step          = flag.Duration("step", 10*time.Minute, "time between two samples")
		end           = flag.String("end", "", "time of the last sample, RFC 3339 (default now)")
		subscriptions = flag.Int("subscriptions", 0, "number of subscriptions (default those of the demo)")
	)
	flag.Parse()
	last := time.Now().UTC()
	if *end != "" {
		var err error
		if last, err = time.Parse(time.RFC3339, *end); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
	}
	w := bufio.NewWriterSize(os.Stdout, 1<<20)
	h := history{w: w, end: last.Truncate(*step), step: *step, n: int(*days*24*float64(time.Hour)/float64(*step)) + 1}
	h.write(story(*subscriptions))
	if err := w.Flush(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// history writes series. Sample i of n is at end − (n−1−i) × step.
type history struct {
	w    *bufio.Writer // keeps its first error until Flush
	end  time.Time
	step time.Duration
	n    int
}

func (h history) write(subscriptions []subscription) {
	scores := h.scoresOf(subscriptions)
	h.scores(scores)
	h.recommendations(scores)
	h.subscriptions(subscriptions)
	h.ownership(subscriptions)
	h.exporter(subscriptions)
	fmt.Fprintln(h.w, "# EOF")
}

func (h history) daysAgo(i int) float64 { return float64(h.n-1-i) * h.step.Hours() / 24 }

func (h history) time(i int) int64 { return h.end.Add(-time.Duration(h.n-1-i) * h.step).Unix() }

// family begins a metric. OpenMetrics wants its series together.
func (h history) family(name, kind string) { fmt.Fprintln(h.w, "# TYPE", name, kind) }

// series writes the samples of one series for which value returns true.
func (h history) series(name string, labels []string, value func(i int) (float64, bool)) {
	labels = append([]string{"job", "azure-secure-score", "instance", "localhost:10060"}, labels...)
	pairs := make([]string, 0, len(labels)/2)
	for i := 0; i < len(labels); i += 2 {
		pairs = append(pairs, labels[i]+"="+strconv.Quote(labels[i+1]))
	}
	id := name + "{" + strings.Join(pairs, ",") + "} "
	for i := range h.n {
		if v, ok := value(i); ok {
			fmt.Fprintln(h.w, id+format(v), h.time(i))
		}
	}
}

// gauge writes a metric of one series.
func (h history) gauge(name string, labels []string, value func(i int) float64) {
	h.family(name, "gauge")
	h.series(name, labels, func(i int) (float64, bool) { return value(i), true })
}

// counter writes a series that grows by increase(i) with each sample.
func (h history) counter(name string, labels []string, increase func(i int) float64) {
	var sum float64
	h.series(name, labels, func(i int) (float64, bool) {
		sum += increase(i)
		return math.Round(sum*1000) / 1000, true
	})
}

func format(v float64) string {
	if math.IsInf(v, 1) {
		return "+Inf"
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}
