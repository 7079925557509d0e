package azure

import (
	"errors"
	"strings"
	"testing"
)

func TestHint_EveryReason(t *testing.T) {
	t.Parallel()
	for _, reason := range Reasons {
		hint := Hint(&Error{Reason: reason, Err: errors.New("x")}, "", Identity{})
		if (hint == "") != (reason == ReasonCanceled) {
			t.Errorf("the hint for %s is %q", reason, hint)
		}
	}
}

func TestHint_ByCode(t *testing.T) {
	t.Parallel()
	const exclude = "exclude it with --azure.exclude-subscription-id=ID"
	for code, want := range map[string]string{
		"SubscriptionNotRegistered":    "az provider register --namespace Microsoft.Security --subscription ID",
		"Subscription Not Registered":  "az provider register --namespace Microsoft.Security --subscription ID",
		"DisallowedProvider":           exclude,
		"DisallowedOperation":          exclude,
		"InvalidResourceType":          exclude,
		"InvalidResourceNamespace":     exclude,
		"NoRegisteredProviderFound":    exclude,
		"ReadOnlyDisabledSubscription": "enable the subscription, or " + exclude,
		"AuthorizationFailed":          "az role assignment create --role Reader --assignee-object-id OBJECT_ID --scope /subscriptions/ID",
	} {
		err := classifyResponse(response{status: 403, body: []byte(`{"error":{"code":"` + code + `"}}`)})
		if hint := Hint(err, "ID", Identity{}); !strings.HasSuffix(hint, want) {
			t.Errorf("%s: %q, want %q", code, hint, want)
		}
	}
}
