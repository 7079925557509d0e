package azure

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Report says what a [Client] can read and, where it cannot, why and what helps.
// Its JSON is part of the command line's contract.
type Report struct {
	OK bool `json:"ok"` // nothing keeps the scores from being read
	// Configuration is what the client was made with; a wrong one makes no client.
	Configuration    CheckResult              `json:"configuration"`
	Credential       CheckResult              `json:"credential"`
	Identity         Identity             `json:"identity"`
	SubscriptionList CheckResult              `json:"subscription_list"`
	Subscriptions    []SubscriptionReport `json:"subscriptions"`
}

// CheckResult is what came of one question to Azure.
type CheckResult struct {
	OK     bool   `json:"ok"`
	Reason Reason `json:"reason,omitempty"`
	Detail string `json:"detail,omitempty"`
	Fix   string `json:"fix,omitempty"` // a command to run where there is one, else advice
}

// Identity is whom Azure takes the client for, as its token says. What the token
// does not say is empty.
type Identity struct {
	Credential    string `json:"credential,omitempty"` // azidentity's kind of credential
	TenantID      string `json:"tenant_id,omitempty"`
	ClientID      string `json:"client_id,omitempty"`
	ObjectID      string `json:"object_id,omitempty"`
	PrincipalType string `json:"principal_type,omitempty"` // ServicePrincipal or User
}

// SubscriptionReport says what may be read of a subscription. The findings are nil
// for one that Azure does not score because it is disabled or deleted.
type SubscriptionReport struct {
	ID       string   `json:"subscription_id"`
	Name     string   `json:"name,omitempty"`
	State    string   `json:"state,omitempty"`
	Scored   bool     `json:"scored"`
	Scores   *CheckResult `json:"scores,omitempty"`
	Controls *CheckResult `json:"controls,omitempty"`
}

// OK says that nothing keeps the subscription from being read.
func (s SubscriptionReport) OK() bool {
	return s.Scores == nil || s.Scores.OK && s.Controls.OK
}

// Check asks Azure for everything that a scrape needs, once: a token, the list of
// subscriptions, and from ARM the scores and the controls of each. The callback
// began is called with the number of subscriptions once it is known, and returns
// what is called after each, from many goroutines at once.
func (c *Client) Check(ctx context.Context, began func(subscriptions int) (read func())) *Report {
	r := &Report{Configuration: CheckResult{OK: true, Detail: c.configuration()}, Subscriptions: []SubscriptionReport{}}
	listCtx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()

	token, err := c.token.GetToken(listCtx, c.tokenOptions())
	r.Credential = r.finding(err, "", "")
	if err != nil {
		r.SubscriptionList.Detail = "not asked for without a token"
		return r
	}
	r.Identity = identity(token.Token)
	r.Identity.Credential = credentialKind()
	r.Credential.Detail = r.Identity.String()

	subscriptions, err := c.Subscriptions(listCtx)
	permission := "Microsoft.Resources/subscriptions/read"
	if e, ok := errors.AsType[*Error](err); ok && e.group != "" {
		permission = "Microsoft.Management/managementGroups/descendants/read"
	}
	r.SubscriptionList = r.finding(err, "", permission)
	if err != nil {
		return r
	}
	r.SubscriptionList.Detail = fmt.Sprintf("%d to read", len(subscriptions))

	r.Subscriptions = make([]SubscriptionReport, len(subscriptions))
	read := began(len(subscriptions))
	c.forEach(ctx, len(subscriptions), func(ctx context.Context, i int) {
		r.Subscriptions[i] = c.checkSubscription(ctx, r, subscriptions[i])
		read()
	})
	r.OK = true
	for _, s := range r.Subscriptions {
		r.OK = r.OK && s.OK()
	}
	return r
}

func (c *Client) checkSubscription(ctx context.Context, r *Report, s Subscription) SubscriptionReport {
	report := SubscriptionReport{ID: s.ID, Name: s.Name, State: s.State}
	if !s.Active() {
		return report
	}
	scores, err := c.readScores(ctx, s.ID)
	ofScores := r.finding(err, s.ID, "Microsoft.Security/secureScores/read")
	if err == nil && len(scores) == 0 {
		ofScores.Detail = "Azure does not score it; Defender's plan for posture management (CSPM) may be off"
	}
	_, err = c.readControls(ctx, s.ID)
	ofControls := r.finding(err, s.ID, "Microsoft.Security/secureScoreControls/read")
	report.Scored, report.Scores, report.Controls = len(scores) > 0, &ofScores, &ofControls
	return report
}

func (c *Client) configuration() string {
	which := "every subscription that the identity sees"
	switch {
	case len(c.subscriptionIDs) > 0:
		which = fmt.Sprintf("%d subscriptions by ID", len(c.subscriptionIDs))
	case len(c.managementGroups) > 0:
		which = "subscriptions below " + strings.Join(c.managementGroups, ", ")
	}
	return c.endpoint.String() + ", " + which
}

// finding turns an error, or none, of what needs a permission into a finding. The
// subscription is empty when it is about none.
func (r *Report) finding(err error, subscriptionID, permission string) CheckResult {
	if err == nil {
		return CheckResult{OK: true}
	}
	f := CheckResult{Reason: ReasonOf(err), Detail: err.Error()}
	if e, ok := errors.AsType[*Error](err); ok {
		f.Detail = e.Error() // without the subscription, which stands beside it
	}
	if f.Reason == ReasonForbidden && !errors.Is(err, errNoSubscription) {
		f.Detail = permission + " is missing: " + f.Detail
	}
	f.Fix = Hint(err, subscriptionID, r.Identity)
	return f
}

// Hint says what helps against an error of this package: a command to run where
// there is one, else advice. The subscription may be empty; what is unknown of the
// identity stands in the command in capitals.
func Hint(err error, subscriptionID string, identity Identity) string {
	scope, flag := "/subscriptions/"+cmp.Or(subscriptionID, "SUBSCRIPTION_ID"), "--azure.subscription-id"
	if e, ok := errors.AsType[*Error](err); ok && e.group != "" {
		scope, flag = "/providers/Microsoft.Management/managementGroups/"+e.group, "--azure.management-group"
	}
	switch ReasonOf(err) {
	case ReasonAuthentication:
		return "renew the credential; check AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_TOKEN_CREDENTIALS, and look the AADSTS code up; where there is none, check the way to the token endpoint (proxy, firewall)"
	case ReasonForbidden:
		return identity.roleAssignment(scope)
	case ReasonNotFound:
		return "check " + flag + "; if it exists: " + identity.roleAssignment(scope)
	case ReasonNotRegistered:
		return "az provider register --namespace Microsoft.Security --subscription " + cmp.Or(subscriptionID, "SUBSCRIPTION_ID")
	case ReasonThrottled:
		return "wait some minutes; scrape less often or set --cache.ttl"
	case ReasonTimeout:
		return "raise Prometheus' scrape_timeout and --scrape.timeout, or --azure.concurrency"
	case ReasonServerError:
		return "wait; see Azure's status page if it lasts"
	case ReasonNetwork:
		return "check name resolution, firewall, proxy (HTTPS_PROXY) and certificates (SSL_CERT_FILE)"
	case ReasonInvalidResponse:
		return "check for a proxy or portal that answers in Azure's place; else report a bug"
	}
	return ""
}

func (i Identity) roleAssignment(scope string) string {
	objectID, principalType := i.ObjectID, ""
	if objectID == "" {
		objectID = "OBJECT_ID"
	}
	if i.PrincipalType != "" {
		principalType = " --assignee-principal-type " + i.PrincipalType
	}
	return "az role assignment create --role Reader --assignee-object-id " + objectID + principalType + " --scope " + scope
}

// String names all that is known.
func (i Identity) String() string {
	var parts []string
	for _, part := range []struct{ name, value string }{
		{"", i.Credential}, {"tenant ", i.TenantID}, {"client ", i.ClientID}, {"object ", i.ObjectID},
	} {
		if part.value != "" {
			parts = append(parts, part.name+part.value)
		}
	}
	return strings.Join(parts, ", ")
}

// identity reads whom a token was made out to. It is the client's own token, of
// which nothing but what to show depends, so that its signature is Azure's
// business. Microsoft calls the form of its tokens an implementation detail: one of
// another form tells nothing.
func identity(token string) Identity {
	var i Identity
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return i
	}
	var claims struct {
		TenantID     string `json:"tid"`
		ClientID     string `json:"appid"`
		ObjectID     string `json:"oid"`
		IdentityType string `json:"idtyp"`
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(payload, &claims) != nil {
		return i
	}
	// They become part of a command that a person is asked to run.
	for _, claim := range []struct {
		value string
		into  *string
	}{{claims.TenantID, &i.TenantID}, {claims.ClientID, &i.ClientID}, {claims.ObjectID, &i.ObjectID}} {
		if uuid.MatchString(claim.value) {
			*claim.into = strings.ToLower(claim.value)
		}
	}
	switch claims.IdentityType {
	case "app":
		i.PrincipalType = "ServicePrincipal"
	case "user":
		i.PrincipalType = "User"
	}
	return i
}
