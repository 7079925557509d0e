package azure

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// maxBody bounds one response body, after decompression. A real page of 1,000 subscriptions or
// controls is well below 1 MiB.
const maxBody = 8 << 20

// lenient are the rules of encoding/json: Azure's services differ in the case of names.
var lenient = json.JoinOptions(json.MatchCaseInsensitiveNames(true), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))

// decode decodes JSON whose arrays have up to limit elements together. They are counted first,
// because decoding them is what takes the memory.
func decode(body []byte, into any, limit int) error {
	if countElements(body) > limit {
		return invalidBecause(causeTooLarge, "more than %d items", limit)
	}
	body = trimMark(body)
	if err := json.Unmarshal(body, into, lenient); err != nil {
		return invalidJSON(err, body)
	}
	return nil
}

// invalidJSON explains why a text with this beginning cannot be decoded. The error quotes no value.
func invalidJSON(err error, beginning []byte) *Error {
	syntax, isSyntax := errors.AsType[*jsontext.SyntacticError](err)
	wrong, isWrong := errors.AsType[*json.SemanticError](err)
	switch {
	case isSyntax && bytes.HasPrefix(bytes.TrimSpace(trimMark(beginning)), []byte("<")):
		return invalidBecause(causeForeign, "HTML or XML instead of JSON: the response is not from Azure")
	case isSyntax:
		return invalidBecause(causeNotJSON, "invalid JSON at byte %d: %s", syntax.ByteOffset, oneLine(fmt.Sprint(syntax.Err)))
	case isWrong:
		kind := strings.NewReplacer("{", "object", "[", "array").Replace(wrong.JSONKind.String())
		return invalidResponse("unexpected %s at %s", kind, oneLine(cmp.Or(string(wrong.JSONPointer), "/")))
	}
	return invalidResponse("%s", oneLine(err.Error()))
}

// trimMark removes the byte order mark that some Azure services send.
func trimMark(body []byte) []byte { return bytes.TrimPrefix(body, []byte("\ufeff")) }

// listOf returns the items of a list. Only an array without an error next to it is a list: null, or
// an object without one, must not look like an empty list, which means that there is no score.
func listOf[T any](items *[]T, failure *errorBody, body []byte) ([]T, error) {
	if items != nil && failure == nil {
		return *items, nil
	}
	return nil, notAList(errorCodes(response{body: body}))
}

// notAList is the failure of a response that may hold an error instead.
func notAList(codes []string) *Error {
	if code := displayCode(codes); code != "" {
		return invalidBecause(causeNotAList, "an error instead of a list: %s", code)
	}
	return invalidBecause(causeNotAList, "the response is not a list")
}

// countElements counts the elements of all arrays in a JSON text. An empty array counts as one. For
// invalid JSON the number is meaningless.
func countElements(body []byte) int {
	count := 0
	var arrays []bool // by depth, whether it is an array
	for i := 0; i < len(body); i++ {
		switch body[i] {
		case '"':
			for i++; i < len(body) && body[i] != '"'; i++ {
				if body[i] == '\\' {
					i++
				}
			}
		case '[', '{':
			arrays = append(arrays, body[i] == '[')
			if body[i] == '[' {
				count++
			}
		case ']', '}':
			arrays = arrays[:max(0, len(arrays)-1)]
		case ',':
			if len(arrays) > 0 && arrays[len(arrays)-1] {
				count++
			}
		}
	}
	return count
}
