package azure

import (
	"context"
	"time"
)

// recommendationTimeout bounds the reading of all recommendations when there is no scrape to
// answer.
const recommendationTimeout = 15 * time.Minute

// ExportRecommendations reads the recommendations of the subscriptions once, for a command: without
// leaving quota to the scores, and after the controls, which show what is unreadable. It takes up
// to 15 minutes.
func (g *ResourceGraph) ExportRecommendations(ctx context.Context, subscriptionIDs []string) *Recommendations {
	ctx, cancel := context.WithTimeout(ctx, recommendationTimeout)
	defer cancel()
	subscriptions := make([]AssessedSubscription, len(subscriptionIDs))
	for i, result := range g.SecureScores(ctx, subscriptionIDs) {
		subscriptions[i] = Assessed(subscriptionIDs[i], result)
	}
	return NewRecommendationReader(g).read(ctx, subscriptions)
}

// CheckRecommendations adds to a report whether the recommendations of each active subscription can
// be read, and the permission that is missing. An unreadable one makes the report fail.
func (r *Report) CheckRecommendations(ctx context.Context, g *ResourceGraph) {
	ids, active := r.active()
	for i, read := range g.ExportRecommendations(ctx, ids).Subscriptions {
		result := r.result(read.Err, read.ID, actionReadAssessments)
		active[i].Recommendations = &result
		r.OK = r.OK && result.OK
	}
}
