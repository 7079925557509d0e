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

// export writes one list of all subscriptions to path, in the shape of the API's own response. A
// subscription that cannot be read is reported and left out. If none can be read, nothing is
// written.
func export(ctx context.Context, client *azure.Client, list azure.List, path string, stdout, stderr *os.File) int {
	target, ids, err := openExport(ctx, client, path, stdout)
	if err != nil {
		return fail(stderr, err)
	}
	defer target.discard()
	progress := &progress{w: stderr, total: len(ids)}
	lists := client.Export(ctx, list, ids, progress.advance)
	progress.erase()
	if ctx.Err() != nil {
		return fail(stderr, errors.New("interrupted, nothing was written"))
	}

	var items [][]byte
	failed := 0
	for _, l := range lists {
		if l.Err != nil {
			printError(stderr, l.Err)
			failed++
		}
		for _, item := range l.Items {
			items = append(items, item)
		}
	}
	if failed == len(ids) {
		return fail(stderr, errors.New("no subscription could be read, nothing was written; run check"))
	}
	// json.Marshal would escape < and >, which Azure does not.
	var text bytes.Buffer
	document := slices.Concat([]byte(`{"value":[`), bytes.Join(items, []byte(",")), []byte("]}\n"))
	if err := json.Indent(&text, document, "", "  "); err != nil {
		return fail(stderr, err)
	}
	if err := target.write(text.Bytes()); err != nil {
		return fail(stderr, err)
	}
	if target.File != stdout {
		fmt.Fprintf(stderr, "%s: %s from %s\n", path, plural(len(items), "item", "items"), plural(len(ids)-failed, "subscription", "subscriptions"))
	}
	if failed > 0 {
		return exitFailure
	}
	return exitOK
}

// openExport opens the target, and then lists the subscriptions: a wrong path fails before Azure is
// asked.
func openExport(ctx context.Context, client *azure.Client, path string, stdout *os.File) (target, []string, error) {
	opened, err := openTarget(path, stdout)
	if err != nil {
		return target{}, nil, err
	}
	ids, err := activeSubscriptions(ctx, client)
	if err != nil {
		opened.discard()
		return target{}, nil, err
	}
	return opened, ids, nil
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

// openTarget is called before any request to Azure, so that a wrong path fails at once.
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
