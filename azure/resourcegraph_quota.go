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

	mu       sync.Mutex
	resets   time.Time     // the end of this window
	windows  int           // so far
	sent     int           // queries in this window
	scores   int           // of these, those that did not yield
	peak     int           // the maximum of these in one window
	inFlight int           // of sent; Azure may not have counted them yet
	reported int           // the fewest queries that Azure said remain in this window
	returned chan struct{} // closed when a query returns
}

// yielding marks the context of queries that leave a part of the quota to others.
type yielding struct{}

// yieldToScores returns a context whose queries leave a third of the quota to the scores, and as
// much as the scores used in any window so far. They also leave them the whole first window,
// because the first collection of a process has everything to read.
func yieldToScores(ctx context.Context) context.Context {
	return context.WithValue(ctx, yielding{}, true)
}

func newGraphQuota(queries int) *graphQuota {
	return &graphQuota{queries: queries, returned: make(chan struct{})}
}

// wait takes one query from the quota; update must follow. It waits for the queries in flight and
// for the next window if that starts before the deadline of ctx; otherwise it fails at once with
// [ReasonThrottled].
func (q *graphQuota) wait(ctx context.Context) error {
	yields := ctx.Value(yielding{}) != nil
	for {
		wait, returned := q.take(time.Now(), yields)
		if wait <= 0 {
			return nil
		}
		if deadline, ok := ctx.Deadline(); ok && returned == nil && time.Until(deadline) <= wait {
			return &Error{Reason: ReasonThrottled, Err: fmt.Errorf("the quota of Resource Graph resets in %s, after the deadline", wait.Round(time.Millisecond))}
		}
		select {
		case <-returned:
		case <-time.After(wait):
		case <-ctx.Done():
			return classify(ctx.Err())
		}
	}
}

// take takes one query if any remains. Otherwise it returns how long to wait, and what is closed
// when a query in flight returns, because its response may leave room.
func (q *graphQuota) take(now time.Time, yields bool) (wait time.Duration, returned <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !now.Before(q.resets) {
		q.resets = now.Add(graphQuotaWindow)
		q.windows++
		q.sent, q.scores, q.inFlight, q.reported = 0, 0, 0, q.queries
	}
	remaining := min(q.queries-q.sent, q.reported-q.inFlight)
	switch {
	case remaining > 0 && !yields:
		q.scores++
		q.peak = max(q.peak, q.scores)
	case remaining > q.reserved() && yields:
	case q.inFlight > 0:
		return q.resets.Sub(now), q.returned
	default:
		return q.resets.Sub(now), nil
	}
	q.sent++
	q.inFlight++
	return 0, nil
}

// reserved returns how many queries are left to others. One of a window is always for those that
// yield, or they would starve.
func (q *graphQuota) reserved() int {
	if q.windows == 1 {
		return q.queries
	}
	return min(max((q.queries+2)/3, q.peak), q.queries-1)
}

// update applies what the headers of a response report. What remains only falls, because responses
// overtake each other.
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
	q.inFlight = max(q.inFlight-1, 0) // it may be of the window before
	q.reported = min(q.reported, remaining)
	if known {
		q.resets = now.Add(resets)
	}
	close(q.returned)
	q.returned = make(chan struct{})
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
