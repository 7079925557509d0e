package azure

import (
	"os"
	"strings"
	"testing"
)

// docs/troubleshooting.md lists every advice in the words that the log and check use.
func TestAdvice_InDocs(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	plain := func(text string) string { return strings.ToLower(strings.ReplaceAll(text, "`", "")) }
	for cause, advice := range causeAdvice {
		if !strings.Contains(plain(string(page)), "| "+plain(advice)+" |") {
			t.Errorf("docs/troubleshooting.md lacks the advice for %s:\n%s", cause, advice)
		}
		if strings.HasPrefix(cause, "AADSTS") && !strings.Contains(string(page), "`"+cause+"`") {
			t.Errorf("docs/troubleshooting.md lacks %s", cause)
		}
	}
}
