package exporter

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
)

// serveProbe serves the series of one subscription, and whether it could be read. Only listed
// subscriptions can be probed: clients must not use its credential to read others.
func (h *handlers) serveProbe(w http.ResponseWriter, r *http.Request) {
	started := time.Now()
	id, err := azure.ParseSubscriptionID(r.URL.Query().Get("target"))
	if err != nil {
		http.Error(w, "target: "+err.Error(), http.StatusBadRequest)
		return
	}
	probe := h.probeLive
	if h.cfg.CacheTTL > 0 {
		probe = h.probeCached
	}
	sub, err := probe(r.Context(), id)
	switch {
	case err != nil:
		http.Error(w, "the list of subscriptions is not available: "+string(azure.ReasonOf(err)), http.StatusServiceUnavailable)
		return
	case sub == nil:
		http.Error(w, "subscription is neither configured nor listed by Azure", http.StatusNotFound)
		return
	}
	response := newExposition((&snapshot{
		subscriptions: []*subscription{sub}, families: probeFamilies(sub.err == nil, time.Since(started)),
	}).seal(h.cache.cutoffs(), nil), r)
	setWriteDeadline(w)
	if err := response.serve(w, prometheus.NewRegistry()); err != nil {
		level.Debug(h.cfg.Logger).Log("msg", "cannot serve probe", "subscription_id", id, "err", err)
	}
}

// probeFamilies are the families of a subscription and those of the probe itself.
func probeFamilies(success bool, took time.Duration) []family {
	probe := slices.DeleteFunc(slices.Clone(families), func(f family) bool { return f.ofSubscription == nil })
	return append(
		probe,
		family{name: "probe_duration_seconds", help: "Duration of the probe in seconds.", ofSnapshot: func(w *sampleWriter, _ *snapshot) { w.sample(took.Seconds()) }},
		family{name: "probe_success", help: "1 if the subscription could be read, 0 if not.", ofSnapshot: func(w *sampleWriter, _ *snapshot) { w.sample(boolean(success)) }},
	)
}

// probeLive reads a subscription from Azure. It returns nil when the subscription is not listed,
// and an error when there is no list.
func (h *handlers) probeLive(ctx context.Context, id string) (*subscription, error) {
	listErr := h.collector.subscriptions.refresh(ctx)
	known, ok := h.collector.subscriptions.find(id)
	switch {
	case !ok && h.collector.subscriptions.isListed():
		return nil, nil
	case !ok:
		return nil, listErr
	}
	sub := &subscription{Subscription: known}
	if isAuthentication(listErr) {
		h.collector.failAll([]*subscription{sub}, listErr)
		return sub, nil
	}
	if !known.Active() {
		return sub, nil
	}
	return h.liveReads.get(ctx, known), nil
}

// probeCached returns a subscription of the snapshot that /metrics serves, so that all probes
// together cost one collection. One that was discovered since is read live.
func (h *handlers) probeCached(ctx context.Context, id string) (*subscription, error) {
	s := h.cache.get(ctx)
	if sub := s.find(id); sub != nil {
		return sub, nil
	}
	if _, listed := h.collector.subscriptions.find(id); listed {
		return h.probeLive(ctx, id)
	}
	switch {
	case s.collectedAt.IsZero():
		return nil, context.DeadlineExceeded
	case len(s.subscriptions) == 0:
		return nil, s.err
	}
	return nil, nil
}
