package main

import (
	"slices"
	"testing"

	"github.com/alecthomas/kingpin/v2"
)

// flags returns the flags that configure the program.
func flags(t *testing.T) []*kingpin.FlagModel {
	t.Helper()
	app := newApp(&config{})
	if _, err := app.ParseContext(nil); err != nil { // fills in the names of the environment
		t.Fatal(err)
	}
	return slices.DeleteFunc(app.Model().Flags, func(f *kingpin.FlagModel) bool {
		return f.Hidden || f.Name == "help" || f.Name == "version"
	})
}
