package azure

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// scripts/kql-check parses the golden files with Microsoft's parser.
func TestQueries_Golden(t *testing.T) {
	t.Parallel()
	byName := part{names: 4, name: 3}
	byRow := part{names: maxParts, name: 63, rows: 4, row: 2}
	for name, query := range map[string]string{
		"scores_packed":        packedScores,
		"scores_plain":         plainScores,
		"subscriptions_packed": withTags(packedSubscriptions),
		"subscriptions_plain":  withTags(plainSubscriptions),
		"counts_packed":        countsQuery(part{}),
		"counts_packed_part":   countsQuery(byName),
		"counts_packed_split":  countsQuery(byRow),
		"counts_plain":         plainCountsQuery(part{}),
		"counts_plain_split":   plainCountsQuery(byRow),
		"names":                namesQuery(part{}),
		"names_part":           namesQuery(byName),
		"controls":             controlsQuery(part{}),
	} {
		file := filepath.Join("testdata", "queries", name+".kql")
		if *update {
			if err := os.WriteFile(file, []byte(query+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		golden, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if string(golden) != query+"\n" {
			t.Errorf("%s differs from the query:\n%s", file, query)
		}
	}
}

// Subscriptions are halved. The parts of one are disjoint and complete, at every depth.
func TestPart_Split(t *testing.T) {
	t.Parallel()
	var leaves []part
	var descend func(p part)
	descend = func(p part) {
		smaller := p.split()
		if smaller == nil {
			leaves = append(leaves, p)
		}
		for _, s := range smaller {
			if s.names%max(1, p.names) != 0 || s.name%max(1, p.names) != p.name || s.row%max(1, p.rows) != p.row {
				t.Fatalf("%+v is not within %+v", s, p)
			}
			descend(s)
		}
	}
	descend(part{subscriptions: []string{"a", "b", "c"}})
	type leaf struct {
		subscription string
		name, row    int
	}
	seen := map[leaf]bool{}
	for _, p := range leaves {
		if len(p.subscriptions) != 1 || p.names != maxParts || p.rows != maxParts || p.name >= maxParts || p.row >= maxParts {
			t.Fatalf("leaf %+v", p)
		}
		seen[leaf{p.subscriptions[0], p.name, p.row}] = true
	}
	if want := 3 * maxParts * maxParts; len(seen) != want || len(leaves) != want {
		t.Errorf("%d different leaves of %d, want %d", len(seen), len(leaves), want)
	}
}
