package azure

import (
	"bytes"
	"encoding/json"
)

// Limits of what Azure may send.
const (
	// maxBody bounds one response body, after decompression. A real page of 1,000 subscriptions or
	// controls is well below 1 MiB.
	maxBody = 8 << 20
	// maxListBytes bounds all pages of one list together.
	maxListBytes = 2 * maxBody
	// maxItems bounds the items of one list: small ones take far more memory than bytes.
	maxItems = 20_000
	// maxPages bounds the pages of one list.
	maxPages = 100
)

// decode decodes JSON whose arrays have up to limit elements together. They are counted first,
// because decoding them is what takes the memory.
func decode(body []byte, into any, limit int) error {
	if countElements(body) > limit {
		return invalidResponse("more than %d items", limit)
	}
	body = bytes.TrimPrefix(body, []byte("\ufeff")) // some Azure services send a byte order mark
	if err := json.Unmarshal(body, into); err != nil {
		return &Error{Reason: ReasonInvalidResponse, Err: summarize(err)}
	}
	return nil
}

// countElements counts the elements of all arrays in a JSON text. An empty array counts as one, and
// invalid JSON gives some number.
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
