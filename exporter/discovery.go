package exporter

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"golang.org/x/sync/semaphore"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
)

// discovery keeps the list of subscriptions.
type discovery struct {
	source   Source
	interval time.Duration
	logger   log.Logger
	asking   *semaphore.Weighted // held by the one who asks Azure

	mu            sync.Mutex
	subscriptions []azure.Subscription // the last list that worked, by ID
	listedAt      time.Time            // when it was made; zero before
	triedAt       time.Time            // when the newest attempt ended
	err           error                // of the newest attempt
	told          azure.Reason         // why it fails, as the log has it
}

func newDiscovery(source Source, interval time.Duration, logger log.Logger) *discovery {
	return &discovery{
		source: source, interval: interval, logger: logger, asking: semaphore.NewWeighted(1),
		subscriptions: source.Configured(),
	}
}

// list returns the last list that worked, which the caller must not change, and
// when it was made: never before the first one, when it holds what is configured.
func (d *discovery) list() ([]azure.Subscription, time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.subscriptions, d.listedAt
}

// find returns a subscription of the list.
func (d *discovery) find(id string) (azure.Subscription, bool) {
	subscriptions, _ := d.list()
	for _, s := range subscriptions {
		if s.ID == id {
			return s, true
		}
	}
	return azure.Subscription{}, false
}

// discover makes sure of a token and of the list. A failure of the token is one of
// both.
func (d *discovery) discover(ctx context.Context) (authErr, listErr error) {
	if authErr = d.source.Authenticate(ctx); authErr != nil {
		d.tell(authErr)
		return authErr, authErr
	}
	listErr = d.renew(ctx, time.Now())
	d.tell(listErr)
	return nil, listErr
}

// tell logs that the subscriptions cannot be known, and that they can again: once,
// and not for each who asks.
func (d *discovery) tell(err error) {
	now := azure.ReasonOf(err)
	if now == azure.ReasonCanceled {
		return // whoever asked has left
	}
	d.mu.Lock()
	before := d.told
	d.told = now
	d.mu.Unlock()
	switch {
	case now == "" && before != "":
		level.Info(d.logger).Log("msg", "token and subscriptions are there again", "reason", before)
	case now != before:
		level.Error(d.logger).Log("msg", "no token or no list of subscriptions", "reason", now, "err", err)
	case now != "":
		level.Debug(d.logger).Log("msg", "no token or no list of subscriptions", "reason", now, "err", err)
	}
}

// renew makes a new list when it is due. When that fails the last list goes on to
// serve, and the next one to ask tries again. Those who ask at the same time share
// one attempt and its outcome: that of any which ended after asked.
func (d *discovery) renew(ctx context.Context, asked time.Time) error {
	if fresh, err := d.state(asked); fresh {
		return err
	}
	// A list that hangs must leave time to read the scores of those known already.
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/2)
		defer cancel()
	}
	if err := d.asking.Acquire(ctx, 1); err != nil {
		return err
	}
	defer d.asking.Release(1)
	if fresh, err := d.state(asked); fresh {
		return err
	}

	subscriptions, err := d.source.Subscriptions(ctx)
	slices.SortFunc(subscriptions, func(a, b azure.Subscription) int { return cmp.Compare(a.ID, b.ID) })
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil {
		d.subscriptions, d.listedAt = subscriptions, time.Now()
	}
	// That the one who asked left, or had little time, says nothing to the others:
	// the next of them asks.
	if err == nil || ctx.Err() == nil {
		d.triedAt, d.err = time.Now(), err
	}
	return err
}

// state says whether there is no need to ask for who came at this time: the list is
// young enough, or an attempt has ended since.
func (d *discovery) state(asked time.Time) (fresh bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.triedAt.After(asked) {
		return true, d.err
	}
	return !d.listedAt.IsZero() && time.Since(d.listedAt) < d.interval, nil
}
