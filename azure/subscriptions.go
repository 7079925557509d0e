package azure

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/go-kit/log/level"
)

const (
	subscriptionsAPIVersion    = "2022-12-01"
	managementGroupsAPIVersion = "2020-05-01"
)

// Subscription is an Azure subscription, from the API "Subscriptions - List" (api-version
// 2022-12-01). Of a configured subscription that is not listed only the ID is known.
type Subscription struct {
	ID       string // a UUID in lower case
	Name     string
	TenantID string
	State    string // Enabled, Warned, PastDue, Disabled or Deleted
}

// Active reports whether Azure may score the subscription. It does not assess disabled and deleted
// ones.
func (s Subscription) Active() bool {
	return !strings.EqualFold(s.State, "Disabled") && !strings.EqualFold(s.State, "Deleted")
}

var uuid = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

// ParseSubscriptionID returns the UUID of a subscription in lower case.
func ParseSubscriptionID(id string) (string, error) {
	if !uuid.MatchString(id) {
		return "", fmt.Errorf("%q is no subscription ID, expected a UUID like 00000000-0000-0000-0000-000000000000", truncate(id, 60))
	}
	return strings.ToLower(id), nil
}

// managementGroup follows Azure's naming rules: a letter or digit first and no dot last.
var managementGroup = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_().-]{0,88}[A-Za-z0-9_()-])?$`)

// ParseManagementGroup validates the ID of a management group, which is not its display name.
func ParseManagementGroup(id string) (string, error) {
	if !managementGroup.MatchString(id) {
		return "", fmt.Errorf("%q is no management group ID, expected up to 90 letters, digits, dots, hyphens, underscores and parentheses, a letter or digit first and no dot last", truncate(id, 60))
	}
	return id, nil
}

var errNoSubscription = errors.New("the identity sees no subscription, as without the role Reader")

// Configured returns [Config.SubscriptionIDs] without asking Azure: only the IDs are known.
func (c *Client) Configured() []Subscription {
	configured := make([]Subscription, len(c.subscriptionIDs))
	for i, id := range c.subscriptionIDs {
		configured[i].ID = id
	}
	return configured
}

// Subscriptions lists the subscriptions that the identity sees and that are below one of
// [Config.ManagementGroups], if there are any. With [Config.SubscriptionIDs] it returns exactly those:
// the list only adds details, and may be forbidden. Otherwise an empty list is [ReasonForbidden]:
// Azure leaves out what the identity cannot see, so one that lost its roles gets an empty list.
func (c *Client) Subscriptions(ctx context.Context) ([]Subscription, error) {
	listed, err := c.listSubscriptions(ctx)
	switch {
	case err != nil && len(c.subscriptionIDs) > 0 && ReasonOf(err) == ReasonForbidden:
		return c.Configured(), nil
	case err != nil:
		return nil, fmt.Errorf("list subscriptions: %w", err)
	case len(c.managementGroups) > 0:
		return c.belowGroups(ctx, listed)
	case len(c.subscriptionIDs) > 0:
		byID := make(map[string]Subscription, len(listed))
		for _, s := range listed {
			byID[s.ID] = s
		}
		configured := c.Configured()
		for i, s := range configured {
			if known, ok := byID[s.ID]; ok {
				configured[i] = known
			}
		}
		return configured, nil
	case len(listed) == 0:
		return nil, fmt.Errorf("list subscriptions: %w", &Error{Reason: ReasonForbidden, Err: errNoSubscription})
	}
	return listed, nil
}

// listSubscriptions returns the listed subscriptions without duplicates. Each is decoded alone, so
// that an invalid one is left out alone.
func (c *Client) listSubscriptions(ctx context.Context) ([]Subscription, error) {
	items, err := listAll[json.RawMessage](ctx, c, operationListSubscriptions, "subscriptions", subscriptionsAPIVersion)
	if err != nil {
		return nil, err
	}
	var listed []Subscription
	seen := map[string]bool{}
	for _, raw := range items {
		var item struct {
			SubscriptionID string `json:"subscriptionId"`
			DisplayName    string `json:"displayName"`
			TenantID       string `json:"tenantId"`
			State          string `json:"state"`
		}
		err := decode(raw, &item, maxItems)
		id := ""
		if err == nil {
			id, err = ParseSubscriptionID(item.SubscriptionID)
		}
		if err != nil {
			level.Warn(c.logger).Log("msg", "left out an invalid subscription", "operation", operationListSubscriptions, "reason", ReasonInvalidResponse, "err", err)
			continue
		}
		if !seen[id] {
			seen[id] = true
			listed = append(listed, Subscription{
				ID: id, Name: sanitize(item.DisplayName), TenantID: sanitize(strings.ToLower(item.TenantID)), State: sanitize(item.State),
			})
		}
	}
	return listed, nil
}

// belowGroups returns the subscriptions below the configured management groups, from the API
// "Management Groups - Get Descendants" (api-version 2020-05-01).
func (c *Client) belowGroups(ctx context.Context, subscriptions []Subscription) ([]Subscription, error) {
	type descendant struct {
		Name string `json:"name"` // the ID of a subscription
	}
	below := map[string]bool{}
	for _, group := range c.managementGroups {
		descendants, err := listAll[descendant](ctx, c, operationListSubscriptions, "providers/Microsoft.Management/managementGroups/"+group+"/descendants", managementGroupsAPIVersion)
		if err != nil {
			if e, ok := errors.AsType[*Error](err); ok {
				e.group = group
			}
			return nil, fmt.Errorf("list subscriptions of management group %s: %w", group, err)
		}
		for _, d := range descendants {
			below[strings.ToLower(d.Name)] = true
		}
	}
	visible := slices.DeleteFunc(subscriptions, func(s Subscription) bool { return !below[s.ID] })
	if len(visible) == 0 {
		groups := strings.Join(c.managementGroups, ", ")
		return nil, fmt.Errorf("list subscriptions of management group %s: %w", groups, &Error{Reason: ReasonForbidden, Err: errNoSubscription, group: c.managementGroups[0]})
	}
	return visible, nil
}
