package exporter

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
)

// cache holds the last snapshot and runs collections, one at a time: overlapping scrapes share
// one (singleflight). With a TTL it serves stale while it revalidates.
type cache struct {
	collector  *collector
	background *background
	ttl        time.Duration
	maxStale   time.Duration
	timeout    time.Duration // of a collection that no scrape waits for
	now        func() time.Time

	recommendations *recommendations

	published   atomic.Pointer[snapshot]
	publishing  sync.Mutex         // orders those who replace the published snapshot
	recommended *recommendationSet // for the next snapshots; nil until they are first read

	mu      sync.Mutex
	running *collection
}

// collection is a running collection. It belongs to the cache and not to the scrape that
// started it: a client that disconnects does not end it for the others.
type collection struct {
	deadline time.Time
	done     chan struct{} // closed when the snapshot is published
}

func newCache(c *collector, b *background, reader *azure.RecommendationReader, cfg Config) *cache {
	cache := &cache{
		collector: c, background: b, ttl: cfg.CacheTTL, maxStale: cfg.MaxStale, timeout: cfg.ScrapeTimeout,
		now: cfg.now,
	}
	cache.recommendations = &recommendations{
		reader: reader, background: b, interval: cfg.RecommendationsInterval, maximum: cfg.MaxRecommendations,
		publish: cache.publishRecommendations, logger: cfg.Logger, now: cfg.now,
	}
	cache.publish(&snapshot{err: errors.New("no collection has finished yet"), families: c.families})
	return cache
}

// get returns the snapshot to serve. A fresh one is returned as is; a stale one is returned
// while a refresh runs in the background; otherwise get waits for the shared collection or the
// deadline of ctx.
func (c *cache) get(ctx context.Context) *snapshot {
	latest := c.latest()
	validSince := c.now().Add(-c.ttl)
	if latest.isFresh(validSince) {
		return latest
	}
	if c.canServeStale(latest) {
		c.startOrJoin(time.Now().Add(c.timeout), validSince)
		return latest
	}
	deadline, _ := ctx.Deadline()
	collectBy := c.collectionDeadline(deadline)
	for {
		run := c.startOrJoin(collectBy, validSince)
		if run == nil { // shutting down
			return c.latest()
		}
		c.wait(ctx, run)
		latest = c.latest()
		// A scrape with an earlier deadline gave the collection less time than this one has. The
		// remaining subscriptions get the rest of it; those already read stay valid.
		if ctx.Err() != nil || !run.deadline.Before(collectBy) || !latest.cutShort() {
			return latest
		}
	}
}

// canServeStale reports whether a scrape is served from the cache while a refresh runs in the
// background.
func (c *cache) canServeStale(s *snapshot) bool {
	return c.ttl > 0 && !s.collectedAt.Before(c.now().Add(-c.ttl).Add(-c.maxStale)) && (s.err == nil || len(s.subscriptions) > 0)
}

// collectionDeadline returns when a collection for a scrape with this deadline must end.
func (c *cache) collectionDeadline(scrape time.Time) time.Time {
	latest := c.published.Load()
	if latest.listTimedOut() && c.ttl > 0 {
		return time.Now().Add(c.timeout) // a list slower than a scrape would never be complete
	}
	return scrape.Add(-renderReserve(time.Until(scrape), latest.renderTime()))
}

// renderReserve returns how much of a scrape's remaining time is kept for rendering, given how long
// the last rendering took. On a busy machine it takes twice as long.
func renderReserve(remaining, lastRendering time.Duration) time.Duration {
	return min(2*lastRendering, remaining/2)
}

// startOrJoin returns the running collection. When there is none it starts one, which reads the
// subscriptions last read before validSince. It returns nil when the exporter is shutting down.
func (c *cache) startOrJoin(deadline, validSince time.Time) *collection {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running != nil {
		return c.running
	}
	run := &collection{deadline: deadline, done: make(chan struct{})}
	collect := func(ctx context.Context) { c.publish(c.collector.collect(ctx, c.published.Load(), validSince)) }
	if c.background.start(deadline, collect, func() { c.end(run) }, "msg", "collection panicked") {
		c.running = run
	}
	return c.running
}

// end lets scrapes start another collection. After a panic, the last snapshot is still published.
func (c *cache) end(run *collection) {
	c.mu.Lock()
	c.running = nil
	c.mu.Unlock()
	close(run.done)
}

// publish makes a snapshot the latest, with the latest recommendations.
func (c *cache) publish(s *snapshot) {
	c.publishing.Lock()
	defer c.publishing.Unlock()
	c.replace(s)
}

// publishRecommendations adds them to the last snapshot, and to those that follow.
func (c *cache) publishRecommendations(set *recommendationSet) {
	c.publishing.Lock()
	defer c.publishing.Unlock()
	c.recommended = set
	c.replace(c.published.Load())
}

// replace publishes the snapshot as of now. The lock is held.
func (c *cache) replace(s *snapshot) {
	c.published.Store(s.asOf(c.cutoffs(), c.recommended))
}

// settleTime is how long a scrape waits beyond its deadline for a collection that ends at the same
// moment, by the deadline or the shutdown.
const settleTime = 2 * time.Second

// wait returns when the collection is done or ctx ends.
func (c *cache) wait(ctx context.Context, run *collection) {
	select {
	case <-run.done:
		return
	case <-ctx.Done():
	}
	deadline, _ := ctx.Deadline()
	endsNow := c.background.ctx.Err() != nil || errors.Is(ctx.Err(), context.DeadlineExceeded) && !run.deadline.After(deadline)
	if !endsNow {
		return
	}
	select {
	case <-run.done:
	case <-time.After(settleTime):
	}
}

// latest returns the last snapshot, without the values that are too old to be served by now.
func (c *cache) latest() *snapshot {
	if latest := c.published.Load(); !latest.expires(c.cutoffs()) {
		return latest
	}
	c.publishing.Lock()
	defer c.publishing.Unlock()
	if latest := c.published.Load(); latest.expires(c.cutoffs()) {
		c.replace(latest)
	}
	return c.published.Load()
}

// cutoffs returns how old values can be now. A failing subscription's last good values are
// served for maxStale. Those of a healthy one hold until the next collection, which is due
// after the TTL; without a collection they expire as well. Recommendations change slowly and are
// served longer.
func (c *cache) cutoffs() cutoffs {
	now := c.now()
	return cutoffs{
		failing:         now.Add(-c.maxStale),
		healthy:         now.Add(-c.maxStale).Add(-c.ttl).Add(-c.timeout),
		recommendations: now.Add(-azure.MaxRecommendationAge),
	}
}
