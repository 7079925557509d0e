package azure

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"
)

const secureScoresAPIVersion = "2020-01-01"

// List is one of the lists that Microsoft.Security has of a subscription (api-version 2020-01-01).
type List struct {
	operation string
	resource  string // the last segment of its path
	action    string // in the text of an error
}

// The lists.
var (
	SecureScores        = List{operationListSecureScores, "secureScores", "list secure scores"}
	SecureScoreControls = List{operationListSecureScoreControls, "secureScoreControls", "list secure score controls"}
)

// SecureScores reads the scores and controls of the subscriptions and returns the results in the same
// order. It starts with the first ones and returns when all are read or ctx ends; what could not be
// read by then has [ReasonTimeout] (or [ReasonCanceled]). Each subscription fails alone.
func (c *Client) SecureScores(ctx context.Context, subscriptionIDs []string) []Result {
	results := make([]Result, len(subscriptionIDs))
	c.forEach(len(subscriptionIDs), func(i int) { results[i] = c.secureScore(ctx, subscriptionIDs[i]) })
	return results
}

// forEach calls do with 0 to n-1, as many at a time as requests may be concurrent.
func (c *Client) forEach(n int, do func(i int)) {
	var group errgroup.Group
	group.SetLimit(c.concurrency)
	for i := range n {
		group.Go(func() error {
			do(i)
			return nil
		})
	}
	_ = group.Wait() // do has no error
}

func (c *Client) secureScore(ctx context.Context, subscriptionID string) Result {
	if err := ctx.Err(); err != nil {
		return Result{Err: fmt.Errorf("subscription %s: not asked in time: %w", subscriptionID, classify(err))}
	}
	result := Result{StartedAt: c.now()}
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		result.Scores, err = c.scores(groupCtx, subscriptionID)
		return err
	})
	group.Go(func() (err error) {
		result.Controls, err = c.controls(groupCtx, subscriptionID)
		return err
	})
	if err := group.Wait(); err != nil {
		return Result{StartedAt: result.StartedAt, Err: err}
	}
	result.ReadAt = c.now()
	return result
}

func (c *Client) scores(ctx context.Context, subscriptionID string) ([]Score, error) {
	return readList(ctx, c, SecureScores, subscriptionID, parseScores)
}

func (c *Client) controls(ctx context.Context, subscriptionID string) ([]Control, error) {
	return readList(ctx, c, SecureScoreControls, subscriptionID, parseControls)
}

// readList reads and parses all pages of a list.
func readList[Item, T any](ctx context.Context, c *Client, l List, subscriptionID string, parse func([]Item) ([]T, error)) ([]T, error) {
	items, err := listAll[Item](ctx, c, l.operation, "subscriptions/"+subscriptionID+"/providers/Microsoft.Security/"+l.resource, secureScoresAPIVersion)
	if e, ok := errors.AsType[*Error](err); ok && e.Reason == ReasonNotFound && e.code == "ResourceNotFound" {
		return nil, nil // "Secure score 'ascScore' does not exist in scope …" means that there is no score
	}
	var parsed []T
	if err == nil {
		parsed, err = parse(items)
	}
	if err != nil {
		return nil, fmt.Errorf("%s of subscription %s: %w", l.action, subscriptionID, err)
	}
	return parsed, nil
}
