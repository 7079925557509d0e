package azure

import "context"

// CheckSecureScores adds to a report whether Resource Graph, or ARM where it has no rows, answers
// with the scores of each active subscription. It takes up to a minute.
func (r *Report) CheckSecureScores(ctx context.Context, g *ResourceGraph) {
	ctx, cancel := context.WithTimeout(ctx, subscriptionTimeout)
	defer cancel()
	ids, active := r.active()
	for i, read := range g.SecureScores(ctx, ids) {
		if s := active[i]; read.Err != nil && s.OK() {
			result := r.result(read.Err, s.ID, actionQueryGraph)
			s.Scores, r.OK = &result, false
		}
	}
}

// active returns the subscriptions that Azure scores, and their IDs.
func (r *Report) active() (ids []string, active []*SubscriptionReport) {
	for i := range r.Subscriptions {
		if s := &r.Subscriptions[i]; s.Scores != nil {
			ids, active = append(ids, s.ID), append(active, s)
		}
	}
	return ids, active
}
