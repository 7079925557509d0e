package azure

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"strings"
)

// Identity is the identity that Azure sees, as the token describes it. Unknown fields are empty.
type Identity struct {
	Credential    string `json:"credential,omitempty"` // azidentity's type of credential
	TenantID      string `json:"tenant_id,omitempty"`
	ClientID      string `json:"client_id,omitempty"`
	ObjectID      string `json:"object_id,omitempty"`
	PrincipalType string `json:"principal_type,omitempty"` // ServicePrincipal or User
}

// String lists the known fields.
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

// roleAssignment returns the command that lets the identity read the scope.
func (i Identity) roleAssignment(scope string) string {
	principalType := ""
	if i.PrincipalType != "" {
		principalType = " --assignee-principal-type " + i.PrincipalType
	}
	return "az role assignment create --role Reader --assignee-object-id " + cmp.Or(i.ObjectID, "OBJECT_ID") + principalType + " --scope " + scope
}

// identityOf reads the claims of a token without verifying it: it is the client's own, and its
// claims are only shown. Microsoft calls the format an implementation detail, so an unknown format
// gives an empty identity.
func identityOf(token string) Identity {
	var claims struct {
		TenantID     string `json:"tid"`
		ClientID     string `json:"appid"`
		ObjectID     string `json:"oid"`
		IdentityType string `json:"idtyp"`
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return Identity{}
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(payload, &claims) != nil {
		return Identity{}
	}
	principalTypes := map[string]string{"app": "ServicePrincipal", "user": "User"}
	return Identity{
		TenantID: uuidOrEmpty(claims.TenantID), ClientID: uuidOrEmpty(claims.ClientID), ObjectID: uuidOrEmpty(claims.ObjectID),
		PrincipalType: principalTypes[claims.IdentityType],
	}
}

// uuidOrEmpty drops any claim but a UUID: claims become part of a command that a person runs.
func uuidOrEmpty(claim string) string {
	id, _ := ParseSubscriptionID(claim)
	return id
}
