package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
)

// document is the content of an export.
type document struct {
	text       []byte
	items      int
	kind       string  // of one item
	failures   []error // of subscriptions that are left out
	incomplete error   // why details of the items are missing, or nil
}

// exportReader reads the document about these subscriptions.
type exportReader func(ctx context.Context, client *azure.Client, subscriptionIDs []string) (document, error)

// export writes a document about all subscriptions to path. A subscription that cannot be read is
// reported and left out. If none can be read, nothing is written.
func export(ctx context.Context, client *azure.Client, read exportReader, path string, stdout, stderr *os.File) int {
	target, err := openTarget(path, stdout) // first, so that a wrong path fails before Azure is asked
	if err != nil {
		return fail(stderr, err)
	}
	defer target.discard()
	ids, err := activeSubscriptions(ctx, client)
	if err != nil {
		return fail(stderr, err)
	}
	doc, err := read(ctx, client, ids)
	if ctx.Err() != nil {
		return fail(stderr, errors.New("interrupted, nothing was written"))
	}
	for _, failure := range doc.failures {
		printError(stderr, failure)
	}
	switch {
	case len(doc.failures) == len(ids):
		return fail(stderr, errors.New("no subscription could be read, nothing was written; run check"))
	case err != nil:
		return fail(stderr, err)
	}
	if err := target.write(doc.text); err != nil {
		return fail(stderr, err)
	}
	if target.File != stdout {
		fmt.Fprintf(stderr, "%s: %s from %s\n", path, plural(doc.items, doc.kind, doc.kind+"s"), plural(len(ids)-len(doc.failures), "subscription", "subscriptions"))
	}
	switch {
	case doc.incomplete != nil:
		return fail(stderr, doc.incomplete)
	case len(doc.failures) > 0:
		return exitFailure
	}
	return exitOK
}

// readList reads a list in the shape of the API's own response, and shows the progress on a
// terminal.
func readList(list azure.List, terminal *os.File) exportReader {
	return func(ctx context.Context, client *azure.Client, ids []string) (document, error) {
		progress := &progress{w: terminal, total: len(ids)}
		lists := client.Export(ctx, list, ids, progress.advance)
		progress.erase()
		doc := document{kind: "item"}
		var items [][]byte
		for _, l := range lists {
			if l.Err != nil {
				doc.failures = append(doc.failures, l.Err)
			}
			for _, item := range l.Items {
				items = append(items, item)
			}
		}
		doc.items = len(items)
		// json.Marshal would escape < and >, which Azure does not.
		var text bytes.Buffer
		value := slices.Concat([]byte(`{"value":[`), bytes.Join(items, []byte(",")), []byte("]}\n"))
		err := json.Indent(&text, value, "", "  ")
		doc.text = text.Bytes()
		return doc, err
	}
}

// activeSubscriptions returns the IDs of the subscriptions that Azure scores, within a minute.
func activeSubscriptions(ctx context.Context, client *azure.Client) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := client.Authenticate(ctx); err != nil {
		return nil, err
	}
	subscriptions, err := client.Subscriptions(ctx)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, s := range subscriptions {
		if s.Active() {
			ids = append(ids, s.ID)
		}
	}
	if len(ids) == 0 {
		return nil, errors.New("the identity cannot list any active subscription; run check")
	}
	return ids, nil
}

// target is where an export goes. A file is written completely or not at all, and only its owner
// can read it: scores show where a tenant is weak.
type target struct {
	*os.File
	path string // to rename File to; empty for standard output, devices and pipes
}

func openTarget(path string, stdout *os.File) (target, error) {
	if path == "-" || path == "" { // kingpin parses "-o -" as ""
		return target{File: stdout}, nil
	}
	info, err := os.Lstat(path)
	exists, dir := err == nil, filepath.Dir(path)
	switch {
	case exists && info.IsDir():
		return target{}, fmt.Errorf("%s: %w", path, syscall.EISDIR)
	case exists && info.Mode()&(os.ModeDevice|os.ModeNamedPipe) != 0, dir == "/dev", dir == "/dev/fd":
		// Appending, because /dev/stdout can be a file.
		file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0) //nolint:gosec // the user names the file
		return target{File: file}, err
	}
	// An existing file is replaced and no link is followed: in a shared directory, another user may
	// have created it.
	temp, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	return target{temp, path}, withPath(path, err)
}

func (t target) write(text []byte) error {
	_, err := t.Write(text)
	if t.path == "" {
		return err
	}
	if err = cmp.Or(err, t.Sync(), t.Close()); err == nil {
		err = os.Rename(t.Name(), t.path)
	}
	return withPath(t.path, err)
}

// discard removes the temporary file unless write has renamed it.
func (t target) discard() {
	if t.path != "" {
		_ = t.Close()
		_ = os.Remove(t.Name())
	}
}

// withPath names path in place of the temporary file that an error of package os names.
func withPath(path string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", path, cmp.Or(errors.Unwrap(err), err))
}
