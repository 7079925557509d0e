package azure

import (
	"iter"
	"slices"
	"strings"
	"time"
)

// Severity is the severity of a recommendation. A higher one is worse.
type Severity uint8

// The severities.
const (
	SeverityUnknown Severity = iota
	SeverityLow
	SeverityMedium
	SeverityHigh
	SeverityCritical
)

var severityNames = [...]string{"unknown", "low", "medium", "high", "critical"}

// String returns unknown, low, medium, high or critical.
func (s Severity) String() string {
	if int(s) >= len(severityNames) {
		s = SeverityUnknown
	}
	return severityNames[s]
}

// MarshalText implements [encoding.TextMarshaler].
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Recommendations are the unhealthy and exempt recommendations of a fleet, from assessments in
// Azure Resource Graph (api-version 2024-04-01). They do not change once returned.
type Recommendations struct {
	// Subscriptions are in the order of the request.
	Subscriptions []SubscriptionRecommendations
	// List describes the recommendations, which the counts refer to. Some may be left over from
	// earlier refreshes, without an unhealthy or exempt resource.
	List []Recommendation
	// Err is why names or the map of controls are incomplete; nil if they are complete. The counts do
	// not depend on it.
	Err error
}

// SubscriptionRecommendations are the recommendations of a subscription and its connectors.
type SubscriptionRecommendations struct {
	ID     string
	Scopes []RecommendationScope // without those that have neither an unhealthy nor an exempt resource
	// ReadAt is when the counts were read; zero if they never were, or last more than
	// [MaxRecommendationAge] ago.
	ReadAt time.Time
	// Err is why the last refresh could not read them; the counts are then those of ReadAt.
	Err error
}

// RecommendationScope holds the counts of a subscription itself or of one of its connectors.
type RecommendationScope struct {
	// Environment is Azure for the subscription itself. That of a connector is derived from the source
	// of its resources, because assessments do not name it: AWS, GCP, … or unknown.
	Environment string
	Connector   string                // in lower case; empty for the subscription itself
	Counts      []RecommendationCount // ordered by Index
}

func (s RecommendationScope) equal(other RecommendationScope) bool {
	return s.Environment == other.Environment && s.Connector == other.Connector && slices.Equal(s.Counts, other.Counts)
}

// RecommendationCount counts the resources of one recommendation; of a folded category, its
// findings. A fleet has a million of them, so it takes 16 bytes.
type RecommendationCount struct {
	Index             uint32 // into [Recommendations.List]
	Unhealthy, Exempt uint32

	severity Severity // highest among the unhealthy rows
	preview  bool     // all rows are
}

// Recommendation describes a recommendation.
type Recommendation struct {
	// ID is the assessment key, usually a UUID, in lower case, or category:NAME for all
	// recommendations that Azure creates per software, secret or finding of a category.
	ID string
	// Name is the display name, up to 256 characters; empty if it is unknown.
	Name string
	// Severity is the highest among the unhealthy rows of the whole fleet.
	Severity Severity
	// Effort and UserImpact are Low, Moderate or High; empty if unknown and for a folded category.
	Effort, UserImpact string
	// Category is the first of the recommendation's categories: Compute, Data, IdentityAndAccess, …
	Category string
	// Preview means that all rows are previews, which do not count towards the score.
	Preview bool
	// ControlIDs are the security controls that the recommendation belongs to, ordered. A
	// recommendation without any is not unimportant: Azure maps it to no control, or it is a folded
	// category.
	ControlIDs []string
	// URL leads to the recommendation in the portal; empty for a folded category and a custom cloud.
	URL string
	// Unhealthy and Exempt are the resources of the whole fleet.
	Unhealthy, Exempt uint64
}

// foldedPrefix starts the ID of a folded category.
const foldedPrefix = "category:"

// Folded reports whether the recommendation represents all recommendations of a category.
func (r *Recommendation) Folded() bool { return strings.HasPrefix(r.ID, foldedPrefix) }

// scopes yields the scopes of all subscriptions.
func (r *Recommendations) scopes() iter.Seq[RecommendationScope] {
	return func(yield func(RecommendationScope) bool) {
		for _, s := range r.Subscriptions {
			for _, scope := range s.Scopes {
				if !yield(scope) {
					return
				}
			}
		}
	}
}

// RecommendationRow is one recommendation of one subscription or connector, for an export. Its JSON
// is part of the command line's contract.
type RecommendationRow struct {
	SubscriptionID   string   `json:"subscription_id"`
	Environment      string   `json:"environment"`
	Connector        string   `json:"connector,omitempty"`
	RecommendationID string   `json:"recommendation_id"`
	Recommendation   string   `json:"recommendation"`
	Severity         Severity `json:"severity"`
	Unhealthy        uint32   `json:"unhealthy"`
	Exempt           uint32   `json:"exempt"`
	Effort           string   `json:"effort,omitempty"`
	UserImpact       string   `json:"user_impact,omitempty"`
	Category         string   `json:"category,omitempty"`
	Preview          bool     `json:"preview"`
	ControlIDs       []string `json:"control_ids"`
	URL              string   `json:"url,omitempty"`
}

// Rows yields a row for each count, in the order of the subscriptions.
func (r *Recommendations) Rows() iter.Seq[RecommendationRow] {
	return func(yield func(RecommendationRow) bool) {
		for _, s := range r.Subscriptions {
			for _, scope := range s.Scopes {
				for _, c := range scope.Counts {
					if !yield(r.row(s.ID, scope, c)) {
						return
					}
				}
			}
		}
	}
}

func (r *Recommendations) row(subscriptionID string, scope RecommendationScope, c RecommendationCount) RecommendationRow {
	d := r.List[c.Index]
	return RecommendationRow{
		SubscriptionID: subscriptionID, Environment: scope.Environment, Connector: scope.Connector,
		RecommendationID: d.ID, Recommendation: d.Name, Severity: d.Severity,
		Unhealthy: c.Unhealthy, Exempt: c.Exempt,
		Effort: d.Effort, UserImpact: d.UserImpact, Category: d.Category, Preview: d.Preview,
		ControlIDs: append([]string{}, d.ControlIDs...), URL: d.URL, // [], not null
	}
}

// MaxIncrease returns the upper bound, in points, of what the control gains when one
// recommendation's unhealthy resources are fixed and nothing else: a resource counts as healthy
// only when it follows all recommendations of the control. Bounds of several recommendations do not
// add up. The bound never exceeds the points that the control lacks, although Azure counts controls
// every 8 hours and recommendations more often.
func (c Control) MaxIncrease(unhealthy uint32) float64 {
	counted := c.Healthy + c.Unhealthy
	if !c.HasPoints || counted <= 0 {
		return 0
	}
	bound := c.Max * min(float64(unhealthy), c.Unhealthy) / counted
	return max(0, min(bound, c.Max-c.Current))
}
