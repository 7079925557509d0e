package exporter

import (
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
)

// snapshot is what is known after a collection. It is immutable once published, but for the
// renderings that it keeps.
type snapshot struct {
	collectedAt   time.Time // the end of the collection; zero before the first
	duration      time.Duration
	err           error           // why there was no token or no list of subscriptions, or nil
	subscriptions []*subscription // by ID
	api           apiStats
	cutoffs       cutoffs // which values are too old to be served
	families      []family

	renderings renderings
	rendered   atomic.Int64 // nanoseconds that the last rendering took
}

// cutoffs are the times before which values are too old to be served.
type cutoffs struct{ failing, healthy time.Time }

// values returns the values of a subscription that can be served, or nil.
func (c cutoffs) values(s *subscription) *values {
	if s.lastGood == nil || !s.Active() {
		return nil
	}
	cutoff := c.healthy
	if s.err != nil {
		cutoff = c.failing
	}
	if s.lastGood.validAsOf.Before(cutoff) {
		return nil
	}
	return s.lastGood
}

// expires says whether values that the snapshot serves are too old by now.
func (s *snapshot) expires(now cutoffs) bool {
	return slices.ContainsFunc(s.subscriptions, func(sub *subscription) bool {
		return s.cutoffs.values(sub) != nil && now.values(sub) == nil
	})
}

// asOf returns the snapshot without the values that are too old by now.
func (s *snapshot) asOf(now cutoffs) *snapshot {
	aged := &snapshot{collectedAt: s.collectedAt, duration: s.duration, err: s.err, subscriptions: s.subscriptions, api: s.api, cutoffs: now, families: s.families}
	aged.rendered.Store(s.rendered.Load())
	return aged
}

// needsRefresh says whether a collection has to read any subscription.
func (s *snapshot) needsRefresh(validSince time.Time) bool {
	return slices.ContainsFunc(s.subscriptions, func(sub *subscription) bool { return sub.needsRefresh(validSince) })
}

// cutShort says whether the collection could have read more with more time.
func (s *snapshot) cutShort() bool {
	outOfTime := func(err error) bool {
		reason := azure.ReasonOf(err)
		return reason == azure.ReasonTimeout || reason == azure.ReasonThrottled
	}
	return outOfTime(s.err) || slices.ContainsFunc(s.subscriptions, func(sub *subscription) bool { return outOfTime(sub.err) })
}

// listTimedOut says that there is nothing to serve because the list of subscriptions takes
// longer than a scrape.
func (s *snapshot) listTimedOut() bool {
	return !s.collectedAt.IsZero() && len(s.subscriptions) == 0 && azure.ReasonOf(s.err) == azure.ReasonTimeout
}

// renderTime is how long it took to render and compress the snapshot, or the one before it.
func (s *snapshot) renderTime() time.Duration { return time.Duration(s.rendered.Load()) }

// find returns the subscription with this ID, or nil.
func (s *snapshot) find(id string) *subscription {
	i, ok := slices.BinarySearchFunc(s.subscriptions, id, func(sub *subscription, id string) int {
		return strings.Compare(sub.ID, id)
	})
	if !ok {
		return nil
	}
	return s.subscriptions[i]
}
