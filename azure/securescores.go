package azure

import (
	"context"
	"errors"
	"fmt"
	"net/http"
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

// SecureScores reads the scores and controls of the subscriptions and returns the results in the
// same order. It starts with the first ones and returns when all are read or ctx ends; what could
// not be read by then has [ReasonTimeout] (or [ReasonCanceled]). Each subscription fails alone.
func (c *Client) SecureScores(ctx context.Context, subscriptionIDs []string) []Result {
	results := make([]Result, len(subscriptionIDs))
	c.forEach(len(subscriptionIDs), func(i int) { results[i] = c.secureScore(ctx, subscriptionIDs[i]) })
	return results
}

// forEach calls do with 0 to n-1, as many at a time as requests may be concurrent.
func (c *Client) forEach(n int, do func(i int)) {
	group := newTasks(c.concurrency)
	for i := range n {
		group.Go(func() { do(i) })
	}
	group.Wait()
}

// secureScore reads both lists of a subscription. It waits for both if one fails, so that the
// reason does not depend on which fails first.
func (c *Client) secureScore(ctx context.Context, subscriptionID string) Result {
	if err := ctx.Err(); err != nil {
		return Result{Err: fmt.Errorf("subscription %s: the deadline passed before its first request: %w", subscriptionID, classify(err))}
	}
	result := Result{StartedAt: c.now()}
	var scoresErr, controlsErr error
	group := newTasks(2)
	group.Go(func() { result.Scores, scoresErr = c.scores(ctx, subscriptionID) })
	group.Go(func() { result.Controls, controlsErr = c.controls(ctx, subscriptionID) })
	group.Wait()
	if err := worst(scoresErr, controlsErr); err != nil {
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
func readList[Item, T any](ctx context.Context, c *Client, l List, subscriptionID string, parse func(string, []Item) ([]T, error)) ([]T, error) {
	path := "/subscriptions/" + subscriptionID + "/providers/Microsoft.Security/" + l.resource
	items, err := listAll[Item](ctx, newPager(c, l.operation, path, secureScoresAPIVersion, scoreLimits))
	if e, ok := errors.AsType[*Error](err); ok && e.status == http.StatusNotFound && e.cause == codeNoScore {
		return nil, nil
	}
	var parsed []T
	if err == nil {
		parsed, err = parse(subscriptionID, items)
	}
	if err != nil {
		return nil, fmt.Errorf("%s of subscription %s: %w", l.action, subscriptionID, err)
	}
	return parsed, nil
}
