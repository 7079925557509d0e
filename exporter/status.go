package exporter

import (
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
)

// maxStatusPages bounds the pages that are rendered at the same time.
const maxStatusPages = 4

// statusPage is the content of /status: the list, or the detail of one subscription.
type statusPage struct {
	page
	Settings []Setting

	Collected        bool // there was a collection
	CollectedAt, Now time.Time
	Duration         time.Duration
	API              apiStats
	Failure          *statusFailure // of the token or the list of subscriptions, or nil

	List   *statusList
	Detail *statusDetail
}

// statusFailure is a failure and how to fix it.
type statusFailure struct {
	Reason azure.Reason
	Text   string
	Fix    string
}

// serveStatus shows the last snapshot to people. It never calls Azure.
func (h *handlers) serveStatus(w http.ResponseWriter, r *http.Request) {
	// Rendering takes milliseconds, so the queue is short. The wait ends when the client disconnects.
	if err := h.pages.Acquire(r.Context(), 1); err != nil {
		return
	}
	text, err := h.renderStatus(r.URL.Query())
	h.servePage(w, r, text, err)
}

// renderStatus renders the page and releases the slot, so that a slow reader does not keep it.
func (h *handlers) renderStatus(values url.Values) ([]byte, error) {
	defer h.pages.Release(1)
	content, err := h.newStatusPage(h.cache.latest(), values)
	if err != nil {
		return nil, err
	}
	return renderPage("status.html", content)
}

func (h *handlers) newStatusPage(s *snapshot, values url.Values) (*statusPage, error) {
	query, err := parseStatusQuery(values)
	if err != nil {
		return nil, err
	}
	p := &statusPage{
		page: newPage(h.cfg), Settings: h.cfg.Settings,
		Collected: !s.collectedAt.IsZero(), CollectedAt: s.collectedAt, Now: h.cfg.now(),
		Duration: s.duration, API: s.api,
	}
	if p.Collected {
		p.Failure = newStatusFailure(s.err, "")
	}
	portal := h.collector.source.RecommendationsURL
	if query.subscription == "" {
		p.List = newStatusList(s, query, portal)
		return p, nil
	}
	sub := s.find(query.subscription)
	if sub == nil {
		return nil, fmt.Errorf("%w: unknown subscription", errNoSuchPage)
	}
	p.Detail = newStatusDetail(s, sub, portal)
	return p, nil
}

func newStatusFailure(err error, subscriptionID string) *statusFailure {
	if err == nil {
		return nil
	}
	return &statusFailure{Reason: azure.ReasonOf(err), Text: err.Error(), Fix: azure.Hint(err, subscriptionID, azure.Identity{})}
}
