package exporter

import (
	"context"
	"fmt"
	"runtime/debug"
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
	collector *collector
	ctx       context.Context // of all reads
	running   *sync.WaitGroup
	turns     *semaphore.Weighted

	mu   sync.Mutex
	byID map[string]*liveRead
}

// liveRead is a running read. Like a collection, it outlives the probe that started it.
type liveRead struct {
	deadline time.Time
	done     chan struct{} // closed once result is set
	result   *subscription
}

func newLiveReads(c *cache) *liveReads {
	return &liveReads{
		collector: c.collector, ctx: c.ctx, running: &c.background,
		turns: semaphore.NewWeighted(maxLiveReads), byID: map[string]*liveRead{},
	}
}

// get reads the subscription before ctx ends, or joins a probe that is reading it.
func (l *liveReads) get(ctx context.Context, s azure.Subscription) *subscription {
	deadline, _ := ctx.Deadline()
	for {
		read := l.startOrJoin(s, deadline)
		select {
		case <-read.done:
		case <-ctx.Done():
			return l.failed(s, ctx.Err())
		}
		if azure.ReasonOf(read.result.err) != azure.ReasonTimeout || !read.deadline.Before(deadline) {
			return read.result
		}
	}
}

func (l *liveReads) startOrJoin(s azure.Subscription, deadline time.Time) *liveRead {
	l.mu.Lock()
	defer l.mu.Unlock()
	if read := l.byID[s.ID]; read != nil {
		return read
	}
	read := &liveRead{deadline: deadline, done: make(chan struct{})}
	l.byID[s.ID] = read
	l.running.Go(func() {
		ctx, cancel := context.WithDeadline(l.ctx, deadline)
		defer cancel()
		read.result = l.read(ctx, s)
		l.mu.Lock()
		delete(l.byID, s.ID)
		l.mu.Unlock()
		close(read.done)
	})
	return read
}

// read reads the subscription once it has a turn.
func (l *liveReads) read(ctx context.Context, s azure.Subscription) (result *subscription) {
	defer func() {
		if p := recover(); p != nil {
			l.collector.metrics.panics.Inc()
			level.Error(l.collector.logger).Log("msg", "probe panicked", "subscription_id", s.ID, "err", fmt.Sprint(p), "stack", string(debug.Stack()))
			result = l.failed(s, fmt.Errorf("probe panicked: %v", p))
		}
	}()
	if err := l.turns.Acquire(ctx, 1); err != nil {
		return l.failed(s, err)
	}
	defer l.turns.Release(1)
	result = &subscription{Subscription: s}
	result.record(l.collector.source.SecureScores(ctx, []string{s.ID})[0], l.collector.now())
	if result.err != nil {
		return l.failed(s, result.err)
	}
	return result
}

// failed counts a failure. It is logged for debugging only: the metrics show it, and there can be
// a thousand probes a minute.
func (l *liveReads) failed(s azure.Subscription, err error) *subscription {
	l.collector.countFailure(err)
	level.Debug(l.collector.logger).Log("msg", "cannot read subscription", "subscription_id", s.ID, "reason", azure.ReasonOf(err), "err", err)
	return &subscription{Subscription: s, err: err}
}
