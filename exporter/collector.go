package exporter

import (
	"context"
	"slices"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
)

// collector makes collections.
type collector struct {
	source        Source
	subscriptions *subscriptionList
	metrics       *selfMetrics
	families      []family
	logger        log.Logger
	now           func() time.Time
}

// collect lists the subscriptions and reads the scores of those last read before validSince. It
// returns by the end of ctx, with what is known by then.
func (c *collector) collect(ctx context.Context, previous *snapshot, validSince time.Time) *snapshot {
	started := c.now()
	c.metrics.collections.Inc()
	c.metrics.api.resetStats()

	listErr := c.subscriptions.refresh(ctx)
	subscriptions := mergeSubscriptions(c.subscriptions.list(), previous.subscriptions)
	if isAuthentication(listErr) {
		c.failAll(subscriptions, listErr)
	} else {
		c.fetchScores(ctx, subscriptions, previous.err, validSince)
	}

	now := c.now()
	next := &snapshot{
		collectedAt:   now,
		duration:      now.Sub(started),
		err:           listErr,
		subscriptions: subscriptions,
		api:           c.metrics.api.resetStats(),
		families:      c.families,
	}
	next.rendered.Store(int64(previous.renderTime()))
	return next
}

// failAll fails every subscription without a request: the credential's failure is logged once.
func (c *collector) failAll(subscriptions []*subscription, err error) {
	for _, s := range subscriptions {
		if s.Active() {
			s.err, s.lastPolled = err, time.Time{}
			c.countFailure(s.err)
		}
	}
}

// fetchScores reads the subscriptions that need it, longest-waiting first.
func (c *collector) fetchScores(ctx context.Context, subscriptions []*subscription, lastListErr error, validSince time.Time) {
	var polled []*subscription
	for _, s := range subscriptions {
		if s.needsRefresh(validSince) {
			polled = append(polled, s)
		}
	}
	slices.SortStableFunc(polled, func(a, b *subscription) int { return a.lastPolled.Compare(b.lastPolled) })
	ids := make([]string, len(polled))
	for i, s := range polled {
		ids[i] = s.ID
	}

	started := time.Now()
	results := c.source.SecureScores(ctx, ids)
	took, now := time.Since(started), c.now()
	for i, s := range polled {
		before := *s
		if isAuthentication(before.err) && isAuthentication(lastListErr) {
			before.err = nil // its recovery is logged once for all subscriptions
		}
		result := results[i]
		results[i] = azure.Result{} // thousands of results are larger than what is kept of them
		s.record(result, now)
		c.countFailure(s.err)
		c.logTransition(s, before)
		if hadItsTurn(result, started, took) {
			s.lastPolled = now
		}
	}
}

// hadItsTurn reports whether a subscription goes to the end of the queue. One that the deadline or
// the quota cut off stays in front, unless it had half of the collection's time: otherwise a few
// that always hang would starve the others.
func hadItsTurn(r azure.Result, started time.Time, took time.Duration) bool {
	return !isOutOfTime(r.Err) || !r.StartedAt.IsZero() && r.StartedAt.Sub(started) <= took/2
}

func isAuthentication(err error) bool { return azure.ReasonOf(err) == azure.ReasonAuthentication }

// countFailure counts a subscription that could not be read.
func (c *collector) countFailure(err error) {
	if err != nil {
		c.metrics.failures.WithLabelValues(string(azure.ReasonOf(err))).Inc()
	}
}

// logTransition logs that a subscription starts to fail, fails for another cause, or recovers. One
// that keeps failing is logged once, not on every scrape.
func (c *collector) logTransition(s *subscription, before subscription) {
	logger := log.With(c.logger, "subscription_id", s.ID)
	switch reason := azure.ReasonOf(s.err); {
	case reason == azure.ReasonCanceled: // shutting down
	case reason == "" && before.err != nil:
		level.Info(logger).Log("msg", "subscription can be read again", "reason", azure.ReasonOf(before.err))
	case azure.Cause(s.err) != azure.Cause(before.err):
		level.Warn(logger).Log("msg", "cannot read subscription", "reason", reason, "err", s.err, "fix", azure.Hint(s.err, s.ID, azure.Identity{}))
	case reason != "":
		level.Debug(logger).Log("msg", "cannot read subscription", "reason", reason, "err", s.err)
	}
	if s.err == nil && s.lastGood.duplicates > 0 && (before.lastGood == nil || before.lastGood.duplicates != s.lastGood.duplicates) {
		level.Warn(logger).Log("msg", "dropped duplicate scores or controls", "dropped", s.lastGood.duplicates)
	}
}
