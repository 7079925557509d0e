// Package exporter turns what Azure says of secure scores into Prometheus
// metrics.
//
// A scrape asks for a [snapshot]: the answer to one collection over all
// subscriptions, immutable once it is there. An [Exporter] makes at most one
// collection at a time, shares it among the scrapes that overlap it, and
// publishes its snapshot as a whole. What fails, fails for one subscription: its
// last good values stay in the snapshots for a while, and a metric says why.
//
// The package makes no HTTP call and reads no JSON; that is the azure package's
// part.
package exporter

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
)

// Config says how to collect and serve.
type Config struct {
	// ScrapeTimeout is the longest that a scrape may take.
	ScrapeTimeout time.Duration
	// TimeoutOffset is what is kept back of the time that Prometheus grants, so
	// that the answer is there before Prometheus gives up.
	TimeoutOffset time.Duration
	// CacheTTL is how long a snapshot serves before Azure is asked again.
	CacheTTL time.Duration
	// MaxStale is how old the last good values of a failing subscription may be.
	MaxStale time.Duration
	// DiscoveryInterval is how long the list of subscriptions is kept.
	DiscoveryInterval time.Duration
	// MaxRequests is how many scrapes may be in flight; more are answered 503.
	MaxRequests int
	// Settings are shown on the status page.
	Settings []Setting
	Logger   log.Logger
}

// Source is where scores come from: ARM's own lists ([azure.Client]) or Resource
// Graph ([azure.ResourceGraph]). Its errors have an [azure.Reason].
type Source interface {
	// Configured returns the subscriptions that are known without asking.
	Configured() []azure.Subscription
	// Authenticate makes sure that there is a token.
	Authenticate(context.Context) error
	// Subscriptions lists the subscriptions to read.
	Subscriptions(context.Context) ([]azure.Subscription, error)
	// SecureScores reads subscriptions, the first ones first, and returns their
	// outcomes in the same order when ctx ends at the latest.
	SecureScores(ctx context.Context, subscriptionIDs []string) []azure.Result
}

// Exporter collects from Azure on demand and serves the result.
type Exporter struct {
	source    Source
	cfg       Config
	api       *APIMetrics
	logger    log.Logger
	discovery *discovery
	own       *prometheus.Registry // what is about the exporter and not in a snapshot

	snapshot atomic.Pointer[snapshot]

	scrapes  prometheus.Counter
	failures *prometheus.CounterVec

	inFlight *semaphore.Weighted // scrapes; taken whole when draining
	draining atomic.Bool

	ctx        context.Context // ends with Cancel
	cancel     context.CancelFunc
	mu         sync.Mutex
	collection *collection // under way, or nil
	background sync.WaitGroup
}

// collection is one round over all subscriptions that is under way.
type collection struct {
	deadline time.Time
	done     chan struct{} // closed when its snapshot is published
}

// New makes an exporter. The source must report its calls to api.
func New(source Source, api *APIMetrics, cfg Config) (*Exporter, error) {
	// The scrape that waited for a value gets it, however short its life is.
	cfg.MaxStale = max(cfg.MaxStale, renderTime)
	ctx, cancel := context.WithCancel(context.Background())
	e := &Exporter{
		source:    source,
		cfg:       cfg,
		api:       api,
		logger:    cfg.Logger,
		discovery: newDiscovery(source, cfg.DiscoveryInterval, cfg.Logger),
		own:       prometheus.NewRegistry(),
		inFlight:  semaphore.NewWeighted(int64(cfg.MaxRequests)),
		ctx:       ctx,
		cancel:    cancel,
	}
	nothing := &snapshot{err: errors.New("nothing was collected yet")}
	nothing.render(time.Now(), cfg.MaxStale)
	e.snapshot.Store(nothing)
	if err := e.register(); err != nil {
		cancel()
		return nil, err
	}
	return e, nil
}

// Drain makes the exporter unready and waits until the scrapes in flight are
// answered or ctx ends; new ones are refused from now on.
func (e *Exporter) Drain(ctx context.Context) error {
	e.draining.Store(true)
	return e.inFlight.Acquire(ctx, int64(e.cfg.MaxRequests))
}

// Cancel ends the collection that is under way and keeps others from beginning.
// What it has not read by then has the reason canceled.
func (e *Exporter) Cancel() { e.cancel() }

// Close cancels and waits for what still runs.
func (e *Exporter) Close() {
	e.mu.Lock()
	e.cancel()
	e.mu.Unlock()
	e.background.Wait()
}

// untilDeadline returns the request's context, ended at the deadline and when the
// exporter stops.
func (e *Exporter) untilDeadline(r *http.Request, deadline time.Time) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithDeadline(r.Context(), deadline)
	stop := context.AfterFunc(e.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// renderTime is more than it takes to make and serve a snapshot of what was read.
const renderTime = 2 * time.Second

// refresh returns when there is a snapshot that may be served to a scrape with
// this context, or when its time is over.
func (e *Exporter) refresh(ctx context.Context, deadline time.Time) {
	// With a cache no scrape waits while there is something to serve. What renews it
	// behind the scrape's back has all the time that a scrape may have.
	last := e.snapshot.Load()
	behind := e.cfg.CacheTTL > 0 && time.Since(last.at) <= e.cfg.MaxStale && (last.err == nil || len(last.subscriptions) > 0)
	end := deadline
	// A list that takes longer than a scrape would never be had within one.
	slowList := e.cfg.CacheTTL > 0 && !last.at.IsZero() && len(last.subscriptions) == 0 && azure.ReasonOf(last.err) == azure.ReasonTimeout
	if behind || slowList {
		end = time.Now().Add(e.cfg.ScrapeTimeout)
	}
	c := e.collect(end)
	if c == nil || behind {
		return
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	select {
	case <-c.done:
	case <-ctx.Done():
		// A collection ends by itself at its deadline, and its snapshot is moments
		// away. One that others gave more time is not waited for: the snapshot
		// before it serves.
		if errors.Is(ctx.Err(), context.DeadlineExceeded) && !c.deadline.After(deadline) {
			select {
			case <-c.done:
			case <-time.After(renderTime):
			}
		}
	}
}

// collect joins the collection that is under way or begins one, unless the
// snapshot is fresh enough or the exporter is stopping: then it returns nil. A
// collection belongs to the exporter and not to the scrape that began it, so that
// a client that goes away does not end it for the others.
func (e *Exporter) collect(deadline time.Time) *collection {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.collection != nil:
		return e.collection
	case e.ctx.Err() != nil, e.snapshot.Load().freshFor(e.cfg.CacheTTL):
		return nil
	}
	c := &collection{deadline: deadline, done: make(chan struct{})}
	e.collection = c
	e.background.Go(func() {
		ctx, cancel := context.WithDeadline(e.ctx, deadline)
		defer cancel()
		e.snapshot.Store(e.newSnapshot(ctx))
		e.mu.Lock()
		e.collection = nil
		e.mu.Unlock()
		close(c.done)
	})
	return c
}

// current returns the newest snapshot, without those values in it that have become
// too old to be served since it was made.
func (e *Exporter) current() *snapshot {
	last, now := e.snapshot.Load(), time.Now()
	if last.expires.IsZero() || now.Before(last.expires) {
		return last
	}
	aged := &snapshot{at: last.at, duration: last.duration, err: last.err, subscriptions: last.subscriptions, traffic: last.traffic}
	aged.render(now, e.cfg.MaxStale)
	if !e.snapshot.CompareAndSwap(last, aged) {
		return e.snapshot.Load() // a newer one
	}
	return aged
}

// newSnapshot makes one collection. It returns when ctx ends at the latest, with
// what is known by then.
func (e *Exporter) newSnapshot(ctx context.Context) *snapshot {
	began := time.Now()
	e.scrapes.Inc()
	e.api.takeTraffic()

	// One failure of the credential is one failure for all: it is told once, and
	// no subscription is asked.
	authErr, listErr := e.discovery.discover(ctx)
	subscriptions := e.nextSubscriptions()
	if authErr != nil {
		for _, s := range subscriptions {
			if s.Active() {
				s.err, s.turn = authErr, time.Time{}
				e.count(s)
			}
		}
	} else {
		e.readScores(ctx, subscriptions)
	}

	now := time.Now()
	next := &snapshot{
		at:            now,
		duration:      now.Sub(began),
		err:           listErr,
		subscriptions: subscriptions,
		traffic:       e.api.takeTraffic(),
	}
	next.render(now, e.cfg.MaxStale)
	return next
}

// nextSubscriptions carries what the last snapshot knew over to the list of now.
func (e *Exporter) nextSubscriptions() []*subscription {
	known := map[string]*subscription{}
	for _, s := range e.snapshot.Load().subscriptions {
		known[s.ID] = s
	}
	listed, _ := e.discovery.list()
	next := make([]*subscription, len(listed))
	for i, s := range listed {
		next[i] = &subscription{Subscription: s}
		if last := known[s.ID]; last != nil && s.Active() {
			*next[i] = *last
			next[i].Subscription = s
		}
	}
	return next
}

// readScores asks Azure for the scores of the subscriptions that are due, those whose
// turn is longest ago first, and notes the outcomes.
func (e *Exporter) readScores(ctx context.Context, subscriptions []*subscription) {
	var asked []*subscription
	for _, s := range subscriptions {
		if s.dueAfter(e.cfg.CacheTTL) {
			asked = append(asked, s)
		}
	}
	slices.SortStableFunc(asked, func(a, b *subscription) int { return a.turn.Compare(b.turn) })
	ids := make([]string, len(asked))
	for i, s := range asked {
		ids[i] = s.ID
	}
	began, lastErr := time.Now(), e.snapshot.Load().err
	outcomes := e.source.SecureScores(ctx, ids)
	ended := time.Now()
	for i, s := range asked {
		o, before := outcomes[i], *s
		if azure.ReasonOf(before.err) == azure.ReasonAuthentication && azure.ReasonOf(lastErr) == azure.ReasonAuthentication {
			before.err = nil // it was told once for all
		}
		s.take(o)
		e.count(s)
		e.tell(s, before)

		// It had its turn, and goes to the end of the queue, unless it was the deadline
		// that cut it short, or the quota. One that was given half of the whole time had
		// its turn then, too: otherwise a few that always hang would stay first for ever.
		reason := azure.ReasonOf(o.Err)
		if reason != azure.ReasonTimeout && reason != azure.ReasonThrottled || !o.StartedAt.IsZero() && ended.Sub(o.StartedAt) >= ended.Sub(began)/2 {
			s.turn = ended
		}
	}
}

// tell logs that a subscription fails, and that it does not any more. One that
// stays broken is told of once, not at each scrape.
func (e *Exporter) tell(s *subscription, before subscription) {
	logger := log.With(e.logger, "subscription_id", s.ID)
	switch now, before := azure.ReasonOf(s.err), azure.ReasonOf(before.err); {
	case now == azure.ReasonCanceled: // the exporter is stopping
	case now == "" && before != "":
		level.Info(logger).Log("msg", "subscription can be read again", "reason", before)
	case now != before:
		level.Warn(logger).Log("msg", "cannot read subscription", "reason", now, "err", s.err)
	case now != "":
		level.Debug(logger).Log("msg", "cannot read subscription", "reason", now, "err", s.err)
	}
	if s.duplicates > 0 && s.duplicates != before.duplicates {
		level.Warn(logger).Log("msg", "Azure told of the same thing more than once; the first is used", "dropped", s.duplicates)
	}
}

// count counts a subscription that could not be read.
func (e *Exporter) count(s *subscription) {
	if s.err != nil {
		e.failures.WithLabelValues(string(azure.ReasonOf(s.err))).Inc()
	}
}
