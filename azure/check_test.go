package azure

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
)

// What a token says becomes part of a command, so that it must be what it claims
// to be.
func TestIdentity(t *testing.T) {
	t.Parallel()
	const id = "55555555-EEEE-4fff-8aaa-666666666666"
	token := func(claims string) string {
		return "header." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".signature"
	}
	for _, test := range []struct {
		name, token string
		want        Identity
	}{
		{"service principal", token(`{"tid":"` + id + `","appid":"` + id + `","oid":"` + id + `","idtyp":"app"}`), Identity{
			TenantID: strings.ToLower(id), ClientID: strings.ToLower(id), ObjectID: strings.ToLower(id), PrincipalType: "ServicePrincipal",
		}},
		{"user", token(`{"oid":"` + id + `","idtyp":"user"}`), Identity{ObjectID: strings.ToLower(id), PrincipalType: "User"}},
		{"hostile", token(`{"oid":"$(reboot)","tid":"` + id + `; reboot","idtyp":"app --role Owner"}`), Identity{}},
		{"other types", token(`{"oid":[1]}`), Identity{}},
		{"no base64", "header.%%%.signature", Identity{}},
		{"no JWT", "opaque", Identity{}},
		{"none", "", Identity{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := identity(test.token); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

// Nobody is left without advice, but for what needs none.
func TestCure(t *testing.T) {
	t.Parallel()
	for _, reason := range Reasons {
		if cure := Hint(&Error{Reason: reason, Err: errors.New("x")}, "", Identity{}); (cure == "") != (reason == ReasonCanceled) {
			t.Errorf("the cure for %s is %q", reason, cure)
		}
	}
}
