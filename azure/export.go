package azure

import (
	"context"
	"encoding/json"
	"time"
)

// subscriptionTimeout bounds the reading of one subscription when no scrape sets a deadline.
const subscriptionTimeout = time.Minute

// Exported is a list of one subscription, or an error.
type Exported struct {
	// Items are those of all pages, byte for byte as Azure wrote them. None means that Azure does not
	// score the subscription.
	Items []json.RawMessage
	Err   error
}

// Export reads a list of each subscription from ARM and returns the results in the same order. Each
// subscription fails alone and takes up to a minute. Export calls onDone after each
// subscription, from many goroutines concurrently.
func (c *Client) Export(ctx context.Context, l List, subscriptionIDs []string, onDone func()) []Exported {
	exported := make([]Exported, len(subscriptionIDs))
	c.forEach(len(subscriptionIDs), func(i int) {
		ctx, cancel := context.WithTimeout(ctx, subscriptionTimeout)
		defer cancel()
		exported[i].Items, exported[i].Err = readList(ctx, c, l, subscriptionIDs[i], validateItems)
		onDone()
	})
	return exported
}

// validateItems returns the items as they are, if they are objects of the subscription.
func validateItems(subscriptionID string, items []json.RawMessage) ([]json.RawMessage, error) {
	for _, raw := range items {
		var item *struct {
			ID string `json:"id"`
		}
		err := decode(raw, &item, scoreLimits.items)
		if err == nil && item == nil {
			err = invalidResponse("an item is null")
		}
		if err == nil {
			err = belongsTo(item.ID, subscriptionID)
		}
		if err != nil {
			return nil, err
		}
	}
	return items, nil
}
