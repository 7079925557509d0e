package main

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// anonymizer replaces IDs with hashes that are equal for equal IDs within one report. The key is
// random and not kept, so that a name cannot be guessed from its hash.
type anonymizer struct {
	key     []byte
	private map[string]bool // texts from Azure that must not be in the report, in lower case
}

func newAnonymizer() *anonymizer {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // crypto/rand never fails
	return &anonymizer{key: key, private: map[string]bool{}}
}

// hash returns a short name for an ID.
func (a *anonymizer) hash(id string) string {
	a.keepPrivate(id)
	mac := hmac.New(sha256.New, a.key)
	mac.Write([]byte(strings.ToLower(id)))
	return "#" + hex.EncodeToString(mac.Sum(nil)[:4])
}

// keepPrivate remembers a text that the report must not contain.
func (a *anonymizer) keepPrivate(text string) {
	if text != "" && !slices.Contains(publicSegments, strings.ToLower(text)) {
		a.private[strings.ToLower(text)] = true
	}
}

// publicSegments are the parts of resource IDs that Azure defines.
var publicSegments = []string{
	"subscriptions", "resourcegroups", "providers", "microsoft.security", "securityconnectors", "securescores", "ascscore",
	"securescorecontrols", "microsoft.management", "managementgroups",
}

// pathPattern returns the shape of a resource ID: Azure's own segments, in the case in which they
// came, and an asterisk for every other.
func (a *anonymizer) pathPattern(id string) string {
	segments := strings.Split(id, "/")
	for i, segment := range segments {
		if segment != "" && !slices.Contains(publicSegments, strings.ToLower(segment)) {
			a.keepPrivate(segment)
			segments[i] = "*"
		}
	}
	return strings.Join(segments, "/")
}

// publicKeys are the field names that Azure documents. Any other key may be data, such as a tag.
var publicKeys = []string{
	"id", "name", "type", "properties", "displayName", "score", "max", "current", "percentage", "weight", "environment",
	"healthyResourceCount", "unhealthyResourceCount", "notApplicableResourceCount", "definition", "systemData",
	"healthy", "unhealthy", "notApplicable", "subscriptionId", "items", "chain",
}

// shape returns the structure of a JSON value: keys and types instead of contents.
func (a *anonymizer) shape(value any) any {
	switch v := value.(type) {
	case map[string]any:
		shape := map[string]any{}
		for key, inner := range v {
			if !slices.Contains(publicKeys, key) {
				key = "other key"
			}
			shape[key] = a.shape(inner)
		}
		return shape
	case []any:
		shapes := map[string]any{} // by JSON, so that equal ones appear once
		for _, inner := range v {
			shape := a.shape(inner)
			text, _ := json.Marshal(shape) // maps and strings alone
			shapes[string(text)] = shape
		}
		list := []any{}
		for _, key := range slices.Sorted(maps.Keys(shapes)) {
			list = append(list, shapes[key])
		}
		return list
	case string:
		return kindOfText(v)
	case json.Number:
		if strings.ContainsAny(v.String(), ".eE") {
			return kindFraction
		}
		return kindInteger
	case bool:
		return kindBoolean
	}
	return kindNull
}

// The kinds of values in a shape.
const (
	kindString   = "string"
	kindEmpty    = "empty string"
	kindGUID     = "GUID"
	kindPath     = "path"
	kindInteger  = "integer"
	kindFraction = "number with a fraction"
	kindBoolean  = "boolean"
	kindNull     = "null"
)

var kinds = []string{kindString, kindEmpty, kindGUID, kindPath, kindInteger, kindFraction, kindBoolean, kindNull}

func kindOfText(text string) string {
	switch {
	case text == "":
		return kindEmpty
	case len(text) == 36 && guid.MatchString(text):
		return kindGUID
	case strings.HasPrefix(text, "/"):
		return kindPath
	}
	return kindString
}

var guid = regexp.MustCompile(`(?i)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

// verify fails if a report contains a GUID, or a text that must not be in it. A name that is also a
// word of this program reveals nothing.
func (a *anonymizer) verify(report []byte) error {
	if guid.Match(report) {
		return errors.New("it would contain a GUID")
	}
	var decoded any
	if err := json.Unmarshal(report, &decoded); err != nil {
		return err
	}
	own := map[string]bool{}
	for _, word := range slices.Concat(roles, kinds, []string{string(asAssumed), string(different), string(notObserved)}) {
		own[word] = true
	}
	for _, text := range texts(decoded) {
		if a.private[strings.ToLower(text)] && !own[text] {
			return fmt.Errorf("it would contain a name from the tenant (%d characters)", len(text))
		}
	}
	return nil
}

// texts returns all texts in a JSON value except keys.
func texts(value any) []string {
	var all []string
	switch v := value.(type) {
	case string:
		all = []string{v}
	case []any:
		for _, inner := range v {
			all = append(all, texts(inner)...)
		}
	case map[string]any:
		for _, inner := range v {
			all = append(all, texts(inner)...)
		}
	}
	return all
}
