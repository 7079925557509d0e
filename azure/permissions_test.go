package azure

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestActions_EveryOperation(t *testing.T) {
	operations := slices.Clone(Operations)
	slices.Sort(operations)
	if got := slices.Sorted(maps.Keys(Actions)); !slices.Equal(got, operations) {
		t.Errorf("Actions has the operations %q, want %q", got, operations)
	}
}

// Resource Graph leaves out rows of a type that the identity cannot read, without an error. A new
// type in a query therefore needs its action.
func TestActions_TypesOfQueries(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	graphType := regexp.MustCompile(`'(microsoft\.[a-z.]+(?:/[a-z]+)+)'`)
	types := map[string]bool{}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		for _, match := range graphType.FindAllStringSubmatch(string(source), -1) {
			types[match[1]] = true
		}
	}
	if len(types) < 2 {
		t.Fatalf("found only the types %v", types)
	}
	for name := range types {
		hasAction := func(action string) bool { return strings.EqualFold(action, name+"/read") }
		if !slices.ContainsFunc(Actions[operationQueryResourceGraph], hasAction) {
			t.Errorf("a query reads rows of type %s, but Actions lacks %s/read", name, name)
		}
	}
}
