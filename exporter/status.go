package exporter

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
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
	//go:embed landing.html
	landingHTML string

	statusTemplate = template.Must(template.New("status").Funcs(template.FuncMap{
		"percent": func(ratio float64) string { return fmt.Sprintf("%.1f %%", 100*ratio) },
		"number":  func(n float64) string { return strconv.FormatFloat(math.Round(n*100)/100, 'f', -1, 64) },
		"age":     age,
	}).Parse(statusHTML))

	landingTemplate = template.Must(template.New("landing").Parse(landingHTML))

	// pagePolicy lets a browser load nothing, run nothing and send nothing: the page needs only
	// its own style.
	pagePolicy = func() string {
		hash := sha256.Sum256([]byte(statusCSS))
		return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(hash[:]) +
			"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	}()
)

const (
	// statusRows is the number of subscriptions on a page.
	statusRows = 100
	// maxStatusPages bounds the pages that are rendered at the same time.
	maxStatusPages = 4
)

// statusPage is the content of /status.
type statusPage struct {
	Style    template.CSS
	Version  string
	Settings []Setting

	Collected        bool // there was a collection
	CollectedAt, Now time.Time
	Duration         time.Duration
	API              apiStats
	Failure          *statusFailure // of the token or the list of subscriptions, or nil

	Aggregates []*aggregate // of each initiative, the default one first

	Filters    []statusFilter
	Rows       []*statusRow
	Page       int
	Pages      int
	Prev, Next string // links, empty at the ends

	Detail *statusRow // the only subscription of its own page, or nil
}

// statusFilter is a link to the subscriptions in one state.
type statusFilter struct {
	Name, Link string
	Count      int
	Selected   bool
}

// statusFailure is a failure and how to fix it.
type statusFailure struct {
	Reason azure.Reason
	Text   string
	Fix    string
}

// serveStatus shows the last snapshot to people. It never asks Azure.
func (h *handlers) serveStatus(w http.ResponseWriter, r *http.Request) {
	// The server's write timeout ends the wait.
	if err := h.pages.Acquire(r.Context(), 1); err != nil {
		return
	}
	page, err := newStatusPage(h.cache.latest(), r.URL.Query(), h.cfg.now())
	var text bytes.Buffer // an error must not become half a page
	if err == nil {
		page.Settings = h.cfg.Settings
		err = statusTemplate.Execute(&text, page)
	}
	h.pages.Release(1)
	h.servePage(w, text.Bytes(), err)
}

// serveLanding serves the page that links to all others.
func (h *handlers) serveLanding(w http.ResponseWriter, _ *http.Request) {
	var text bytes.Buffer
	err := landingTemplate.Execute(&text, &statusPage{Style: template.CSS(statusCSS), Version: version.Info()}) //nolint:gosec // G203: the program's own style
	h.servePage(w, text.Bytes(), err)
}

// servePage serves a page, or the error that came instead.
func (h *handlers) servePage(w http.ResponseWriter, text []byte, err error) {
	switch {
	case errors.Is(err, errNoSuchPage):
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	case err != nil:
		level.Error(h.logger).Log("msg", "cannot render a page", "err", err)
		http.Error(w, "cannot render the page; see the log", http.StatusInternalServerError)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Security-Policy", pagePolicy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cache-Control", "no-store")
	setWriteDeadline(w)
	_, _ = w.Write(text) // fails only when the client is gone
}

var errNoSuchPage = errors.New("no such page")

// newStatusPage makes the page for a query: ?state= filters by state, ?page= counts from 1,
// ?subscription= shows one subscription.
func newStatusPage(s *snapshot, query url.Values, now time.Time) (*statusPage, error) {
	page := &statusPage{
		Style: template.CSS(statusCSS), Version: version.Info(), //nolint:gosec // G203: the program's own style
		Collected: !s.collectedAt.IsZero(), CollectedAt: s.collectedAt, Now: now, Duration: s.duration.Round(time.Millisecond), API: s.api,
	}
	if page.Collected {
		page.Failure = newStatusFailure(s.err, "")
	}
	if id := query.Get("subscription"); id != "" {
		sub := s.find(strings.ToLower(id))
		if sub == nil {
			return nil, fmt.Errorf("%w: unknown subscription", errNoSuchPage)
		}
		page.Detail = newStatusRow(s, sub)
		return page, nil
	}
	page.Aggregates = aggregates(s)
	state := query.Get("state")
	if state != "" && !slices.Contains(states, state) {
		return nil, fmt.Errorf("%w: unknown state", errNoSuchPage)
	}
	entries := page.filter(s, state)
	page.paginate(query, state, len(entries))
	for _, e := range entries[(page.Page-1)*statusRows : min(page.Page*statusRows, len(entries))] {
		page.Rows = append(page.Rows, newStatusRow(s, e.subscription))
	}
	return page, nil
}

// filter returns the subscriptions in a state, worst first, and sets the links to all states.
func (p *statusPage) filter(s *snapshot, state string) []statusEntry {
	counts := map[string]int{}
	var entries []statusEntry
	for _, sub := range s.subscriptions {
		entry := newStatusEntry(s, sub)
		counts[entry.state]++
		if state == "" || entry.state == state {
			entries = append(entries, entry)
		}
	}
	p.Filters = []statusFilter{{"all", "status", len(s.subscriptions), state == ""}}
	for _, name := range states {
		p.Filters = append(p.Filters, statusFilter{name, "status?state=" + name, counts[name], state == name})
	}
	slices.SortFunc(entries, worstFirst)
	return entries
}

// paginate sets the page that is asked for and its neighbours.
func (p *statusPage) paginate(query url.Values, state string, entries int) {
	p.Pages = max(1, (entries+statusRows-1)/statusRows)
	p.Page = 1
	if n, err := strconv.Atoi(query.Get("page")); err == nil {
		p.Page = min(max(1, n), p.Pages)
	}
	link := func(n int) string {
		values := url.Values{"page": {strconv.Itoa(n)}}
		if state != "" {
			values.Set("state", state)
		}
		return "status?" + values.Encode()
	}
	if p.Page > 1 {
		p.Prev = link(p.Page - 1)
	}
	if p.Page < p.Pages {
		p.Next = link(p.Page + 1)
	}
}

func newStatusFailure(err error, subscriptionID string) *statusFailure {
	if err == nil {
		return nil
	}
	return &statusFailure{Reason: azure.ReasonOf(err), Text: err.Error(), Fix: azure.Hint(err, subscriptionID, azure.Identity{})}
}

// age is the time since then, in one unit.
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
