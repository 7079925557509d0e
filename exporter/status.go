package exporter

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-kit/log/level"
	"github.com/prometheus/common/version"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
)

var (
	//go:embed status.html
	statusHTML string
	//go:embed status.css
	statusCSS string

	statusTemplate = template.Must(template.New("status").Funcs(template.FuncMap{
		"percent": func(ratio float64) string { return fmt.Sprintf("%.1f %%", 100*ratio) },
		"number":  func(n float64) string { return strconv.FormatFloat(math.Round(n*100)/100, 'f', -1, 64) },
		"age":     age,
	}).Parse(statusHTML))

	// statusPolicy lets a browser load nothing, run nothing and send nothing: all
	// that the page needs is its own style.
	statusPolicy = func() string {
		hash := sha256.Sum256([]byte(statusCSS))
		return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(hash[:]) +
			"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	}()
)

// Setting is a part of the configuration, to show. It must not be secret.
type Setting struct{ Name, Value string }

// statusRows is how many subscriptions a page shows.
const statusRows = 100

// The states of a subscription on the status page, worst first.
const (
	stateFailing  = "failing"  // the newest collection could not read it
	stateStale    = "stale"    // nothing has asked for longer than its values are good
	stateFine     = "fine"     // it could be read, and has a score
	stateUnscored = "unscored" // Azure does not score it
)

var states = []string{stateFailing, stateStale, stateFine, stateUnscored}

// status is what the status page shows of a snapshot.
type status struct {
	Style    template.CSS
	Version  string
	Settings []Setting

	Collected bool // there was a collection
	At, Now   time.Time
	Duration  time.Duration
	Traffic   traffic
	Failure   *statusFailure // of the token or the list of subscriptions, or nil

	Aggregates []*statusAggregate // of each initiative, the default one first

	Filters    []statusFilter
	Rows       []*statusRow
	Page       int
	Pages      int
	Prev, Next string // addresses, empty at the ends

	One *statusRow // the subscription that is opened, or nil
}

// statusAggregate is the score of all subscriptions and connectors in one
// initiative. Scores of several initiatives are never mixed.
type statusAggregate struct {
	Initiative string
	Scores     int // how many are in it

	weighted, weights float64 // sums
}

// Score is the weighted mean of the ratios.
func (a *statusAggregate) Score() float64 { return a.weighted / a.weights }

type statusFailure struct {
	Reason azure.Reason
	Text   string
	Fix    string
}

type statusFilter struct {
	Name, Link string
	Count      int
	Selected   bool
}

type statusRow struct {
	azure.Subscription
	Status    string // one of the states
	Failure   *statusFailure
	Score     *azure.Score // of Azure itself in the default initiative, rather than in another one; or nil
	Others    []azure.Score
	Unhealthy float64 // over all controls of its initiative
	ReadAt    time.Time
	Controls  []statusControl // by what they can gain
}

type statusControl struct {
	azure.Control
	Gain float64 // points
}

// serveStatus shows the newest snapshot to people. It never asks Azure.
func (e *Exporter) serveStatus(w http.ResponseWriter, r *http.Request) {
	page, err := e.status(r.URL.Query(), time.Now())
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	var text bytes.Buffer // an error on the way must not become half a page
	if err := statusTemplate.Execute(&text, page); err != nil {
		level.Error(e.logger).Log("msg", "cannot show the status page", "err", err)
		http.Error(w, "the page could not be made; see the log", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", statusPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	_, _ = w.Write(text.Bytes()) // whoever asked may be gone
}

// status makes the page that the query asks for: ?state= is one of the states,
// ?page= counts from 1, ?subscription= opens one.
func (e *Exporter) status(query url.Values, now time.Time) (*status, error) {
	s := e.snapshot.Load()
	page := &status{
		Style: template.CSS(statusCSS), Version: version.Info(), Settings: e.cfg.Settings, //nolint:gosec // G203: the program's own style
		Collected: !s.at.IsZero(), At: s.at, Now: now, Duration: s.duration.Round(time.Millisecond), Traffic: s.traffic,
	}
	if page.Collected {
		page.Failure = newFailure(s.err, "")
	}

	var rows []*statusRow
	counts := map[string]int{}
	aggregates := map[string]*statusAggregate{}
	for _, sub := range s.subscriptions {
		row := e.statusRow(sub, now)
		counts[row.Status]++
		rows = append(rows, row)
		for _, score := range row.scores() {
			a := aggregates[score.Initiative]
			if a == nil {
				a = &statusAggregate{Initiative: score.Initiative}
				aggregates[score.Initiative] = a
			}
			weight := cmp.Or(score.Weight, 1) // as Azure counts it
			a.weighted += weight * score.Ratio
			a.weights += weight
			a.Scores++
		}
	}
	page.Aggregates = slices.SortedFunc(maps.Values(aggregates), func(a, b *statusAggregate) int { return defaultFirst(a.Initiative, b.Initiative) })

	if id := query.Get("subscription"); id != "" {
		for _, row := range rows {
			if row.ID == strings.ToLower(id) {
				page.One = row
				return page, nil
			}
		}
		return nil, fmt.Errorf("no such subscription")
	}

	state := query.Get("state")
	page.Filters = []statusFilter{{"all", "/status", len(rows), state == ""}}
	for _, name := range states {
		page.Filters = append(page.Filters, statusFilter{name, "/status?state=" + name, counts[name], state == name})
	}
	if state != "" {
		if !slices.Contains(states, state) {
			return nil, fmt.Errorf("no such state")
		}
		rows = slices.DeleteFunc(rows, func(r *statusRow) bool { return r.Status != state })
	}
	slices.SortStableFunc(rows, worstFirst)
	page.Pages = max(1, (len(rows)+statusRows-1)/statusRows)
	page.Page = 1
	if n, err := strconv.Atoi(query.Get("page")); err == nil {
		page.Page = min(max(1, n), page.Pages)
	}
	link := func(n int) string {
		values := url.Values{"page": {strconv.Itoa(n)}}
		if state != "" {
			values.Set("state", state)
		}
		return "/status?" + values.Encode()
	}
	if page.Page > 1 {
		page.Prev = link(page.Page - 1)
	}
	if page.Page < page.Pages {
		page.Next = link(page.Page + 1)
	}
	page.Rows = rows[(page.Page-1)*statusRows : min(page.Page*statusRows, len(rows))]
	return page, nil
}

// defaultFirst orders initiatives.
func defaultFirst(a, b string) int {
	switch {
	case a == b:
		return 0
	case a == azure.DefaultInitiative:
		return -1
	case b == azure.DefaultInitiative:
		return 1
	}
	return cmp.Compare(a, b)
}

// statusRow shows of a subscription what its metrics show.
func (e *Exporter) statusRow(s *subscription, now time.Time) *statusRow {
	row := &statusRow{Subscription: s.Subscription, Status: stateUnscored, Failure: newFailure(s.err, s.ID)}
	if s.good != nil {
		row.ReadAt = s.good.ReadAt
	}
	old := s.good != nil && now.Sub(s.confirmed()) > e.cfg.MaxStale
	switch {
	case !s.Active():
		return row
	case s.err != nil:
		row.Status = stateFailing
	case old:
		row.Status = stateStale
	case s.good != nil && len(s.good.Scores) > 0:
		row.Status = stateFine
	}
	if s.good == nil || old {
		return row
	}
	scores := slices.Clone(s.good.Scores)
	slices.SortStableFunc(scores, func(a, b azure.Score) int { return defaultFirst(a.Initiative, b.Initiative) })
	for _, score := range scores {
		if row.Score == nil && score.Connector == "" {
			row.Score = &score
			continue
		}
		row.Others = append(row.Others, score)
	}
	for _, c := range s.good.Controls {
		control := statusControl{Control: c}
		if c.Points != nil {
			control.Gain = c.Points.Max - c.Points.Current
		}
		if row.Score != nil && c.Initiative == row.Score.Initiative {
			row.Unhealthy += c.Unhealthy
		}
		row.Controls = append(row.Controls, control)
	}
	slices.SortStableFunc(row.Controls, func(a, b statusControl) int {
		return cmp.Or(cmp.Compare(b.Gain, a.Gain), cmp.Compare(b.Unhealthy, a.Unhealthy), cmp.Compare(a.Name, b.Name))
	})
	return row
}

func (r *statusRow) scores() []azure.Score {
	if r.Score == nil {
		return r.Others
	}
	return append([]azure.Score{*r.Score}, r.Others...)
}

func worstFirst(a, b *statusRow) int {
	ratio := func(r *statusRow) float64 {
		if r.Score == nil {
			return 2 // after every score
		}
		return r.Score.Ratio
	}
	return cmp.Or(
		cmp.Compare(slices.Index(states, a.Status), slices.Index(states, b.Status)),
		cmp.Compare(ratio(a), ratio(b)), cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID),
	)
}

func newFailure(err error, subscriptionID string) *statusFailure {
	if err == nil {
		return nil
	}
	reason := azure.ReasonOf(err)
	return &statusFailure{Reason: reason, Text: err.Error(), Fix: azure.Hint(err, subscriptionID, azure.Identity{})}
}

// age says how long ago something was, in one unit.
func age(now, then time.Time) string {
	switch d := now.Sub(then); {
	case then.IsZero():
		return "never"
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(max(0, d).Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	default:
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	}
}
