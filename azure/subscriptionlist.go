package azure

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	subscriptionsAPIVersion    = "2022-12-01"
	managementGroupsAPIVersion = "2020-05-01"

	// resumeWithin is how long the pages of an unfinished listing are kept after the last one.
	resumeWithin = 10 * time.Minute
)

// resumableListing keeps what an unfinished listing has read, so that the next one continues.
type resumableListing struct {
	mu         sync.Mutex
	unfinished *listing
}

// read reads the list, and starts over if Azure refuses to continue an unfinished one.
func (r *resumableListing) read(ctx context.Context, c *Client) (listed, error) {
	l := r.take(c.now())
	resumed := l != nil
	if !resumed {
		l = newListing(c)
	}
	result, err := l.read(ctx)
	if resumed && err != nil && !mayPass(err) {
		l = newListing(c)
		result, err = l.read(ctx)
	}
	if mayPass(err) {
		r.keep(l)
	}
	return result, err
}

// mayPass reports whether the same request may succeed later.
func mayPass(err error) bool {
	return slices.Contains([]Reason{ReasonThrottled, ReasonTimeout, ReasonServerError, ReasonNetwork, ReasonCanceled}, ReasonOf(err))
}

// take removes the unfinished listing. Concurrent calls must not share one.
func (r *resumableListing) take(now time.Time) *listing {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.unfinished
	r.unfinished = nil
	if l != nil && now.Sub(l.readAt) > resumeWithin {
		return nil
	}
	return l
}

// keep keeps the listing, unless a concurrent call has kept one with more pages.
func (r *resumableListing) keep(l *listing) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l.pages > 0 && (r.unfinished == nil || l.pages > r.unfinished.pages) {
		r.unfinished = l
	}
}

// listing is one pass over the list of subscriptions and the descendants of the management groups.
type listing struct {
	client  *Client
	pages   int
	readAt  time.Time // of the last page
	all     *partialList
	groups  []*partialList // of the client's groups, in the same order
	byID    map[string]Subscription
	invalid int   // items that were left out
	err     error // why the first of them is invalid
}

// partialList is a list that may be read in several calls.
type partialList struct {
	*pager
	ids     []string // of subscriptions, in order
	refused *Error
}

// listed is the result of a listing.
type listed struct {
	subscriptions []Subscription
	refused       []*Error // why management groups cannot be read
}

func newListing(c *Client) *listing {
	list := func(path, apiVersion string) *partialList {
		return &partialList{pager: newPager(c, operationListSubscriptions, path, apiVersion, subscriptionLimits)}
	}
	l := &listing{client: c, all: list("/subscriptions", subscriptionsAPIVersion), byID: map[string]Subscription{}}
	for _, group := range c.managementGroups {
		l.groups = append(l.groups, list("/providers/Microsoft.Management/managementGroups/"+group+"/descendants", managementGroupsAPIVersion))
	}
	return l
}

// read reads the remaining pages. Every failure has an [*Error].
func (l *listing) read(ctx context.Context) (listed, error) {
	if err := l.readList(ctx, l.all, l.subscription); err != nil {
		return listed{}, fmt.Errorf("list subscriptions: %w", err)
	}
	if l.invalid > 0 && len(l.byID) == 0 {
		return listed{}, fmt.Errorf("list subscriptions: %w", invalidResponse("none of %d subscriptions is valid: %w", l.invalid, l.err))
	}
	ids := l.all.ids
	var refused []*Error
	if len(l.groups) > 0 {
		below := map[string]bool{}
		for i, list := range l.groups {
			group := l.client.managementGroups[i]
			if err := l.readGroup(ctx, list, group); err != nil {
				return listed{}, groupError(group, err)
			}
			if list.refused != nil {
				refused = append(refused, list.refused)
			}
			for _, id := range list.ids {
				below[id] = true
			}
		}
		ids = slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return !below[id] })
	}
	if l.invalid > 0 {
		l.client.logInvalidSubscriptions(operationListSubscriptions, l.invalid, l.err)
	}
	subscriptions := make([]Subscription, len(ids))
	for i, id := range ids {
		subscriptions[i] = l.byID[id]
	}
	return listed{subscriptions, refused}, nil
}

// readGroup reads the descendants of a management group, from the API "Management Groups - Get
// Descendants" (api-version 2020-05-01). It does not fail if the identity cannot read them.
func (l *listing) readGroup(ctx context.Context, list *partialList, group string) error {
	err := l.readList(ctx, list, descendant)
	if err == nil {
		return nil
	}
	e := *classify(err) // a copy, because concurrent requests share the error of a token
	e.group = group
	if list.pages == 0 && slices.Contains([]Reason{ReasonForbidden, ReasonNotFound, ReasonNotRegistered}, e.Reason) {
		list.refused, list.next = &e, ""
		return nil
	}
	return &e
}

// readList reads the remaining pages of a list. Each item is decoded alone, so that an invalid one
// is skipped alone; item returns its subscription ID, or "" if it is not a subscription.
func (l *listing) readList(ctx context.Context, list *partialList, item func(json.RawMessage) (string, error)) error {
	for list.next != "" {
		page, err := readPage[json.RawMessage](ctx, list.pager)
		if err != nil {
			return err
		}
		l.pages++
		l.readAt = l.client.now()
		for _, raw := range page {
			switch id, err := item(raw); {
			case err != nil:
				l.invalid++
				l.err = cmp.Or(l.err, err)
			case id != "":
				list.ids = append(list.ids, id)
			}
		}
	}
	return nil
}

// subscription keeps an item of the list of subscriptions and returns its ID the first time.
func (l *listing) subscription(raw json.RawMessage) (string, error) {
	var item struct {
		SubscriptionID string          `json:"subscriptionId"`
		DisplayName    string          `json:"displayName"`
		TenantID       string          `json:"tenantId"`
		State          string          `json:"state"`
		Tags           json.RawMessage `json:"tags"`
	}
	if err := decode(raw, &item, subscriptionLimits.items); err != nil {
		return "", err
	}
	id, err := ParseSubscriptionID(item.SubscriptionID)
	if _, known := l.byID[id]; known || err != nil {
		return "", err
	}
	s := newSubscription(id, item.DisplayName, item.TenantID, item.State)
	l.client.tags.addTo(&s, item.Tags)
	l.byID[id] = s
	return id, nil
}

// descendant returns the ID of a subscription among the descendants of a management group.
func descendant(raw json.RawMessage) (string, error) {
	var item struct {
		Name string `json:"name"`
	}
	if err := decode(raw, &item, subscriptionLimits.items); err != nil {
		return "", err
	}
	id, err := ParseSubscriptionID(item.Name)
	if err != nil {
		return "", nil //nolint:nilerr // a management group
	}
	return id, nil
}
