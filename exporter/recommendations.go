package exporter

import (
	"context"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
)

// The values of --recommendations.
const (
	RecommendationsFull    = "full"    // counts per subscription and recommendation
	RecommendationsSummary = "summary" // counts per subscription and severity
	RecommendationsOff     = "off"
)

const (
	// recommendationsTimeout bounds a refresh. Its queries leave most of the quota to the scores.
	recommendationsTimeout = 10 * time.Minute
	// recommendationsRetry is the time until a refresh that read nothing is repeated.
	recommendationsRetry = 5 * time.Minute
)

// recommendations are refreshed in the background of scrapes. They never delay a scrape, and never
// change a score.
type recommendations struct {
	reader     *azure.RecommendationReader // nil: off
	background *background
	interval   time.Duration
	maximum    int // recommendations of a subscription that are ranked
	publish    func(*recommendationSet)
	logger     log.Logger
	now        func() time.Time

	mu      sync.Mutex
	busy    bool
	dueAt   time.Time
	pause   time.Duration // from the end of the refresh until the next one is due
	success time.Time     // the end of the last complete refresh
	failing map[string]azure.Reason
}

// recommendationSet is the result of a refresh, ready to be looked up. It is immutable.
type recommendationSet struct {
	*azure.Recommendations
	byID    map[string]*azure.SubscriptionRecommendations
	maximum int       // recommendations of a subscription that are ranked
	success time.Time // the end of the last complete refresh; zero if there was none
}

// refreshIfDue starts a refresh for the subscriptions of a snapshot if the last one is older than
// the interval.
func (r *recommendations) refreshIfDue(s *snapshot) {
	if r.reader == nil || s.err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.busy || r.now().Before(r.dueAt) {
		return
	}
	refresh := func(ctx context.Context) { r.refresh(ctx, assessed(s)) }
	r.busy = r.background.start(time.Now().Add(recommendationsTimeout), refresh, r.end, "msg", "refresh of recommendations panicked")
}

// end lets a scrape start the next refresh after the pause.
func (r *recommendations) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.busy, r.dueAt = false, r.now().Add(r.pause)
}

// assessed returns the active subscriptions, and whether their controls have healthy and unhealthy
// resources.
func assessed(s *snapshot) []azure.AssessedSubscription {
	var all []azure.AssessedSubscription
	for _, sub := range s.subscriptions {
		if !sub.Active() {
			continue
		}
		a := azure.AssessedSubscription{ID: sub.ID, Err: sub.err}
		v := s.cutoffs.values(sub)
		if v == nil {
			v = &values{}
		}
		for _, c := range v.controls {
			a.Healthy = a.Healthy || c.healthy > 0
			a.Unhealthy = a.Unhealthy || c.unhealthy > 0
		}
		all = append(all, a)
	}
	return all
}

// refresh reads the recommendations and publishes them.
func (r *recommendations) refresh(ctx context.Context, subscriptions []azure.AssessedSubscription) {
	r.pause = recommendationsRetry
	set := &recommendationSet{
		Recommendations: r.reader.Refresh(ctx, subscriptions), maximum: r.maximum,
		byID: make(map[string]*azure.SubscriptionRecommendations, len(subscriptions)),
	}
	failed, complete := 0, set.Err == nil
	for i := range set.Subscriptions {
		s := &set.Subscriptions[i]
		set.byID[s.ID] = s
		if s.Err != nil {
			failed++
			complete = complete && isRefusal(azure.ReasonOf(s.Err))
		}
	}
	if r.background.ctx.Err() != nil {
		return // shutting down
	}
	if failed < len(set.Subscriptions) || failed == 0 {
		r.pause = r.interval
		if complete {
			r.success = r.now()
		}
	}
	set.success = r.success
	r.logTransitions(set)
	r.publish(set)
}

// isRefusal reports whether Azure refuses a subscription. A refresh is complete without it.
func isRefusal(reason azure.Reason) bool {
	return reason == azure.ReasonForbidden || reason == azure.ReasonNotFound || reason == azure.ReasonNotRegistered
}

// logTransitions logs the subscriptions whose recommendations start to fail or recover, in one line
// for each reason: usually they fail together.
func (r *recommendations) logTransitions(set *recommendationSet) {
	failing := map[string]azure.Reason{}
	started, first := map[azure.Reason]int{}, map[azure.Reason]error{}
	for i := range set.Subscriptions {
		s := &set.Subscriptions[i]
		if s.Err == nil {
			continue
		}
		reason := azure.ReasonOf(s.Err)
		failing[s.ID] = reason
		if r.failing[s.ID] != reason {
			started[reason]++
			if first[reason] == nil {
				first[reason] = s.Err
			}
		}
	}
	for reason, count := range started {
		level.Warn(r.logger).Log("msg", "cannot read recommendations", "subscriptions", count, "reason", reason, "err", first[reason])
	}
	if len(r.failing) > 0 && len(failing) == 0 {
		level.Info(r.logger).Log("msg", "recommendations can be read again", "subscriptions", len(r.failing))
	}
	r.failing = failing
	if set.Err != nil {
		level.Warn(r.logger).Log("msg", "names or controls of recommendations are incomplete", "reason", azure.ReasonOf(set.Err), "err", set.Err)
	}
}
