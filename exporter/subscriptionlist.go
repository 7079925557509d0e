package exporter

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"golang.org/x/sync/semaphore"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
)

// subscriptionList caches the list of subscriptions.
type subscriptionList struct {
	source     Source
	interval   time.Duration
	logger     log.Logger
	now        func() time.Time
	refreshing *semaphore.Weighted // held by the caller that asks Azure

	mu       sync.Mutex
	current  []azure.Subscription // of the last refresh that worked, sorted by ID
	listedAt time.Time            // when that was; zero before the first
	shrunk   bool                 // the last list from Azure lacked most subscriptions and was not used
	triedAt  time.Time            // when the last refresh ended
	err      error                // of the last refresh
	logged   error                // the failure that the log reported last; nil after a recovery
}

func newSubscriptionList(source Source, cfg Config) *subscriptionList {
	l := &subscriptionList{
		source: source, interval: cfg.DiscoveryInterval, logger: cfg.Logger, now: cfg.now,
		refreshing: semaphore.NewWeighted(1), current: source.Configured(),
	}
	sortByID(l.current)
	return l
}

func sortByID(list []azure.Subscription) {
	slices.SortFunc(list, func(a, b azure.Subscription) int { return strings.Compare(a.ID, b.ID) })
}

// searchByID is [slices.BinarySearch] for a list sorted by ID.
func searchByID(list []azure.Subscription, id string) (index int, found bool) {
	return slices.BinarySearchFunc(list, id, func(s azure.Subscription, id string) int { return strings.Compare(s.ID, id) })
}

// list returns the last list, or what is configured before the first one. The caller must not
// change it.
func (l *subscriptionList) list() []azure.Subscription {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current
}

// isListed reports whether Azure has ever returned a list.
func (l *subscriptionList) isListed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.listedAt.IsZero()
}

// find returns a subscription of the list.
func (l *subscriptionList) find(id string) (azure.Subscription, bool) {
	current := l.list()
	i, found := searchByID(current, id)
	if !found {
		return azure.Subscription{}, false
	}
	return current[i], true
}

// refresh makes sure of a token and of the list. An error with [azure.ReasonAuthentication]
// means that there is no token, or that Azure refused it.
func (l *subscriptionList) refresh(ctx context.Context) error {
	err := l.source.Authenticate(ctx)
	if err == nil {
		err = l.refreshList(ctx, l.now())
	}
	l.logTransition(err)
	return err
}

// refreshList makes a new list when the last one is too old. Callers at the same time share one
// attempt, and its error. When it fails the last list remains, and the next caller tries again.
func (l *subscriptionList) refreshList(ctx context.Context, calledAt time.Time) error {
	if fresh, err := l.isFresh(calledAt); fresh {
		return err
	}
	// A list that hangs must leave time for the scores of the subscriptions already known.
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/2)
		defer cancel()
	}
	if err := l.refreshing.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("list subscriptions: %w", err)
	}
	defer l.refreshing.Release(1)
	if fresh, err := l.isFresh(calledAt); fresh {
		return err
	}

	listed, err := l.source.Subscriptions(ctx)
	sortByID(listed)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.accept(listed)
	}
	// That this caller disconnected or had little time says nothing to the others.
	if err == nil || ctx.Err() == nil {
		l.triedAt, l.err = l.now(), err
	}
	return err
}

// isFresh reports whether the list needs no refresh: it is young enough, or a refresh has ended
// since the caller came, with this error.
func (l *subscriptionList) isFresh(calledAt time.Time) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.triedAt.After(calledAt) {
		return true, l.err
	}
	return !l.listedAt.IsZero() && l.now().Sub(l.listedAt) < l.interval, nil
}

// accept takes over a list from Azure. One that suddenly lacks more than half of at least three
// subscriptions is usually partial: the last list serves for one more discovery. The lock is
// held.
func (l *subscriptionList) accept(listed []azure.Subscription) {
	first := l.listedAt.IsZero()
	l.listedAt = l.now()
	gone := missing(l.current, listed)
	if !first && len(l.current) >= 3 && len(gone) > len(l.current)/2 && !l.shrunk {
		l.shrunk = true
		level.Warn(l.logger).Log("msg", "most subscriptions are missing from Azure's list; using the last list until the next discovery",
			"missing", len(gone), "listed", len(listed), "known", len(l.current))
		return
	}
	if !first && len(gone) > 0 {
		level.Warn(l.logger).Log("msg", "subscriptions are no longer listed", "count", len(gone), "subscription_ids", firstFew(gone))
	}
	l.current, l.shrunk = listed, false
}

// missing returns the IDs in old that are not in list. Both are sorted by ID.
func missing(old, list []azure.Subscription) []string {
	var ids []string
	for _, s := range old {
		if _, found := searchByID(list, s.ID); !found {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

// firstFew joins up to ten IDs for a log line.
func firstFew(ids []string) string {
	if len(ids) > 10 {
		return strings.Join(ids[:10], ",") + ",…"
	}
	return strings.Join(ids, ",")
}

// logTransition logs that there is no token or list, that the cause changes, and that they are
// back: once, not for every caller.
func (l *subscriptionList) logTransition(err error) {
	reason := azure.ReasonOf(err)
	if reason == azure.ReasonCanceled {
		return // the caller disconnected
	}
	l.mu.Lock()
	before := l.logged
	l.logged = err
	l.mu.Unlock()
	switch {
	case reason == "" && before != nil:
		level.Info(l.logger).Log("msg", "got a token and the list of subscriptions again", "reason", azure.ReasonOf(before))
	case azure.Cause(err) != azure.Cause(before):
		level.Error(l.logger).Log("msg", "cannot get a token or list subscriptions", "reason", reason, "err", err, "fix", azure.Hint(err, "", azure.Identity{}))
	case reason != "":
		level.Debug(l.logger).Log("msg", "cannot get a token or list subscriptions", "reason", reason, "err", err)
	}
}
