package exporter

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/go-kit/log/level"
	"golang.org/x/sync/semaphore"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
)

// maxLiveReads bounds the subscriptions that live probes read concurrently. It is small
// because requests to Azure are served in order of arrival: /metrics must keep its share.
const maxLiveReads = 8

// liveReads read single subscriptions for probes. Overlapping probes of one subscription share
// one read.
type liveReads struct {
	collector  *collector
	background *background
	turns      *semaphore.Weighted

	mu   sync.Mutex
	byID map[string]*liveRead
}

// liveRead is a running read. Like a collection, it outlives the probe that started it.
type liveRead struct {
	deadline time.Time
	done     chan struct{} // closed once result is set
	result   *subscription // nil after a panic
}

func newLiveReads(c *collector, b *background) *liveReads {
	return &liveReads{collector: c, background: b, turns: semaphore.NewWeighted(maxLiveReads), byID: map[string]*liveRead{}}
}

// get reads the subscription before ctx ends, or joins a probe that is reading it.
func (l *liveReads) get(ctx context.Context, s azure.Subscription) *subscription {
	deadline, _ := ctx.Deadline()
	for {
		read := l.startOrJoin(s, deadline)
		if read == nil { // shutting down
			return &subscription{Subscription: s, err: context.Canceled}
		}
		select {
		case <-read.done:
		case <-ctx.Done():
			return &subscription{Subscription: s, err: ctx.Err()}
		}
		if read.result == nil {
			return &subscription{Subscription: s, err: errors.New("the probe panicked")}
		}
		if !isOutOfTime(read.result.err) || !read.deadline.Before(deadline) {
			return read.result
		}
	}
}

// startOrJoin returns the running read of the subscription. When there is none it starts one. It
// returns nil when the exporter is shutting down.
func (l *liveReads) startOrJoin(s azure.Subscription, deadline time.Time) *liveRead {
	l.mu.Lock()
	defer l.mu.Unlock()
	if read := l.byID[s.ID]; read != nil {
		return read
	}
	read := &liveRead{deadline: deadline, done: make(chan struct{})}
	work := func(ctx context.Context) { read.result = l.read(ctx, s) }
	done := func() {
		l.mu.Lock()
		delete(l.byID, s.ID)
		l.mu.Unlock()
		close(read.done)
	}
	if !l.background.start(deadline, work, done, "msg", "probe panicked", "subscription_id", s.ID) {
		return nil
	}
	l.byID[s.ID] = read
	return read
}

// read reads the subscription once it has a turn.
func (l *liveReads) read(ctx context.Context, s azure.Subscription) *subscription {
	if err := l.turns.Acquire(ctx, 1); err != nil {
		return l.failed(s, err)
	}
	defer l.turns.Release(1)
	result := &subscription{Subscription: s}
	result.record(l.collector.source.SecureScores(ctx, []string{s.ID})[0], l.collector.now())
	if result.err != nil {
		return l.failed(s, result.err)
	}
	return result
}

// failed counts a failed read, whatever the number of probes that share it. It is logged for
// debugging only: the metrics show it, and there can be a thousand probes a minute.
func (l *liveReads) failed(s azure.Subscription, err error) *subscription {
	l.collector.countFailure(err)
	level.Debug(l.collector.logger).Log("msg", "cannot read subscription", "subscription_id", s.ID, "reason", azure.ReasonOf(err), "err", err)
	return &subscription{Subscription: s, err: err}
}
