package azure

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"github.com/go-kit/log/level"
)

const (
	// maxCountedSubscriptions is how many subscriptions one query counts. Microsoft recommends fewer
	// than 300 per query; 150 recommendations in each are 2.5 MB.
	maxCountedSubscriptions = 300
	// recommendationQueryTimeout bounds one query, its pages and its wait for the quota, so that one
	// that hangs does not take the time of the others.
	recommendationQueryTimeout = 5 * time.Minute
	// retryPackedAfter is how long the plain form is used after Azure refused the packed one.
	retryPackedAfter = time.Hour
)

// readCounts counts the recommendations of up to [maxCountedSubscriptions] subscriptions. A failure
// is in the tallies.
func (r *RecommendationReader) readCounts(ctx context.Context, ids []string) tallies {
	found, err := r.queryCounts(ctx, ids, part{})
	half := len(ids) / 2
	switch {
	case err == nil:
		return found
	case !resultTooLarge(err):
	case half > 0:
		found = r.readCounts(ctx, ids[:half])
		maps.Copy(found, r.readCounts(ctx, ids[half:]))
		return found
	default:
		var whole *tally
		if whole, err = r.readParts(ctx, ids[0], part{}); err == nil {
			return tallies{ids[0]: whole}
		}
	}
	if hasCause(err, codeNoneReadable) {
		err = &Error{Reason: ReasonForbidden, Err: err, cause: codeNoneReadable}
	}
	return failed(ids, fmt.Errorf("query Resource Graph for the recommendations of %d subscriptions: %w", len(ids), err))
}

// readParts counts a subscription that is too large for one query, part by part.
func (r *RecommendationReader) readParts(ctx context.Context, id string, p part) (*tally, error) {
	whole := newTallies([]string{id})[id]
	for _, smaller := range p.split() {
		found, err := r.queryCounts(ctx, []string{id}, smaller)
		counted := found[id]
		if resultTooLarge(err) && smaller.split() != nil {
			counted, err = r.readParts(ctx, id, smaller)
		}
		if err != nil {
			return nil, err
		}
		whole.merge(counted)
	}
	return whole, nil
}

// queryCounts makes one query, in the packed form unless Azure refuses it.
func (r *RecommendationReader) queryCounts(ctx context.Context, ids []string, p part) (tallies, error) {
	ctx, cancel := context.WithTimeout(ctx, recommendationQueryTimeout)
	defer cancel()
	var refusal error
	if r.refusedAt.IsZero() || r.graph.now().Sub(r.refusedAt) >= retryPackedAfter {
		found := newTallies(ids)
		err := r.graph.queryRows(ctx, countsQuery(p), ids, func(rows []json.RawMessage) error { return found.addPacked(rows, r.keys) })
		if err == nil {
			r.refusedAt = time.Time{}
		}
		if !formRefused(err) {
			return found, err
		}
		refusal = err
	}
	found := newTallies(ids)
	err := r.graph.queryRows(ctx, plainCountsQuery(p), ids, func(rows []json.RawMessage) error { return found.addPlain(rows, r.keys) })
	for _, sub := range found {
		sub.plain = true
	}
	if err == nil && refusal != nil {
		r.refusedAt = r.graph.now()
		level.Warn(r.graph.logger).Log("msg", "Resource Graph rejects the packed query of recommendations; using plain rows, which need many requests, for an hour", "operation", operationQueryResourceGraph, "err", refusal)
	}
	return found, err
}
