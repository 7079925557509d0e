package azure

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Report is what a [Client] can read and, for each failure, its reason and how to fix it. Its
// JSON is part of the command line's contract.
type Report struct {
	OK               bool        `json:"ok"` // every score can be read
	Configuration    CheckResult `json:"configuration"`
	Credential       CheckResult `json:"credential"`
	Identity         Identity    `json:"identity"`
	SubscriptionList CheckResult `json:"subscription_list"`
	// ManagementGroups is nil unless [Report.CheckManagementGroups] read them.
	ManagementGroups *CheckResult         `json:"management_groups,omitempty"`
	Subscriptions    []SubscriptionReport `json:"subscriptions"`
}

// CheckResult is the result of one check.
type CheckResult struct {
	OK     bool   `json:"ok"`
	Reason Reason `json:"reason,omitempty"`
	Detail string `json:"detail,omitempty"`
	Fix    string `json:"fix,omitempty"` // a command if there is one, else advice
}

// SubscriptionReport is what can be read of a subscription. The results are nil for a disabled or
// deleted one, which Azure does not score.
type SubscriptionReport struct {
	ID       string       `json:"subscription_id"`
	Name     string       `json:"name,omitempty"`
	State    string       `json:"state,omitempty"`
	Scored   bool         `json:"scored"`
	Scores   *CheckResult `json:"scores,omitempty"`
	Controls *CheckResult `json:"controls,omitempty"`
	// Recommendations is nil unless [Report.CheckRecommendations] read them.
	Recommendations *CheckResult `json:"recommendations,omitempty"`
}

// OK reports whether nothing prevents reading the subscription.
func (s SubscriptionReport) OK() bool {
	return s.Scores == nil || s.Scores.OK && s.Controls.OK && (s.Recommendations == nil || s.Recommendations.OK)
}

// Check makes every request that a scrape makes: for a token, the list of subscriptions, and from
// ARM the scores and controls of each. Listing takes up to a minute, and so does each
// subscription. Check calls onListed once with the number of subscriptions, unless listing fails,
// and onDone after each subscription, from many goroutines concurrently.
func (c *Client) Check(ctx context.Context, onListed func(subscriptions int), onDone func()) *Report {
	r := &Report{Configuration: CheckResult{OK: true, Detail: c.describeConfiguration()}, Subscriptions: []SubscriptionReport{}}
	listCtx, cancel := context.WithTimeout(ctx, subscriptionTimeout)
	defer cancel()

	identity, err := c.Identify(listCtx)
	r.Credential = r.result(err, "", "")
	if err != nil {
		r.SubscriptionList.Detail = "skipped: there is no token"
		return r
	}
	r.Identity = identity
	r.Credential.Detail = r.Identity.String()

	subscriptions, refused, err := c.listSubscriptions(listCtx)
	r.SubscriptionList = r.listResult(len(subscriptions), refused, err)
	if err != nil {
		return r
	}
	onListed(len(subscriptions))
	r.Subscriptions = make([]SubscriptionReport, len(subscriptions))
	c.forEach(len(subscriptions), func(i int) {
		ctx, cancel := context.WithTimeout(ctx, subscriptionTimeout)
		defer cancel()
		r.Subscriptions[i] = c.checkSubscription(ctx, r, subscriptions[i])
		onDone()
	})
	r.OK = r.SubscriptionList.OK
	for _, s := range r.Subscriptions {
		r.OK = r.OK && s.OK()
	}
	return r
}

func (c *Client) describeConfiguration() string {
	which := "every subscription that the identity can list"
	switch {
	case len(c.subscriptionIDs) > 0:
		which = fmt.Sprintf("%d subscriptions by ID", len(c.subscriptionIDs))
	case len(c.managementGroups) > 0:
		which = "subscriptions below " + strings.Join(c.managementGroups, ", ")
	}
	if len(c.excluded) > 0 {
		which += fmt.Sprintf(", without %d by ID", len(c.excluded))
	}
	return c.endpoint.String() + ", " + which
}

// listResult describes the list of subscriptions. Management groups that cannot be read make it a
// failure, although the subscriptions of the others are known.
func (r *Report) listResult(subscriptions int, refused []*Error, err error) CheckResult {
	result := r.result(err, "", "Microsoft.Resources/subscriptions/read")
	if err != nil {
		return result
	}
	details, fixes := []string{fmt.Sprintf("%d to read", subscriptions)}, []string{}
	for _, e := range refused {
		group := r.result(e, "", "")
		details = append(details, fmt.Sprintf("management group %s: %s", e.group, group.Detail))
		fixes = append(fixes, group.Fix)
		result.OK, result.Reason = false, refused[0].Reason
	}
	result.Detail, result.Fix = strings.Join(details, "; "), strings.Join(fixes, "\n  ")
	return result
}

func (c *Client) checkSubscription(ctx context.Context, r *Report, s Subscription) SubscriptionReport {
	report := SubscriptionReport{ID: s.ID, Name: s.Name, State: s.State}
	if !s.Active() {
		return report
	}
	scores, err := c.scores(ctx, s.ID)
	scoresResult := r.result(err, s.ID, "Microsoft.Security/secureScores/read")
	if err == nil && len(scores) == 0 {
		scoresResult.Detail = "Azure does not score the subscription; Foundational CSPM may be off"
	}
	_, err = c.controls(ctx, s.ID)
	controlsResult := r.result(err, s.ID, "Microsoft.Security/secureScoreControls/read")
	report.Scored, report.Scores, report.Controls = len(scores) > 0, &scoresResult, &controlsResult
	return report
}

// result describes the error, or success, of a request that needs a permission. The subscription ID
// is empty for a request about no single subscription.
func (r *Report) result(err error, subscriptionID, permission string) CheckResult {
	if err == nil {
		return CheckResult{OK: true}
	}
	result := CheckResult{Reason: ReasonOf(err), Detail: err.Error(), Fix: Hint(err, subscriptionID, r.Identity)}
	if e, ok := errors.AsType[*Error](err); ok {
		result.Detail = e.Error() // without the subscription, which is in another column
		if e.group != "" {
			permission = "Microsoft.Management/managementGroups/descendants/read"
		}
	}
	if result.Reason == ReasonForbidden && !errors.Is(err, errNoSubscription) && !hasCause(err, codeDisabled) {
		result.Detail = "missing permission " + permission + ": " + result.Detail
	}
	return result
}
