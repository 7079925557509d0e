package azure

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	secureScoresAPIVersion = "2020-01-01"

	// DefaultInitiative is that of Defender for Cloud itself, the only one that
	// Microsoft shows. A score of another initiative is another measure.
	DefaultInitiative = "ascScore"
)

// Points are a score and what it can be at most. They are not negative, may have
// a fraction, and current is not above max as Azure computes them.
type Points struct{ Current, Max float64 }

// Score is the secure score of a subscription, or of a connector of it to another
// cloud, in one initiative. It comes from the API "Secure Scores - List"
// (api-version 2020-01-01), or from Resource Graph. Azure recomputes it every 8
// hours.
type Score struct {
	Initiative  string // ascScore for Defender for Cloud's default initiative
	Environment string // Azure; AWS, GCP, … for a connector
	Connector   string // its name; empty for the subscription itself
	Points
	Ratio  float64 // current ÷ max, 0 to 1, as Azure rounds it; 0 when max is 0
	Weight float64 // for the weighted mean over subscriptions
}

// Control is a security control, a group of recommendations about one attack
// surface, from the API "Secure Score Controls - List" (api-version 2020-01-01),
// or from Resource Graph.
type Control struct {
	ID          string // a UUID in lower case
	Name        string // as shown in the portal; Microsoft renames controls
	Initiative  string
	Environment string
	Connector   string
	Points      *Points // nil when Azure gives none
	Weight      float64
	// Resources by what the control's recommendations say of them.
	Healthy, Unhealthy, NotApplicable float64
}

// Result is what one reading of a subscription brought: its scores and controls,
// or an error. Without an error no scores mean that Azure does not score it.
type Result struct {
	Scores   []Score
	Controls []Control
	Err      error
	// StartedAt is when the reading began; zero when the deadline, or the quota of Resource
	// Graph, came before.
	StartedAt time.Time
	// ReadAt is when the answer was complete.
	ReadAt time.Time
}

// SecureScores reads the scores and controls of the subscriptions and returns
// their outcomes in the same order. It begins with the first ones and returns
// when all are read or ctx ends; what could not be read by then has
// [ReasonTimeout] (or [ReasonCanceled]). One failure does not touch the others.
func (c *Client) SecureScores(ctx context.Context, subscriptionIDs []string) []Result {
	outcomes := make([]Result, len(subscriptionIDs))
	// Each subscription needs two calls at a time, so as many subscriptions as
	// there are places for calls keep all places taken.
	var group errgroup.Group
	group.SetLimit(c.concurrency)
	for i, id := range subscriptionIDs {
		group.Go(func() error {
			outcomes[i] = c.secureScore(ctx, id)
			return nil
		})
	}
	_ = group.Wait() // the errors are in the outcomes
	return outcomes
}

func (c *Client) secureScore(ctx context.Context, subscriptionID string) Result {
	if err := ctx.Err(); err != nil {
		return Result{Err: fmt.Errorf("subscription %s: not asked in time: %w", subscriptionID, classify(err))}
	}
	outcome := Result{StartedAt: time.Now()}
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error {
		var err error
		outcome.Scores, err = c.readScores(groupCtx, subscriptionID)
		return err
	})
	group.Go(func() error {
		var err error
		outcome.Controls, err = c.readControls(groupCtx, subscriptionID)
		return err
	})
	if err := group.Wait(); err != nil {
		return Result{StartedAt: outcome.StartedAt, Err: err}
	}
	outcome.ReadAt = time.Now()
	return outcome
}

func (c *Client) readScores(ctx context.Context, subscriptionID string) ([]Score, error) {
	items, err := readSubscription[scoreItem](ctx, c, SecureScores, subscriptionID)
	if err != nil {
		return nil, err
	}
	all, err := scores(items)
	return all, subscriptionError(SecureScores.what, subscriptionID, err)
}

func (c *Client) readControls(ctx context.Context, subscriptionID string) ([]Control, error) {
	items, err := readSubscription[scoreItem](ctx, c, SecureScoreControls, subscriptionID)
	if err != nil {
		return nil, err
	}
	all, err := controls(items)
	return all, subscriptionError(SecureScoreControls.what, subscriptionID, err)
}

// subscriptionError names the subscription in err. It drops the 404 by which
// Azure says that there is no score: that is an answer.
func subscriptionError(what, subscriptionID string, err error) error {
	var e *Error
	if errors.As(err, &e) && e.Reason == ReasonNotFound && e.code == "ResourceNotFound" {
		err = nil // "Secure score 'ascScore' does not exist in scope …"
	}
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s of subscription %s: %w", what, subscriptionID, err)
}

// scoreItem is a score or a control as Azure writes it. Every property is
// optional in the API's specification; numbers that it calls integers have been
// taken with a fraction, too.
type scoreItem struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Properties struct {
		DisplayName                string      `json:"displayName"`
		Environment                string      `json:"environment"`
		Weight                     float64     `json:"weight"`
		Score                      *scoreOfAPI `json:"score"`
		HealthyResourceCount       float64     `json:"healthyResourceCount"`
		UnhealthyResourceCount     float64     `json:"unhealthyResourceCount"`
		NotApplicableResourceCount float64     `json:"notApplicableResourceCount"`
	} `json:"properties"`
}

type scoreOfAPI struct {
	Current    *float64 `json:"current"`
	Max        *float64 `json:"max"`
	Percentage *float64 `json:"percentage"` // a ratio, despite its name
}

// scores makes the scores of a list's items. Items without points are left out:
// Azure lists a subscription before it has scored it.
func scores(items []scoreItem) ([]Score, error) {
	var all []Score
	for _, item := range items {
		if err := item.check(); err != nil {
			return nil, err
		}
		points := item.points()
		if points == nil {
			continue
		}
		s := Score{
			Initiative: item.initiative(), Environment: item.environment(), Connector: item.connector(),
			Points: *points, Weight: item.Properties.Weight,
		}
		if name := label(item.Name); name != "" && !strings.EqualFold(name, DefaultInitiative) {
			s.Initiative = name
		}
		switch percentage := item.Properties.Score.Percentage; {
		case points.Max == 0:
		case percentage != nil && *percentage <= 1:
			s.Ratio = *percentage
		default:
			// Also if Azure should ever send what the name of the field says.
			s.Ratio = math.Round(points.Current/points.Max*1e4) / 1e4
		}
		if s.Ratio > maxNumber { // a maximum of next to nothing
			return nil, invalid(fmt.Sprintf("the ratio of %g and %g makes no sense", points.Current, points.Max))
		}
		all = append(all, s)
	}
	return all, nil
}

// controls makes the controls of a list's items.
func controls(items []scoreItem) ([]Control, error) {
	var all []Control
	for _, item := range items {
		if err := item.check(); err != nil {
			return nil, err
		}
		id := label(item.Name)
		if id == "" {
			id = label(item.ID[strings.LastIndexByte(item.ID, '/')+1:])
		}
		if id == "" {
			return nil, invalid("a control has no ID")
		}
		p := item.Properties
		all = append(all, Control{
			ID: strings.ToLower(id), Name: label(p.DisplayName),
			Initiative: item.initiative(), Environment: item.environment(), Connector: item.connector(),
			Points: item.points(), Weight: p.Weight,
			Healthy: p.HealthyResourceCount, Unhealthy: p.UnhealthyResourceCount, NotApplicable: p.NotApplicableResourceCount,
		})
	}
	return all, nil
}

// maxNumber is far above any real score, weight or count.
const maxNumber = 1e9

// check refuses numbers that make no sense: one absurd value would spoil every
// sum that it enters.
func (i scoreItem) check() error {
	p := i.Properties
	numbers := []float64{p.Weight, p.HealthyResourceCount, p.UnhealthyResourceCount, p.NotApplicableResourceCount}
	if p.Score != nil {
		for _, n := range []*float64{p.Score.Current, p.Score.Max, p.Score.Percentage} {
			if n != nil {
				numbers = append(numbers, *n)
			}
		}
	}
	for _, n := range numbers {
		if math.IsNaN(n) || n < 0 || n > maxNumber {
			return invalid(fmt.Sprintf("the number %g makes no sense", n))
		}
	}
	return nil
}

// points returns nil for a score that is null or empty, which Azure may give to a
// subscription that it has not assessed.
func (i scoreItem) points() *Points {
	s := i.Properties.Score
	if s == nil || s.Current == nil && s.Max == nil {
		return nil
	}
	var p Points
	if s.Current != nil {
		p.Current = *s.Current
	}
	if s.Max != nil {
		p.Max = *s.Max
	}
	return &p
}

// initiative finds the initiative in an ID such as
// /subscriptions/…/secureScores/ascScore/secureScoreControls/….
func (i scoreItem) initiative() string {
	initiative := i.named("secureScores")
	// Resource Graph writes IDs now as they are, now in lower case.
	if initiative == "" || strings.EqualFold(initiative, DefaultInitiative) {
		return DefaultInitiative
	}
	return initiative
}

// connector finds the connector in an ID such as
// /subscriptions/…/securityConnectors/aws-prod/providers/…, in lower case because
// Resource Graph is not constant in that. That connectors' scores have such IDs
// could not be verified against real Azure.
func (i scoreItem) connector() string { return strings.ToLower(i.named("securityConnectors")) }

// named returns the name that follows the kind of resource in the ID.
func (i scoreItem) named(kind string) string {
	parts := strings.Split(i.ID, "/")
	for n, part := range parts[:len(parts)-1] {
		if strings.EqualFold(part, kind) {
			return label(parts[n+1])
		}
	}
	return ""
}

func (i scoreItem) environment() string {
	if e := label(i.Properties.Environment); e != "" {
		return e
	}
	return "Azure"
}

func invalid(text string) error {
	return &Error{Reason: ReasonInvalidResponse, Err: errors.New(text)}
}
