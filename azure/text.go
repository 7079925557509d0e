package azure

import (
	"regexp"
	"strings"
	"unicode"
	"unique"
)

const (
	// maxLabel is far above the length that Azure allows for a name.
	maxLabel = 256
	// maxLine is enough for azidentity to name every credential that it tried.
	maxLine = 1000
)

// sanitize makes text from Azure fit for a label value, a log line and a table cell: one trimmed
// line of bounded length without characters that change how the rest of the line is shown. Invalid
// UTF-8 was replaced when the JSON was decoded. A text that is cut does not keep the whole in
// memory.
func sanitize(text string) string {
	if isPlain(text) {
		return text
	}
	return strings.Clone(truncate(strings.TrimSpace(strings.Map(blankControl, text)), maxLabel))
}

// sanitizeShared is like sanitize for texts that thousands of subscriptions have, such as the names
// of controls. Equal ones share their memory, and keep no longer text in it.
func sanitizeShared(text string) string { return unique.Make(sanitize(text)).Value() }

// isPlain reports whether text is short printable ASCII without blanks at its ends, as nearly all
// is.
func isPlain(text string) bool {
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return false
		}
	}
	return len(text) <= maxLabel && strings.Trim(text, " ") == text
}

// blankControl replaces characters that change how the rest of a line is shown.
func blankControl(r rune) rune {
	if unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp, unicode.Bidi_Control) {
		return ' '
	}
	return r
}

// printable makes the text of an error from outside fit for a log line: one line of bounded length
// without control characters and without the password in an address.
func printable(text string) string {
	text = strings.Map(blankControl, strings.ToValidUTF8(text, "?"))
	return oneLine(userInfo.ReplaceAllString(text, "//"))
}

var userInfo = regexp.MustCompile(`//[^/@\s"]*@`)

// oneLine joins the words of text by single spaces and bounds its length.
func oneLine(text string) string {
	return truncate(strings.Join(strings.Fields(text), " "), maxLine)
}

// truncate shortens text to n characters, the last of them an ellipsis.
func truncate(text string, n int) string {
	if runes := []rune(text); len(runes) > n {
		return string(runes[:n-1]) + "…"
	}
	return text
}
