package azure

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// MaxRecommendationAge is how long the last good recommendations of a subscription are kept while
// they cannot be read.
const MaxRecommendationAge = 24 * time.Hour

// RecommendationReader reads recommendations from Azure Resource Graph, also when the scores come
// from ARM. It needs one query per 300 subscriptions for a refresh. Names and the map of controls
// cost two more per 1,000 subscriptions a day, and one when a new recommendation appears.
//
// It remembers names, the map and the last good counts, and is not safe for concurrent use.
type RecommendationReader struct {
	graph *ResourceGraph

	last      map[string]SubscriptionRecommendations // by ID
	keys      *keyTable                              // of last
	refusedAt time.Time                              // when Azure last refused the packed query
	names     recommendationNames
	controls  controlMap
}

var errNoAssessment = errors.New("no assessment is visible, although controls count resources")

// NewRecommendationReader creates a reader that shares the client and the quota of g.
func NewRecommendationReader(g *ResourceGraph) *RecommendationReader {
	return &RecommendationReader{graph: g, keys: newKeyTable(), names: recommendationNames{texts: map[string]recommendationTexts{}}}
}

// AssessedSubscription is a subscription whose recommendations are wanted. Resource Graph silently
// leaves out assessments that the identity cannot read; the controls show that there are some.
type AssessedSubscription struct {
	ID                 string // a UUID in lower case
	Healthy, Unhealthy bool   // whether its controls count such resources
	Err                error  // why its controls are unknown, or nil
}

// Assessed returns the subscription with what its controls say, including those of its connectors.
func Assessed(subscriptionID string, result Result) AssessedSubscription {
	s := AssessedSubscription{ID: subscriptionID, Err: result.Err}
	for _, c := range result.Controls {
		s.Healthy = s.Healthy || c.Healthy > 0
		s.Unhealthy = s.Unhealthy || c.Unhealthy > 0
	}
	return s
}

// Refresh reads the recommendations of the subscriptions in the background of the scores: it leaves
// a third of the query quota to them, and the whole of the first window. A subscription that fails
// keeps its last good counts for [MaxRecommendationAge]. One without a visible assessment fails
// with [ReasonForbidden] if its controls count resources, for the same reason as its controls if
// those are unknown, and otherwise has no recommendation.
//
// Refresh returns when all are read or ctx ends. What could not be read by then has [ReasonTimeout]
// (or [ReasonCanceled]).
func (r *RecommendationReader) Refresh(ctx context.Context, subscriptions []AssessedSubscription) *Recommendations {
	return r.read(yieldToScores(ctx), subscriptions)
}

func (r *RecommendationReader) read(ctx context.Context, subscriptions []AssessedSubscription) *Recommendations {
	next := &Recommendations{Subscriptions: make([]SubscriptionRecommendations, 0, len(subscriptions))}
	authErr := r.graph.Authenticate(ctx)
	for batch := range slices.Chunk(subscriptions, maxCountedSubscriptions) {
		ids := make([]string, len(batch))
		for i, s := range batch {
			ids[i] = s.ID
		}
		var found tallies
		if authErr != nil {
			found = failedTallies(ids, authErr)
		} else {
			found = r.readCounts(ctx, part{subscriptions: ids})
		}
		readAt := r.graph.now()
		for _, s := range batch {
			next.Subscriptions = append(next.Subscriptions, r.recordCounts(s, found[s.ID], readAt))
		}
	}
	r.compact(next)
	if authErr == nil {
		next.Err = errors.Join(r.names.refresh(ctx, r.graph, next, r.keys.keys), r.controls.refresh(ctx, r.graph, next))
	}
	next.List = r.describe(next)
	r.last = make(map[string]SubscriptionRecommendations, len(next.Subscriptions))
	for _, s := range next.Subscriptions {
		r.last[s.ID] = s
	}
	return next
}

// recordCounts returns the recommendations of a subscription: those of the tally, or the last good
// ones and an error. Counts that did not change are shared with the last refresh, which halves the
// memory that a refresh needs.
func (r *RecommendationReader) recordCounts(s AssessedSubscription, t *tally, readAt time.Time) SubscriptionRecommendations {
	last := r.last[s.ID]
	err := t.err
	if err == nil && t.assessments == 0 {
		switch {
		case s.Unhealthy, s.Healthy && !t.plain:
			err = &Error{Reason: ReasonForbidden, Err: errNoAssessment}
		default:
			err = s.Err
		}
	}
	switch {
	case err == nil:
		scopes := t.scopes()
		if slices.EqualFunc(scopes, last.Scopes, RecommendationScope.equal) {
			scopes = last.Scopes
		}
		return SubscriptionRecommendations{ID: s.ID, Scopes: scopes, ReadAt: readAt}
	case last.ReadAt.Before(r.graph.now().Add(-MaxRecommendationAge)):
		last = SubscriptionRecommendations{}
	}
	err = fmt.Errorf("read recommendations of subscription %s: %w", s.ID, err)
	return SubscriptionRecommendations{ID: s.ID, Scopes: last.Scopes, ReadAt: last.ReadAt, Err: err}
}

// compact drops keys that no count refers to, once there are many: those of software and secrets
// come and go.
func (r *RecommendationReader) compact(next *Recommendations) {
	used := newKeyTable() // a subset, so every key fits
	for s := range next.scopes() {
		for _, c := range s.Counts {
			used.number(r.keys.keys[c.Index])
		}
	}
	if len(r.keys.keys) < 2*len(used.keys)+1000 {
		return
	}
	for i := range next.Subscriptions {
		scopes := slices.Clone(next.Subscriptions[i].Scopes) // others may be reading the last ones
		for n := range scopes {
			counts := slices.Clone(scopes[n].Counts)
			for c := range counts {
				counts[c].Index, _ = used.number(r.keys.keys[counts[c].Index])
			}
			scopes[n].Counts = counts
		}
		next.Subscriptions[i].Scopes = scopes
	}
	r.keys = used
}

// describe returns the list that the counts refer to.
func (r *RecommendationReader) describe(next *Recommendations) []Recommendation {
	list := make([]Recommendation, len(r.keys.keys))
	for i, key := range r.keys.keys {
		list[i] = Recommendation{ID: key, Preview: true}
	}
	for s := range next.scopes() {
		for _, c := range s.Counts {
			d := &list[c.Index]
			d.Unhealthy += uint64(c.Unhealthy)
			d.Exempt += uint64(c.Exempt)
			d.Severity = max(d.Severity, c.severity)
			d.Preview = d.Preview && c.preview
		}
	}
	for i := range list {
		r.addTexts(&list[i])
	}
	return list
}

// addTexts adds what is the same for all resources.
func (r *RecommendationReader) addTexts(d *Recommendation) {
	if d.Folded() {
		d.Name = strings.TrimPrefix(d.ID, foldedPrefix)
		d.Category = d.Name
		return
	}
	texts := r.names.texts[d.ID]
	d.Name, d.Effort, d.UserImpact, d.Category = texts.name, texts.effort, texts.impact, texts.category
	d.Preview = d.Preview && !texts.generallyAvailable
	if d.Severity == SeverityUnknown {
		d.Severity = texts.severity // of exempt resources alone
	}
	d.ControlIDs = r.controls.controls[d.ID]
	if uuid.MatchString(d.ID) {
		d.URL = r.graph.recommendationURL(d.ID)
	}
}

// readBatches calls read with the subscriptions that were read, in batches of [maxSubscriptions].
func readBatches(next *Recommendations, wanted func(*SubscriptionRecommendations) bool, read func(part) error) error {
	var ids []string
	for i := range next.Subscriptions {
		if s := &next.Subscriptions[i]; s.Err == nil && wanted(s) {
			ids = append(ids, s.ID)
		}
	}
	var errs []error
	for batch := range slices.Chunk(ids, maxSubscriptions) {
		errs = append(errs, read(part{subscriptions: batch}))
	}
	return errors.Join(errs...)
}
