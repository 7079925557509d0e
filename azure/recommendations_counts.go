package azure

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/go-kit/log/level"
)

const (
	// maxCountedSubscriptions is how many subscriptions one query counts. Microsoft recommends fewer
	// than 300 per query; 150 recommendations in each are 2.5 MB.
	maxCountedSubscriptions = 300
	// retryPackedAfter is how long the plain form is used after Azure refused the packed one.
	retryPackedAfter = time.Hour
)

// readCounts counts the recommendations of a part, in smaller parts if it is too large for one
// query. A failure is in the tallies.
func (r *RecommendationReader) readCounts(ctx context.Context, p part) tallies {
	found, err := r.queryCounts(ctx, p)
	if err == nil {
		return found
	}
	if parts := p.split(); resultTooLarge(err) && parts != nil {
		found = tallies{}
		for _, smaller := range parts {
			found.merge(r.readCounts(ctx, smaller))
			if len(p.subscriptions) == 1 && found[p.subscriptions[0]].err != nil {
				break // the other parts are useless without this one
			}
		}
		return found
	}
	if hasCause(err, codeNoneReadable) {
		err = &Error{Reason: ReasonForbidden, Err: err, cause: codeNoneReadable}
	}
	return failedTallies(p.subscriptions, fmt.Errorf("query Resource Graph for the recommendations of %d subscriptions: %w", len(p.subscriptions), err))
}

// queryCounts makes one query, in the packed form unless Azure refuses it.
func (r *RecommendationReader) queryCounts(ctx context.Context, p part) (tallies, error) {
	var refusal error
	if r.graph.now().Sub(r.refusedAt) >= retryPackedAfter {
		found := newTallies(p.subscriptions)
		err := r.graph.queryRows(ctx, countsQuery, p, func(rows []json.RawMessage) error { return found.addPacked(rows, r.keys) })
		if !formRefused(err) {
			return found, err
		}
		refusal = err
	}
	found := newTallies(p.subscriptions)
	err := r.graph.queryRows(ctx, plainCountsQuery, p, func(rows []json.RawMessage) error { return found.addPlain(rows, r.keys) })
	for _, sub := range found {
		sub.plain = true
	}
	if err == nil && refusal != nil {
		r.refusedAt = r.graph.now()
		level.Warn(r.graph.logger).Log("msg", "Resource Graph rejects the packed query of recommendations; using plain rows, which need many requests, for an hour", "operation", operationQueryResourceGraph, "err", refusal)
	}
	return found, err
}
