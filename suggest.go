package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kingpin/v2"
	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
)

// envPrefix begins every variable that twins a flag.
var envPrefix = strings.ToUpper(strings.ReplaceAll(name, "-", "_")) + "_"

// serviceEnv matches what Kubernetes sets in every pod for a Service named like the exporter.
var serviceEnv = regexp.MustCompile(`_?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

// warnUnknownEnv logs variables of the environment that have the prefix but are not known.
func warnUnknownEnv(logger log.Logger, known, environ []string) {
	for _, entry := range environ {
		variable, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(variable, envPrefix) && !slices.Contains(known, variable) && !serviceEnv.MatchString(variable) {
			level.Warn(logger).Log("msg", "unknown environment variable", "variable", variable, "did_you_mean", nearest(variable, known))
		}
	}
}

// unknownWord matches kingpin's errors that quote an unknown flag or command.
var unknownWord = regexp.MustCompile(`^(?:unknown long flag '|expected command but got ")(.+)['"]$`)

// withSuggestion adds the flag or command that an error about an unknown one probably means.
func withSuggestion(err error, app *kingpin.Application) error {
	match := unknownWord.FindStringSubmatch(err.Error())
	if match == nil {
		return err
	}
	flags, words := app.Model().Flags, []string(nil)
	for _, c := range app.Model().FlattenedCommands() {
		flags, words = append(flags, c.Flags...), append(words, strings.Fields(c.FullCommand)...)
	}
	for _, f := range flags {
		words = append(words, "--"+f.Name)
	}
	guess := nearest(match[1], words)
	if d := distance(match[1], guess); d == 0 || d > (len(guess)+2)/3 {
		return err // known but misplaced, or too different
	}
	return fmt.Errorf("%w, did you mean %s?", err, guess)
}

// nearest returns the candidate with the least edit distance to word.
func nearest(word string, candidates []string) string {
	return slices.MinFunc(candidates, func(a, b string) int { return distance(word, a) - distance(word, b) })
}

// distance is the Levenshtein distance of two texts, in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			substitute := diagonal
			if a[i] != b[j] {
				substitute++
			}
			diagonal = row[j+1]
			row[j+1] = min(substitute, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
