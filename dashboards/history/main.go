// Command history writes a month of what the exporter would have said, as OpenMetrics text, so that a Prometheus can be filled with it and the
// dashboards have something to show:
//
//	go run ./dashboards/history > history.om
//	promtool tsdb create-blocks-from --max-block-duration=1000h openmetrics history.om data
//	prometheus --config.file=dashboards/prometheus.yml --storage.tsdb.path=data --query.lookback-delta=11m --storage.tsdb.retention.time=60d
//	promtool tsdb create-blocks-from --max-block-duration=170h rules --start=… --output-dir=data dashboards/rules/recording-rules.yaml
//
// The text has 1.1 GB. Recording rules that build on each other need the last command once a layer, four times in all; each takes some minutes,
// and no block may have more than 11,000 evaluations. The output is the same for the
// same flags. Scores follow Microsoft's published formula; the companies are Microsoft's fictitious ones and the numbers are made up.
package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"flag"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"time"
)

// recomputation is how often Azure computes a score anew.
const recomputation = 8 * time.Hour

// control is a security control with its nominal maximum and the share of a subscription's resources that it looks at.
type control struct {
	id, name string
	points   float64
	share    float64
}

// controls are the fifteen of the default initiative. Where Microsoft has not published the ID, it is made from the name.
var controls = []control{
	{"34a42fb3-e6db-409c-b56b-7b1db6b8aee0", "Enable MFA", 10, 0.08},
	{guid("Secure management ports"), "Secure management ports", 8, 0.25},
	{"61702b76-1fab-41f2-bcbc-50b7870dcf38", "Apply system updates", 6, 0.30},
	{guid("Remediate vulnerabilities"), "Remediate vulnerabilities", 6, 0.45},
	{guid("Remediate security configurations"), "Remediate security configurations", 4, 0.60},
	{guid("Manage access and permissions"), "Manage access and permissions", 4, 0.20},
	{"8fd574ec-43cf-426e-a439-a67cbaf2d564", "Enable encryption at rest", 4, 0.35},
	{"0e55495e-034f-4abc-8293-767229250176", "Encrypt data in transit", 4, 0.40},
	{guid("Restrict unauthorized network access"), "Restrict unauthorized network access", 4, 0.50},
	{guid("Apply adaptive application control"), "Apply adaptive application control", 3, 0.15},
	{"a9909064-42b4-4d34-8143-275477afe18b", "Protect applications against DDoS attacks", 2, 0.05},
	{guid("Enable endpoint protection"), "Enable endpoint protection", 2, 0.30},
	{"27b24961-75ba-4fe4-8909-97286d5dd5ee", "Enable auditing and logging", 1, 0.35},
	{guid("Enable enhanced security features"), "Enable enhanced security features", 0, 0.04},
	{"76763537-9feb-42d3-b4f4-78c01117be80", "Implement security best practices", 0, 0.80},
}

// event changes the unhealthy share of a control for good, some days before the end.
type event struct {
	daysAgo float64
	control string // part of its name, "" for all
	change  float64
}

// score is one secure score: of a subscription, or of one of its connectors.
type score struct {
	subscription           string // name
	environment, connector string
	resources              int
	unhealthy              float64 // share at the start
	drift                  float64 // change of that share over 30 days
	newSince               float64 // days ago; 0 is always
	events                 []event
}

// story is what happens in these 30 days.
var story = []score{
	{subscription: "Contoso Production", environment: "Azure", resources: 1850, unhealthy: 0.34, drift: -0.10},
	{
		subscription: "Contoso Shared Services", environment: "Azure", resources: 640, unhealthy: 0.22,
		// A drop: a firewall rule opens management ports, accounts are exempted from MFA. A recovery: both are mended.
		events: []event{
			{13.2, "management ports", 0.62},
			{13.2, "MFA", 0.45},
			{5.1, "management ports", -0.60},
			{4.4, "MFA", -0.45},
		},
	},
	{subscription: "Contoso Development", environment: "Azure", resources: 420, unhealthy: 0.61, drift: 0.03},
	{
		subscription: "Fabrikam ERP", environment: "Azure", resources: 910, unhealthy: 0.30, drift: 0.05,
		// The newest drop: patches are missing since yesterday.
		events: []event{{0.8, "system updates", 0.45}, {0.8, "vulnerabilities", 0.25}},
	},
	{subscription: "Adventure Works Shop", environment: "Azure", resources: 380, unhealthy: 0.57, drift: -0.30},
	{subscription: "Woodgrove Payments", environment: "Azure", resources: 270, unhealthy: 0.08, drift: -0.02},
	{subscription: "Northwind Analytics", environment: "Azure", resources: 150, unhealthy: 0.44, drift: -0.04, newSince: 6},
	{subscription: "Contoso Shared Services", environment: "AWS", connector: "contoso-aws-prod", resources: 520, unhealthy: 0.41, drift: -0.06},
	{subscription: "Adventure Works Shop", environment: "GCP", connector: "adventureworks-gcp", resources: 210, unhealthy: 0.49},
}

// Subscriptions that have no score, each for its own reason.
const (
	unscored  = "Tailspin Sandbox"
	forbidden = "Litware Acquired 2026"
	disabled  = "Contoso Legacy"
)

func main() {
	var (
		days          = flag.Float64("days", 31, "how many days to write; 31, so that the change over 30 days has a beginning")
		step          = flag.Duration("step", 10*time.Minute, "time between two samples")
		end           = flag.String("end", "", "time of the last sample, RFC 3339 (default now)")
		subscriptions = flag.Int("subscriptions", 0, "how many subscriptions have a score (default: those of the story)")
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
	h.write(cast(*subscriptions), *subscriptions != 1)
	fmt.Fprintln(w, "# EOF")
	if err := w.Flush(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// cast is the story cut or filled up to n subscriptions with a score.
func cast(n int) []score {
	switch n {
	case 0:
		return story
	case 1:
		return story[:1]
	}
	scores := append([]score(nil), story...)
	for i := 1; i <= n-7; i++ { // the story has seven subscriptions with a score
		name := fmt.Sprintf("Contoso Landing Zone %04d", i)
		scores = append(scores, score{
			subscription: name, environment: "Azure", resources: 40 + int(400*noise(name, "resources")),
			unhealthy: 0.05 + 0.6*noise(name, "unhealthy"), drift: 0.3 * (noise(name, "drift") - 0.5),
		})
	}
	return scores
}

// history writes series; sample i of n is taken at end − (n−1−i)·step.
type history struct {
	w    *bufio.Writer // keeps its first error until Flush
	end  time.Time
	step time.Duration
	n    int
}

func (h history) daysAgo(i int) float64 {
	return float64(h.n-1-i) * h.step.Hours() / 24
}

func (h history) write(scores []score, troubled bool) {
	h.scores(scores)
	h.collection(scores, troubled)
	h.exporter(len(scores), troubled)
}

// A family is written whole, as OpenMetrics wants it.
func (h history) scores(scores []score) {
	type point struct{ current, max, weight float64 }
	total := func(s score, i int) (p point) {
		for _, c := range controls {
			cur, limit, healthy, unhealthy, _ := s.control(c, h, i)
			p.current, p.max, p.weight = p.current+cur, p.max+limit, p.weight+healthy+unhealthy
		}
		return p
	}
	for _, f := range []struct {
		name string
		of   func(point) float64
	}{
		{"current", func(p point) float64 { return round(p.current, 2) }},
		{"max", func(p point) float64 { return p.max }},
		{"ratio", func(p point) float64 { return round(p.current/p.max, 4) }},
		{"weight", func(p point) float64 { return p.weight }},
	} {
		h.family("azure_secure_score_"+f.name, "gauge")
		for _, s := range scores {
			h.series("azure_secure_score_"+f.name, s.labels(), func(i int) (float64, bool) { return f.of(total(s, i)), s.served(h, i) })
		}
	}
	for _, f := range []struct {
		name string
		of   func(cur, limit, healthy, unhealthy float64) float64
	}{
		{"control_current", func(cur, _, _, _ float64) float64 { return cur }},
		{"control_max", func(_, limit, _, _ float64) float64 { return limit }},
		{"control_weight", func(_, _, healthy, unhealthy float64) float64 { return healthy + unhealthy }},
	} {
		h.family("azure_secure_score_"+f.name, "gauge")
		for _, s := range scores {
			for _, c := range controls {
				h.series("azure_secure_score_"+f.name, append(s.labels(), "control_id", c.id, "control", c.name), func(i int) (float64, bool) {
					cur, limit, healthy, unhealthy, _ := s.control(c, h, i)
					return f.of(cur, limit, healthy, unhealthy), s.served(h, i)
				})
			}
		}
	}
	h.family("azure_secure_score_control_resources", "gauge")
	for _, s := range scores {
		for _, c := range controls {
			for k, state := range []string{"healthy", "unhealthy", "not_applicable"} {
				labels := append(s.labels(), "control_id", c.id, "control", c.name, "state", state)
				h.series("azure_secure_score_control_resources", labels, func(i int) (float64, bool) {
					_, _, healthy, unhealthy, notApplicable := s.control(c, h, i)
					return []float64{healthy, unhealthy, notApplicable}[k], s.served(h, i)
				})
			}
		}
	}
}

func (s score) labels() []string {
	l := []string{"subscription_id", guid(s.subscription), "environment", s.environment, "initiative", "ascScore"}
	if s.connector != "" {
		l = append(l, "connector", s.connector)
	}
	return l
}

// control computes a control by the published formula: points = max ÷ (healthy + unhealthy) × healthy, and a maximum of 0 where no resource is
// assessed. Every subscription is recomputed at its own time of the day.
func (s score) control(c control, h history, i int) (current, limit, healthy, unhealthy, notApplicable float64) {
	key := s.subscription + s.connector
	perDay := 24 / recomputation.Hours()
	offset := noise(key, "offset")
	daysAgo := (math.Floor(h.daysAgo(i)*perDay+offset) - offset + 1) / perDay
	share := s.unhealthy*(0.4+1.2*noise(key, c.id)) + s.drift*(1-daysAgo/30)
	for _, e := range s.events {
		if daysAgo < e.daysAgo && strings.Contains(c.name, e.control) {
			share += e.change
		}
	}
	// A little life: now and then a resource or two come and go.
	share += 0.02 * (noise(key, c.id, strconv.Itoa(int(daysAgo*perDay)/4)) - 0.5)
	assessed := math.Round(float64(s.resources) * c.share * (0.7 + 0.6*noise(key, c.id, "share")))
	if s.environment != "Azure" && c.share < 0.1 {
		assessed = 0 // MFA and DDoS protection belong to Azure
	}
	unhealthy = math.Round(assessed * math.Min(1, math.Max(0, share)))
	healthy = assessed - unhealthy
	notApplicable = math.Round(assessed * 0.3 * noise(key, c.id, "n/a"))
	if assessed > 0 {
		limit = c.points
		current = round(limit/assessed*healthy, 2)
	}
	return current, limit, healthy, unhealthy, notApplicable
}

// outage is a failure of Azure's token endpoint nine days ago, for an hour and a half.
func (h history) outage(i int) bool {
	return math.Abs(h.daysAgo(i)-9) < 0.75/24
}

// throttled is a busy hour three days ago, in which every fifth subscription is throttled.
func (h history) throttled(i int) bool {
	return math.Abs(h.daysAgo(i)-3) < 0.75/24
}

// served says whether the exporter has values: since the subscription exists, and for an hour into an outage.
func (s score) served(h history, i int) bool {
	if s.newSince > 0 && h.daysAgo(i) > s.newSince {
		return false
	}
	return !h.outage(i) || !h.outage(max(0, i-int(time.Hour/h.step)))
}

func (h history) collection(scores []score, troubled bool) {
	type subscription struct {
		name, state       string
		newSince          float64
		scored, forbidden bool
	}
	var subs []subscription
	for _, s := range scores {
		if s.environment == "Azure" {
			subs = append(subs, subscription{name: s.subscription, state: "Enabled", newSince: s.newSince, scored: true})
		}
	}
	if troubled {
		subs = append(subs, subscription{name: unscored, state: "Enabled"}, subscription{name: forbidden, state: "Enabled", forbidden: true},
			subscription{name: disabled, state: "Disabled"})
	}
	known := func(s subscription, i int) bool { return s.newSince == 0 || h.daysAgo(i) <= s.newSince }
	reason := func(s subscription, i int) string {
		switch {
		case h.outage(i):
			return "authentication"
		case s.forbidden:
			return "forbidden"
		case h.throttled(i) && noise(s.name, "throttled") < 0.2:
			return "throttled"
		}
		return ""
	}
	constant := func(s subscription, v float64) func(int) (float64, bool) {
		return func(i int) (float64, bool) { return v, known(s, i) }
	}

	h.family("azure_secure_score_subscription_info", "gauge")
	for _, s := range subs {
		h.series("azure_secure_score_subscription_info", []string{
			"subscription_id", guid(s.name), "subscription_name", s.name, "tenant_id", guid("contoso.example"), "subscription_state", s.state,
		}, constant(s, 1))
	}
	h.family("azure_secure_score_subscription_scored", "gauge")
	for _, s := range subs {
		if s.state == "Enabled" && !s.forbidden {
			h.series("azure_secure_score_subscription_scored", []string{"subscription_id", guid(s.name)}, constant(s, boolean(s.scored)))
		}
	}
	h.family("azure_secure_score_subscription_scrape_success", "gauge")
	for _, s := range subs {
		if s.state == "Enabled" {
			h.series("azure_secure_score_subscription_scrape_success", []string{"subscription_id", guid(s.name)}, func(i int) (float64, bool) {
				return boolean(reason(s, i) == ""), known(s, i)
			})
		}
	}
	h.family("azure_secure_score_subscription_scrape_failure", "gauge")
	for _, s := range subs {
		for _, r := range []string{"authentication", "forbidden", "throttled"} {
			if s.state == "Enabled" {
				h.series("azure_secure_score_subscription_scrape_failure", []string{"subscription_id", guid(s.name), "reason", r}, func(i int) (float64, bool) {
					return 1, known(s, i) && reason(s, i) == r
				})
			}
		}
	}
	h.family("azure_secure_score_subscription_last_success_timestamp_seconds", "gauge")
	for _, s := range subs {
		if s.state == "Enabled" && !s.forbidden {
			h.series("azure_secure_score_subscription_last_success_timestamp_seconds", []string{"subscription_id", guid(s.name)}, func(i int) (float64, bool) {
				ok := known(s, i)
				for i > 0 && reason(s, i) != "" {
					i--
				}
				return float64(h.time(i)) - math.Round(3*noise(s.name, strconv.Itoa(i))), ok
			})
		}
	}

	failures := func(want string) func(int) float64 {
		return func(i int) (n float64) {
			for _, s := range subs {
				if s.state == "Enabled" && known(s, i) && reason(s, i) == want {
					n++
				}
			}
			return n
		}
	}
	h.family("azure_secure_score_scrape_failures", "counter")
	for _, r := range []string{
		"authentication", "forbidden", "not_found", "not_registered", "throttled", "timeout", "server_error", "network", "invalid_response", "canceled",
	} {
		h.counter("azure_secure_score_scrape_failures_total", []string{"reason", r}, failures(r))
	}
}

// exporter writes what the exporter and Prometheus say of the exporter itself.
func (h history) exporter(scores int, troubled bool) {
	n := float64(scores)
	busy := func(i int) float64 { return 1 + 0.25*math.Sin(float64(i)/40) + 0.4*noise("busy", strconv.Itoa(i)) }
	duration := func(i int) float64 {
		switch {
		case h.outage(i):
			return 0.4
		case h.throttled(i):
			return (3 + n*0.05) * busy(i) * 2.5
		}
		return (3 + n*0.05) * busy(i)
	}
	gauge := func(name string, labels []string, of func(i int) float64) {
		h.family(name, "gauge")
		h.series(name, labels, func(i int) (float64, bool) { return of(i), true })
	}
	gauge("up", nil, func(int) float64 { return 1 })
	gauge("scrape_duration_seconds", nil, func(i int) float64 { return round(duration(i)+0.02, 3) })
	gauge("azure_secure_score_up", nil, func(i int) float64 { return boolean(!h.outage(i)) })
	gauge("azure_secure_score_scrape_duration_seconds", nil, func(i int) float64 { return round(duration(i), 3) })
	gauge("azure_secure_score_exporter_build_info", []string{"version", "1.0.0", "revision", "0123456", "branch", "main", "goversion", "go1.26.8"},
		func(int) float64 { return 1 })
	h.family("azure_secure_score_api_quota_remaining", "gauge")
	for _, limit := range []struct {
		name string
		most float64
	}{{"subscription-reads", 249}, {"subscription-global-reads", 3749}} {
		h.series("azure_secure_score_api_quota_remaining", []string{"limit", limit.name}, func(i int) (float64, bool) {
			if h.throttled(i) {
				return math.Round(limit.most * 0.07), true
			}
			return math.Round(limit.most * (0.98 - 0.05*busy(i))), !h.outage(i)
		})
	}
	h.family("azure_secure_score_scrapes", "counter")
	h.counter("azure_secure_score_scrapes_total", nil, func(int) float64 { return 1 })

	operations := []struct {
		name    string
		calls   float64 // a collection
		seconds float64 // the median
	}{
		{"get_token", 0.02, 0.18}, {"list_subscriptions", 0.2, 0.35}, {"list_secure_scores", n, 0.28}, {"list_secure_score_controls", n, 0.62}, {"query_resource_graph", 0, 0},
	}
	h.family("azure_secure_score_api_requests", "counter")
	for _, o := range operations {
		calls := func(code string) func(int) float64 {
			return func(i int) float64 {
				share := map[string]float64{"200": 1}
				switch {
				case h.outage(i) && o.name == "get_token":
					return boolean(code == "503") * 3
				case h.outage(i):
					return 0
				case h.throttled(i) && o.name != "get_token":
					share = map[string]float64{"200": 0.8, "429": 0.25}
				}
				if o.name == "list_secure_scores" && code == "403" {
					return boolean(troubled) // the forbidden subscription
				}
				return o.calls * share[code]
			}
		}
		codes := []string{"200"}
		switch o.name {
		case "get_token":
			codes = append(codes, "503")
		case "list_secure_scores":
			codes = append(codes, "403", "429")
		case "list_secure_score_controls":
			codes = append(codes, "429")
		}
		for _, code := range codes {
			h.counter("azure_secure_score_api_requests_total", []string{"operation", o.name, "code", code}, calls(code))
		}
	}
	h.family("azure_secure_score_api_request_duration_seconds", "histogram")
	for _, o := range operations {
		const name = "azure_secure_score_api_request_duration_seconds"
		labels := []string{"operation", o.name}
		for _, le := range []float64{0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, math.Inf(1)} {
			// A log-logistic distribution around the median: a long tail, as the API has one.
			h.counter(name+"_bucket", append(labels, "le", format(le)), func(i int) float64 {
				if o.calls == 0 {
					return 0
				}
				if math.IsInf(le, 1) {
					return o.calls
				}
				return o.calls / (1 + math.Pow(o.seconds*busy(i)/le, 3))
			})
		}
		h.counter(name+"_sum", labels, func(i int) float64 { return o.calls * o.seconds * busy(i) * 1.2 })
		h.counter(name+"_count", labels, func(int) float64 { return o.calls })
	}

	gauge("process_resident_memory_bytes", nil, func(i int) float64 { return math.Round((28 + 0.05*n + 4*busy(i)) * (1 << 20)) })
	gauge("go_memstats_heap_inuse_bytes", nil, func(i int) float64 { return math.Round((9 + 0.03*n + 3*busy(i)) * (1 << 20)) })
	gauge("go_goroutines", nil, func(i int) float64 { return math.Round(14 + 4*busy(i)) })
	gauge("process_open_fds", nil, func(i int) float64 { return math.Round(11 + 3*busy(i)) })
	h.family("process_cpu_seconds", "counter")
	h.counter("process_cpu_seconds_total", nil, func(i int) float64 { return 0.004 * n * busy(i) })
}

func (h history) time(i int) int64 {
	return h.end.Add(-time.Duration(h.n-1-i) * h.step).Unix()
}

func (h history) family(name, kind string) {
	fmt.Fprintln(h.w, "# TYPE", name, kind)
}

// series writes the samples of one series, for as long as it exists, as Prometheus would have stored them.
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

// counter writes a series that grows by increase(i) with each sample.
func (h history) counter(name string, labels []string, increase func(i int) float64) {
	var sum float64
	h.series(name, labels, func(i int) (float64, bool) {
		sum += increase(i)
		return round(sum, 3), true
	})
}

// noise is a number in [0, 1) that depends on nothing but its arguments.
func noise(key ...string) float64 {
	sum := sha256.Sum256([]byte(strings.Join(key, "/")))
	return float64(binary.BigEndian.Uint32(sum[:4])) / (1 << 32)
}

func guid(key string) string {
	x := fmt.Sprintf("%x", sha256.Sum256([]byte(key)))
	return strings.Join([]string{x[:8], x[8:12], "4" + x[13:16], "8" + x[17:20], x[20:32]}, "-")
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func round(v float64, decimals int) float64 {
	p := math.Pow10(decimals)
	return math.Round(v*p) / p
}

func format(v float64) string {
	if math.IsInf(v, 1) {
		return "+Inf"
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}
