package exporter

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"
	"unique"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
)

// subscription is what the collections so far have learned about a subscription. It is
// immutable once its snapshot is published.
type subscription struct {
	azure.Subscription
	lastGood *values // of the last collection that could read it, or nil
	err      error   // why the last collection could not read it, or nil
	// lastPolled is when it was last read, or had time enough to be read; zero if never.
	lastPolled time.Time
}

// values are the scores and controls of a subscription, small enough to keep for thousands of
// them: what is the same in many subscriptions is shared.
type values struct {
	scores     []score
	controls   []control
	readAt     time.Time // when Azure answered
	validAsOf  time.Time // when a collection last took them for Azure's current values
	duplicates int       // scores and controls that were dropped because their labels were taken
}

// score is an [azure.Score].
type score struct {
	key unique.Handle[scoreKey]
	azure.Points
	ratio, weight float64
}

// control is an [azure.Control].
type control struct {
	key unique.Handle[controlKey]
	azure.Points
	hasPoints                                 bool
	weight, healthy, unhealthy, notApplicable float64
}

// scoreKey identifies a score of a subscription.
type scoreKey struct{ environment, connector, initiative string }

// controlKey identifies a control of a score. The name is a label, too.
type controlKey struct {
	scoreKey
	id, name string
}

// record takes over the result of a collection that ended at now.
func (s *subscription) record(r azure.Result, now time.Time) {
	s.err = r.Err
	if r.Err == nil {
		s.lastGood = newValues(r)
		s.lastGood.validAsOf = now
	}
}

// newValues drops all but the first of two scores or controls with the same labels: a second
// series with these labels would fail the scrape for all.
func newValues(r azure.Result) *values {
	v := &values{readAt: r.ReadAt, scores: make([]score, 0, len(r.Scores)), controls: make([]control, 0, len(r.Controls))}
	scores := map[unique.Handle[scoreKey]]bool{}
	for _, s := range r.Scores {
		key := unique.Make(scoreKey{s.Environment, s.Connector, s.Initiative})
		if scores[key] {
			v.duplicates++
			continue
		}
		scores[key] = true
		v.scores = append(v.scores, score{key: key, Points: s.Points, ratio: s.Ratio, weight: s.Weight})
	}
	controls := make(map[unique.Handle[controlKey]]bool, len(r.Controls))
	for _, c := range r.Controls {
		key := controlKey{scoreKey{c.Environment, c.Connector, c.Initiative}, c.ID, ""}
		unnamed := unique.Make(key)
		if controls[unnamed] {
			v.duplicates++
			continue
		}
		controls[unnamed] = true
		key.name = c.Name
		v.controls = append(v.controls, control{
			key: unique.Make(key), Points: c.Points, hasPoints: c.HasPoints,
			weight: c.Weight, healthy: c.Healthy, unhealthy: c.Unhealthy, notApplicable: c.NotApplicable,
		})
	}
	v.scores, v.controls = slices.Clip(v.scores), slices.Clip(v.controls)
	slices.SortFunc(v.scores, func(a, b score) int { return compareScoreKeys(a.key.Value(), b.key.Value()) })
	return v
}

// compareScoreKeys orders the scores of the subscription itself first, then those of each
// connector. Among them, the default initiative comes first.
func compareScoreKeys(a, b scoreKey) int {
	return cmp.Or(
		strings.Compare(a.connector, b.connector),
		compareDefaultFirst(environmentAzure, a.environment, b.environment),
		compareDefaultFirst(azure.DefaultInitiative, a.initiative, b.initiative),
	)
}

// compareDefaultFirst compares two texts; the default is less than any other.
func compareDefaultFirst(def, a, b string) int {
	switch {
	case a == b:
		return 0
	case a == def:
		return -1
	case b == def:
		return 1
	}
	return strings.Compare(a, b)
}

// polledAt is lastPolled, or zero after a transient failure, which is retried at once.
func (s *subscription) polledAt() time.Time {
	if isTransient(azure.ReasonOf(s.err)) {
		return time.Time{}
	}
	return s.lastPolled
}

// needsRefresh reports whether a collection has to read the subscription, given that what was read
// since then is still good.
func (s *subscription) needsRefresh(validSince time.Time) bool {
	return s.Active() && !s.polledAt().After(validSince)
}

// isOutOfTime reports whether more time or quota could have prevented the failure. A token that did
// not come in time has the reason authentication.
func isOutOfTime(err error) bool {
	reason := azure.ReasonOf(err)
	return reason == azure.ReasonTimeout || reason == azure.ReasonThrottled || errors.Is(err, context.DeadlineExceeded)
}

// isTransient reports whether the next request can succeed without any change by an operator. A
// token that is missing here was there when the collection started.
func isTransient(reason azure.Reason) bool {
	switch reason {
	case azure.ReasonAuthentication, azure.ReasonTimeout, azure.ReasonThrottled, azure.ReasonServerError, azure.ReasonNetwork, azure.ReasonCanceled:
		return true
	}
	return false
}

// mergeSubscriptions carries what is known of the subscriptions over to a new list of them.
func mergeSubscriptions(listed []azure.Subscription, known []*subscription) []*subscription {
	byID := make(map[string]*subscription, len(known))
	for _, s := range known {
		byID[s.ID] = s
	}
	merged := make([]*subscription, len(listed))
	for i, s := range listed {
		merged[i] = &subscription{Subscription: s}
		if last := byID[s.ID]; last != nil && s.Active() {
			*merged[i] = *last
			merged[i].Subscription = s
		}
	}
	return merged
}
