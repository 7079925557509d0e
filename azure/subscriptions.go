package azure

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/go-kit/log/level"
)

const (
	subscriptionsAPIVersion    = "2022-12-01"
	managementGroupsAPIVersion = "2020-05-01"
)

// Subscription is an Azure subscription, from the API "Subscriptions - List"
// (api-version 2022-12-01).
type Subscription struct {
	ID string // a UUID in lower case
	// Name is empty for a configured subscription that the list does not show, and
	// so are TenantID and State.
	Name     string
	TenantID string
	State    string // Enabled, Warned, PastDue, Disabled or Deleted
}

// Active says whether it makes sense to ask for the subscription's scores:
// Azure does not assess disabled and deleted ones.
func (s Subscription) Active() bool {
	return !strings.EqualFold(s.State, "Disabled") && !strings.EqualFold(s.State, "Deleted")
}

var uuid = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

// ParseSubscriptionID returns a subscription's UUID in lower case.
func ParseSubscriptionID(id string) (string, error) {
	if !uuid.MatchString(id) {
		return "", fmt.Errorf("%q is no subscription ID, expected a UUID like 00000000-0000-0000-0000-000000000000", truncate(id, 60))
	}
	return strings.ToLower(id), nil
}

// managementGroup is by Azure's naming rules: it begins with a letter or digit and
// does not end with a dot.
var managementGroup = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_().-]{0,88}[A-Za-z0-9_()-])?$`)

// ParseManagementGroup checks the ID of a management group, which is not its
// display name.
func ParseManagementGroup(id string) (string, error) {
	if !managementGroup.MatchString(id) {
		return "", fmt.Errorf("%q is no management group ID, expected up to 90 letters, digits, dots, hyphens, underscores and parentheses, a letter or digit first and no dot last", truncate(id, 60))
	}
	return id, nil
}

var errNoSubscription = errors.New("the identity sees no subscription, as without the role Reader")

// Configured returns the subscriptions of [Config.SubscriptionIDs] as far as they
// are known without asking Azure: their IDs.
func (c *Client) Configured() []Subscription {
	configured := make([]Subscription, len(c.subscriptionIDs))
	for i, id := range c.subscriptionIDs {
		configured[i].ID = id
	}
	return configured
}

// Subscriptions lists the subscriptions that the identity sees, of which
// [Config.ManagementGroups] leave those below the groups, from the API "Management
// Groups - Get Descendants" (api-version 2020-05-01). With
// [Config.SubscriptionIDs] it answers exactly those: the list only adds what it
// tells of them, and that the identity may not list is no error then. That there is
// no subscription at all is [ReasonForbidden]: Azure leaves out what the identity may
// not see, so that one which has lost its roles gets an empty list and no error.
func (c *Client) Subscriptions(ctx context.Context) ([]Subscription, error) {
	type subscriptionItem struct {
		SubscriptionID string `json:"subscriptionId"`
		DisplayName    string `json:"displayName"`
		TenantID       string `json:"tenantId"`
		State          string `json:"state"`
	}
	items, err := list[json.RawMessage](ctx, c, operationListSubscriptions, "subscriptions", subscriptionsAPIVersion)
	if err != nil {
		if len(c.subscriptionIDs) > 0 && ReasonOf(err) == ReasonForbidden {
			return c.Configured(), nil
		}
		return nil, fmt.Errorf("list subscriptions: %w", err)
	}

	var listed []Subscription
	byID := map[string]Subscription{}
	for _, raw := range items {
		var i subscriptionItem
		err := decode(raw, &i, maxItems) // each by itself, so that a bad one is left out alone
		id := ""
		if err == nil {
			id, err = ParseSubscriptionID(i.SubscriptionID)
		}
		if err != nil {
			level.Warn(c.logger).Log("msg", "left out a subscription that makes no sense", "operation", operationListSubscriptions, "reason", ReasonInvalidResponse, "err", err)
			continue
		}
		if _, twice := byID[id]; twice {
			continue
		}
		s := Subscription{ID: id, Name: label(i.DisplayName), TenantID: label(strings.ToLower(i.TenantID)), State: label(i.State)}
		byID[id] = s
		listed = append(listed, s)
	}
	if len(c.managementGroups) > 0 {
		return c.belowGroups(ctx, listed)
	}
	if len(c.subscriptionIDs) == 0 {
		if len(listed) == 0 {
			return nil, fmt.Errorf("list subscriptions: %w", &Error{Reason: ReasonForbidden, Err: errNoSubscription})
		}
		return listed, nil
	}
	configured := c.Configured()
	for i, s := range configured {
		if known, ok := byID[s.ID]; ok {
			configured[i] = known
		}
	}
	return configured, nil
}

// belowGroups returns those of the subscriptions that are below one of the
// configured management groups.
func (c *Client) belowGroups(ctx context.Context, subscriptions []Subscription) ([]Subscription, error) {
	type item struct {
		Name string `json:"name"` // of a subscription its ID
	}
	below := map[string]bool{}
	for _, group := range c.managementGroups {
		// It lists subscriptions, and is counted as such.
		items, err := list[item](ctx, c, operationListSubscriptions, "providers/Microsoft.Management/managementGroups/"+group+"/descendants", managementGroupsAPIVersion)
		if err != nil {
			if e, ok := errors.AsType[*Error](err); ok {
				e.group = group
			}
			return nil, fmt.Errorf("list subscriptions of management group %s: %w", group, err)
		}
		for _, i := range items {
			below[strings.ToLower(i.Name)] = true
		}
	}
	seen := slices.DeleteFunc(subscriptions, func(s Subscription) bool { return !below[s.ID] })
	if len(seen) == 0 {
		groups := strings.Join(c.managementGroups, ", ")
		return nil, fmt.Errorf("list subscriptions of management group %s: %w", groups, &Error{Reason: ReasonForbidden, Err: errNoSubscription, group: c.managementGroups[0]})
	}
	return seen, nil
}

// maxLabel is far above what Azure allows a name to have.
const maxLabel = 256

// label makes a text of Azure fit to be a label value, a log line and a table
// cell: one line of bounded length, in which nothing changes how the rest of the line
// is shown. (Invalid UTF-8 was replaced when the JSON was decoded.) It keeps nothing of
// a longer text in memory.
func label(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp, unicode.Bidi_Control) {
			return ' '
		}
		return r
	}, text)
	short := truncate(strings.TrimSpace(text), maxLabel)
	if len(short) < len(text) {
		short = strings.Clone(short)
	}
	return short
}
