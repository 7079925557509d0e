package exporter

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
)

// serveProbe serves one subscription: its series, and whether it could be read.
// Only subscriptions that are configured or discovered are probed, because the
// exporter's credential is no open door.
func (e *Exporter) serveProbe(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	id, err := azure.ParseSubscriptionID(r.URL.Query().Get("target"))
	if err != nil {
		http.Error(w, "target: "+err.Error(), http.StatusBadRequest)
		return
	}
	read := e.readLive
	if e.cfg.CacheTTL > 0 {
		read = e.readCached
	}
	sub, err := read(r, id, began.Add(e.timeout(r)))
	switch {
	case err != nil:
		http.Error(w, "the subscriptions are not known: "+string(azure.ReasonOf(err)), http.StatusServiceUnavailable)
		return
	case sub == nil:
		http.Error(w, "no such subscription is configured or discovered", http.StatusNotFound)
		return
	}

	f := newBuilder()
	f.addSubscription(sub, time.Now().Add(-e.cfg.MaxStale))
	f.add(probeSuccess, boolean(sub.err == nil))
	f.add(probeDuration, time.Since(began).Seconds())
	registry := prometheus.NewRegistry()
	if err := registry.Register(&snapshot{families: f.families()}); err != nil {
		level.Error(e.logger).Log("msg", "cannot serve a probe", "subscription_id", id, "err", err)
	}
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog: promhttpLogger{e.logger}, ErrorHandling: promhttp.ContinueOnError, EnableOpenMetrics: true,
	}).ServeHTTP(w, r)
}

// readLive reads a subscription from Azure. It returns nil when there is no such
// subscription, and an error when that cannot be told.
func (e *Exporter) readLive(r *http.Request, id string, deadline time.Time) (*subscription, error) {
	ctx, cancel := e.untilDeadline(r, deadline)
	defer cancel()
	authErr, listErr := e.discovery.discover(ctx)
	known, ok := e.discovery.find(id)
	if !ok {
		if _, listedAt := e.discovery.list(); listedAt.IsZero() {
			return nil, listErr
		}
		return nil, nil
	}
	sub := &subscription{Subscription: known}
	switch {
	case !sub.Active():
	case authErr != nil:
		sub.err = authErr
	default:
		sub.take(e.source.SecureScores(ctx, []string{id})[0])
	}
	sub.turn = time.Now()
	if sub.err != nil {
		// The metrics tell; there may be a thousand probes a minute.
		level.Debug(e.logger).Log("msg", "cannot read subscription", "subscription_id", id, "reason", azure.ReasonOf(sub.err), "err", sub.err)
	}
	e.count(sub)
	return sub, nil
}

// readCached reads a subscription from the snapshot that /metrics serves, so that
// all probes together cost one collection. One that was discovered since is read live.
func (e *Exporter) readCached(r *http.Request, id string, deadline time.Time) (*subscription, error) {
	e.refresh(r.Context(), deadline)
	snapshot := e.snapshot.Load()
	for _, sub := range snapshot.subscriptions {
		if sub.ID == id {
			return sub, nil
		}
	}
	_, discovered := e.discovery.find(id)
	switch {
	case discovered:
		return e.readLive(r, id, deadline)
	case snapshot.at.IsZero():
		return nil, context.DeadlineExceeded
	case len(snapshot.subscriptions) == 0:
		return nil, snapshot.err
	}
	return nil, nil
}

// target is an entry of Prometheus' HTTP service discovery.
type target struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

// serveDiscovery serves Prometheus' HTTP service discovery: each subscription is a
// target, whose address is its ID, to be relabelled into /probe?target=ID.
func (e *Exporter) serveDiscovery(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := e.untilDeadline(r, time.Now().Add(e.timeout(r)))
	defer cancel()
	_, err := e.discovery.discover(ctx)
	subscriptions, listedAt := e.discovery.list()
	if err != nil && len(subscriptions) == 0 {
		// Prometheus keeps the targets that it has when it gets an error.
		http.Error(w, "the subscriptions are not known: "+string(azure.ReasonOf(err)), http.StatusServiceUnavailable)
		return
	}
	targets := make([]target, len(subscriptions))
	for i, s := range subscriptions {
		targets[i] = target{[]string{s.ID}, map[string]string{
			"__meta_azure_secure_score_subscription_id":    s.ID,
			"__meta_azure_secure_score_subscription_name":  s.Name,
			"__meta_azure_secure_score_subscription_state": s.State,
			"__meta_azure_secure_score_tenant_id":          s.TenantID,
		}}
	}
	body, err := json.Marshal(targets)
	if err != nil {
		http.Error(w, "cannot encode the targets", http.StatusInternalServerError)
		return
	}
	sum := sha256.Sum256(body)
	tag := `"` + hex.EncodeToString(sum[:16]) + `"`
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("ETag", tag)
	w.Header().Set("Cache-Control", fmt.Sprintf("max-age=%d", max(0, int((e.cfg.DiscoveryInterval-time.Since(listedAt)).Seconds()))))
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	_, _ = w.Write(body) // a client that is gone is not our trouble
}
