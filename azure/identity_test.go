package azure

import (
	"encoding/base64"
	"strings"
	"testing"
)

// Claims become part of a command, so each must be what it claims to be.
func TestIdentityOf(t *testing.T) {
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
			if got := identityOf(test.token); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}
