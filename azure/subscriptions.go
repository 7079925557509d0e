package azure

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/go-kit/log/level"
)

// Subscription is an Azure subscription, from the API "Subscriptions - List" (api-version
// 2022-12-01). A configured subscription that is not listed has only an ID.
type Subscription struct {
	ID       string // a UUID in lower case
	Name     string
	TenantID string
	State    string // Enabled, Warned, PastDue, Disabled or Deleted

	Owner string // the value of [Config.OwnerTag], or empty
	// Tags are the values of [Config.SubscriptionTags] in the same order, each empty if the
	// subscription lacks the tag; nil if it has none of them.
	Tags []string
	// Target is the ratio that [Config.TargetTag] asks for, from 0 to 1, or nil.
	Target *float64
	// ManagementGroups are the groups above the subscription as far as the identity sees them, the
	// nearest first. Subscriptions share the list: it must not be changed.
	ManagementGroups []ManagementGroup

	badTarget string // the text of [Config.TargetTag] if it is not a valid target
}

// Active reports whether Azure may score the subscription. It does not assess disabled and deleted
// ones.
func (s Subscription) Active() bool {
	return !strings.EqualFold(s.State, "Disabled") && !strings.EqualFold(s.State, "Deleted")
}

// newSubscription makes the texts fit for labels. The ID is valid and in lower case.
func newSubscription(id, name, tenantID, state string) Subscription {
	return Subscription{ID: id, Name: sanitize(name), TenantID: sanitizeShared(strings.ToLower(tenantID)), State: sanitizeShared(state)}
}

var uuid = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

// ParseSubscriptionID returns the UUID of a subscription in lower case.
func ParseSubscriptionID(id string) (string, error) {
	if !uuid.MatchString(id) {
		return "", fmt.Errorf("%q is not a subscription ID, expected a UUID like 00000000-0000-0000-0000-000000000000", truncate(id, 60))
	}
	return strings.ToLower(id), nil
}

// managementGroup follows Azure's naming rules: a letter or digit first and no dot last.
var managementGroup = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_().-]{0,88}[A-Za-z0-9_()-])?$`)

// ParseManagementGroup validates the ID of a management group, which is not its display name.
func ParseManagementGroup(id string) (string, error) {
	if !managementGroup.MatchString(id) {
		return "", fmt.Errorf("%q is not a management group ID, expected up to 90 letters, digits, dots, hyphens, underscores and parentheses, starting with a letter or digit and not ending with a dot", truncate(id, 60))
	}
	return id, nil
}

var errNoSubscription = errors.New("the identity cannot list any subscription; it may lack the role Reader")

// Configured returns [Config.SubscriptionIDs] without asking Azure: only the IDs are known.
func (c *Client) Configured() []Subscription {
	configured := make([]Subscription, len(c.subscriptionIDs))
	for i, id := range c.subscriptionIDs {
		configured[i].ID = id
	}
	return c.withoutExcluded(configured)
}

func (c *Client) withoutExcluded(subscriptions []Subscription) []Subscription {
	return slices.DeleteFunc(subscriptions, func(s Subscription) bool { return c.excluded[s.ID] })
}

// Subscriptions lists the subscriptions that the identity sees and that are below one of
// [Config.ManagementGroups], if there are any, without [Config.ExcludeSubscriptionIDs].
//
// With [Config.SubscriptionIDs] it returns exactly those: the list only adds details, and may be
// forbidden. Otherwise an empty list is [ReasonForbidden]: Azure leaves out what the identity
// cannot see, so one that lost its roles gets an empty list. If some of the management groups
// cannot be read, the subscriptions of the others are returned, and the log names the ones left
// out.
//
// A call that ends early, because of its deadline or a failure that may pass, keeps the pages
// already read: the next call within ten minutes continues after them.
func (c *Client) Subscriptions(ctx context.Context) ([]Subscription, error) {
	subscriptions, refused, err := c.listSubscriptions(ctx)
	if err == nil && len(c.managementGroups) > 0 {
		c.logRefusedGroups(refused)
	}
	if err == nil {
		c.logTargets(subscriptions)
	}
	return subscriptions, err
}

// listSubscriptions also returns why management groups cannot be read, in the order of the groups.
func (c *Client) listSubscriptions(ctx context.Context) (subscriptions []Subscription, refused []*Error, err error) {
	listed, err := c.listing.read(ctx, c)
	refused = listed.refused
	switch {
	case err != nil && len(c.subscriptionIDs) > 0 && ReasonOf(err) == ReasonForbidden:
		return c.Configured(), nil, nil
	case err != nil:
		return nil, nil, err
	case len(listed.subscriptions) > 0 || len(c.subscriptionIDs) > 0:
		return c.selected(listed.subscriptions), refused, nil
	case len(refused) > 0:
		return nil, nil, groupError(refused[0].group, refused[0])
	case len(c.managementGroups) > 0:
		e := &Error{Reason: ReasonForbidden, Err: errNoSubscription, group: c.managementGroups[0]}
		return nil, nil, groupError(strings.Join(c.managementGroups, ", "), e)
	}
	return nil, nil, fmt.Errorf("list subscriptions: %w", &Error{Reason: ReasonForbidden, Err: errNoSubscription})
}

// selected returns the configured subscriptions with the details that the list has of them, or the
// list without the excluded ones.
func (c *Client) selected(listed []Subscription) []Subscription {
	if len(c.subscriptionIDs) == 0 {
		return c.withoutExcluded(listed)
	}
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
	return configured
}

func (c *Client) logInvalidSubscriptions(operation string, count int, err error) {
	level.Warn(c.logger).Log("msg", "skipped invalid subscriptions", "count", count, "operation", operation, "reason", ReasonInvalidResponse, "err", err)
}

func groupError(groups string, err error) error {
	return fmt.Errorf("list subscriptions of management group %s: %w", groups, err)
}

// logRefusedGroups logs which management groups cannot be read, once, and that they can again.
func (c *Client) logRefusedGroups(refused []*Error) {
	for i, group := range c.managementGroups {
		var err error
		if n := slices.IndexFunc(refused, func(e *Error) bool { return e.group == group }); n >= 0 {
			err = refused[n]
		}
		c.groupFailures[i].record(c.logger, err, "skipped a management group that cannot be read", "management group can be read again", "group", group)
	}
}
