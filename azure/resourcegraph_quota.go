package azure

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// The published quota, in use until Azure reports a smaller one.
const (
	graphQuotaQueries = 15
	graphQuotaWindow  = 5 * time.Second
	maxQuotaWait      = time.Minute // how far away a window's end is believed to be
)

// graphQuota keeps the process within Resource Graph's quota, which Azure counts per identity in
// windows of some seconds.
type graphQuota struct {
	queries int // per window

	mu        sync.Mutex
	remaining int       // in this window
	resets    time.Time // the end of this window
	windows   int       // so far
	scores    int       // queries in this window that did not yield
	peak      int       // the most of these in one window
}

// yielding marks the context of queries that leave a part of the quota to others.
type yielding struct{}

// yieldToScores returns a context whose queries leave a third of the quota to the scores, and as
// much as the scores used in any window so far. They also leave them the whole first window,
// because the first collection of a process has everything to read.
func yieldToScores(ctx context.Context) context.Context {
	return context.WithValue(ctx, yielding{}, true)
}

func newGraphQuota(queries int) *graphQuota { return &graphQuota{queries: queries} }

// wait takes one query from the quota. It waits for the next window if that starts before the
// deadline of ctx; otherwise it fails at once with [ReasonThrottled].
func (q *graphQuota) wait(ctx context.Context) error {
	take := q.take
	if ctx.Value(yielding{}) != nil {
		take = q.takeYielding
	}
	for {
		wait := take(time.Now())
		if wait <= 0 {
			return nil
		}
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= wait {
			return &Error{Reason: ReasonThrottled, Err: fmt.Errorf("the quota of Resource Graph resets in %s, after the deadline", wait.Round(time.Millisecond))}
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return classify(ctx.Err())
		}
	}
}

// take takes one query if any remains, or returns how long to wait.
func (q *graphQuota) take(now time.Time) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.roll(now)
	if q.remaining <= 0 {
		return q.resets.Sub(now)
	}
	q.remaining--
	q.scores++
	q.peak = max(q.peak, q.scores)
	return 0
}

// takeYielding is take for queries that leave a part of the quota to others. One query of a window
// is always theirs, or they would starve.
func (q *graphQuota) takeYielding(now time.Time) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.roll(now)
	reserved := min(max((q.queries+2)/3, q.peak), q.queries-1)
	if q.windows == 1 || q.remaining <= reserved {
		return q.resets.Sub(now)
	}
	q.remaining--
	return 0
}

// roll starts the next window if this one has ended.
func (q *graphQuota) roll(now time.Time) {
	if !now.Before(q.resets) {
		q.remaining, q.resets = q.queries, now.Add(graphQuotaWindow)
		q.windows++
		q.scores = 0
	}
}

// update applies what the headers of a response report. It only lowers what remains, because Azure
// may not have counted other queries in flight yet.
func (q *graphQuota) update(h http.Header, throttled bool) {
	now := time.Now()
	remaining, err := strconv.Atoi(h.Get("x-ms-user-quota-remaining"))
	if err != nil {
		remaining = q.queries
	}
	resets, known := quotaResetsAfter(h, throttled)
	resets = min(resets, maxQuotaWait)
	if throttled {
		remaining = 0
		if !known || resets <= 0 {
			resets, known = graphQuotaWindow, true
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.remaining = min(q.remaining, max(remaining, 0))
	if known {
		q.resets = now.Add(resets)
	}
}

// quotaResetsAfter reads x-ms-user-quota-resets-after (hh:mm:ss), or the Retry-After (seconds) of a
// refusal; other responses have it for other reasons. The former may have lost a fraction of a
// second, which is added so that the last queries of a window are not refused.
func quotaResetsAfter(h http.Header, throttled bool) (time.Duration, bool) {
	if clock, err := time.Parse("15:04:05", h.Get("x-ms-user-quota-resets-after")); err == nil {
		return time.Duration(clock.Hour())*time.Hour + time.Duration(clock.Minute())*time.Minute + time.Duration(clock.Second()+1)*time.Second, true
	}
	if seconds, err := strconv.Atoi(h.Get("Retry-After")); err == nil && seconds >= 0 && throttled {
		return time.Duration(seconds) * time.Second, true
	}
	return 0, false
}
