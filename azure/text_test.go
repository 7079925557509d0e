package azure

import (
	"strings"
	"testing"
	"unsafe"
)

func TestSanitize(t *testing.T) {
	t.Parallel()
	long := "x" + strings.Repeat(" ", 1<<20)
	if short := sanitize(long); short != "x" || unsafe.StringData(short) == unsafe.StringData(long) {
		t.Errorf("%q keeps the text that it was cut from in memory", short)
	}
	for text, want := range map[string]string{
		" a\tb\n": "a b", "a\u2028b\u2029c": "a b c", "a\u202eb\u2066c": "a b c", "Ünïcode 文字": "Ünïcode 文字", "\u202e": "",
	} {
		if got := sanitize(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestSanitizeShared(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"Enable MFA", " Enable MFA\n", "Ünïcode"} {
		a, b := sanitizeShared(strings.Clone(text)), sanitizeShared(strings.Clone(text))
		if unsafe.StringData(a) != unsafe.StringData(b) {
			t.Errorf("%q is in memory twice", text)
		}
	}
}
