package azure

import (
	"context"
	"encoding/json"
	"time"

	"golang.org/x/sync/errgroup"
)

// List is one of the lists that Microsoft.Security has of a subscription
// (api-version 2020-01-01).
type List struct {
	operation string
	resource  string // the last part of its path
	what      string // is done, in an error's text
}

// The lists.
var (
	SecureScores        = List{operationListSecureScores, "secureScores", "list secure scores"}
	SecureScoreControls = List{operationListSecureScoreControls, "secureScoreControls", "list secure score controls"}
)

// readSubscription reads a list with all its pages.
func readSubscription[T any](ctx context.Context, c *Client, l List, subscriptionID string) ([]T, error) {
	items, err := list[T](ctx, c, l.operation, "subscriptions/"+subscriptionID+"/providers/Microsoft.Security/"+l.resource, secureScoresAPIVersion)
	return items, subscriptionError(l.what, subscriptionID, err)
}

// patience is how long reading one subscription may take where no scrape's
// deadline is near.
const patience = time.Minute

// Exported is what reading a list of one subscription brought.
type Exported struct {
	// Items are as Azure wrote them, to the byte, those of all pages. None means
	// that Azure does not score the subscription.
	Items []json.RawMessage
	Err   error
}

// Export reads a list of each of the subscriptions from ARM and returns what it
// brought in the same order. One failure does not touch the others; one
// subscription takes a minute at most. The callback read is called after each
// subscription, from many goroutines at once.
func (c *Client) Export(ctx context.Context, l List, subscriptionIDs []string, read func()) []Exported {
	exported := make([]Exported, len(subscriptionIDs))
	c.forEach(ctx, len(subscriptionIDs), func(ctx context.Context, i int) {
		exported[i].Items, exported[i].Err = readSubscription[json.RawMessage](ctx, c, l, subscriptionIDs[i])
		read()
	})
	return exported
}

// forEach calls do for 0 to n-1, as many at a time as calls may be in flight, each
// with its own time.
func (c *Client) forEach(ctx context.Context, n int, do func(ctx context.Context, i int)) {
	var group errgroup.Group
	group.SetLimit(c.concurrency)
	for i := range n {
		group.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			do(ctx, i)
			return nil
		})
	}
	_ = group.Wait() // do keeps its errors to itself
}
