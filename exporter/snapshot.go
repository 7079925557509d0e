package exporter

import (
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
)

// snapshot is what is known after a collection. It is immutable once published, except for
// its cached renderings.
type snapshot struct {
	collectedAt   time.Time // the end of the collection; zero before the first
	duration      time.Duration
	err           error           // why there was no token or no list of subscriptions, or nil
	subscriptions []*subscription // sorted by ID
	api           apiStats
	cutoffs       cutoffs // which values are too old to be served
	families      []family
	oldest        oldest

	recommendations *recommendationSet // nil until they are first read
	rankings        []*ranking         // of the subscriptions, in the same order; nil where unknown

	renderings renderings
	rendered   atomic.Int64 // nanoseconds that the last rendering took
}

// cutoffs are the times before which values are too old to be served.
type cutoffs struct{ failing, healthy, recommendations time.Time }

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

// oldest are times that show whether a snapshot is fresh without a look at each subscription.
type oldest struct {
	poll             time.Time // of any subscription to read; zero if one is to be retried at once
	failing, healthy time.Time // of values that are served; zero if there are none
}

// seal completes a snapshot before it is published.
func (s *snapshot) seal(c cutoffs, set *recommendationSet) *snapshot {
	s.cutoffs, s.oldest = c, oldest{poll: s.collectedAt}
	s.recommendations, s.rankings = set, make([]*ranking, len(s.subscriptions))
	for i, sub := range s.subscriptions {
		if !sub.Active() {
			continue
		}
		if set != nil {
			s.rankings[i] = newRanking(set, sub, c)
		}
		s.oldest.poll = earlier(s.oldest.poll, sub.polledAt())
		v := c.values(sub)
		switch {
		case v == nil:
		case sub.err != nil && (s.oldest.failing.IsZero() || v.validAsOf.Before(s.oldest.failing)):
			s.oldest.failing = v.validAsOf
		case sub.err == nil && (s.oldest.healthy.IsZero() || v.validAsOf.Before(s.oldest.healthy)):
			s.oldest.healthy = v.validAsOf
		}
	}
	return s
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// expires reports whether values that the snapshot serves are too old by now.
func (s *snapshot) expires(now cutoffs) bool {
	return !s.oldest.failing.IsZero() && s.oldest.failing.Before(now.failing) ||
		!s.oldest.healthy.IsZero() && s.oldest.healthy.Before(now.healthy)
}

// beyondMaximum is the number of recommendations beyond the maximum, and whether the
// recommendations of any subscription are known.
func (s *snapshot) beyondMaximum() (n int, known bool) {
	for _, r := range s.rankings {
		if r != nil {
			n += r.beyond
			known = known || len(r.scopes) > 0
		}
	}
	return n, known
}

// asOf returns the snapshot without the values that are too old by now, and with these
// recommendations.
func (s *snapshot) asOf(now cutoffs, set *recommendationSet) *snapshot {
	aged := &snapshot{collectedAt: s.collectedAt, duration: s.duration, err: s.err, subscriptions: s.subscriptions, api: s.api, families: s.families}
	aged.rendered.Store(s.rendered.Load())
	return aged.seal(now, set)
}

// isFresh reports whether the snapshot can be served without a collection: it has a token, the
// list, and every subscription was read since then.
func (s *snapshot) isFresh(validSince time.Time) bool {
	return s.err == nil && s.oldest.poll.After(validSince)
}

// cutShort reports whether the collection could have read more with more time.
func (s *snapshot) cutShort() bool {
	return isOutOfTime(s.err) || slices.ContainsFunc(s.subscriptions, func(sub *subscription) bool { return isOutOfTime(sub.err) })
}

// listTimedOut reports that there is nothing to serve because the list of subscriptions takes
// longer than a scrape.
func (s *snapshot) listTimedOut() bool {
	return !s.collectedAt.IsZero() && len(s.subscriptions) == 0 && azure.ReasonOf(s.err) == azure.ReasonTimeout
}

// renderTime is how long it took to render and compress the snapshot, or the one before it.
func (s *snapshot) renderTime() time.Duration { return time.Duration(s.rendered.Load()) }

// find returns the subscription with this ID, or nil.
func (s *snapshot) find(id string) *subscription {
	if i := s.index(id); i >= 0 {
		return s.subscriptions[i]
	}
	return nil
}

// index returns the position of the subscription with this ID, or -1.
func (s *snapshot) index(id string) int {
	i, ok := slices.BinarySearchFunc(s.subscriptions, id, func(sub *subscription, id string) int {
		return strings.Compare(sub.ID, id)
	})
	if !ok {
		return -1
	}
	return i
}
