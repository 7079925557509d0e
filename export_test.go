package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// The files hold what Azure sent: all pages in one list, every number as Azure wrote it.
func TestExport(t *testing.T) {
	t.Parallel()
	tenant := simulator.Demo()
	tenant.PageSize = 4 // a subscription has 15 controls
	azure := startAzure(t, tenant)
	env := slices.Clip(secretEnv(t, azure))

	for _, test := range []struct {
		command, file, itemType string
		items                   int // of one good subscription
		verbatim                []string
	}{
		{"scores", "AzureSecureScore.json", "Microsoft.Security/secureScores", 1, []string{`"max": 55,`, `"current": 37.0,`, `"percentage": 0.6727`}},
		{"controls", "AzureSecureScoreControls.json", "Microsoft.Security/secureScores/secureScoreControls", 15, []string{`"max": 2,`, `"current": 0.0,`, `"notApplicableResourceCount": 1`}},
	} {
		for subscriptions, ids := range map[string][]string{
			"one":     {simulator.DemoSampleID},
			"several": {simulator.DemoSampleID, "d27c0b84-5f6a-4e19-93cd-a80f4176be52", simulator.DemoUnscoredID},
			"all":     nil,
		} {
			t.Run(test.command+"/"+subscriptions, func(t *testing.T) {
				t.Parallel()
				path := filepath.Join(t.TempDir(), test.file)
				args := append(azure.Flags(), "export", test.command, "-o", path)
				for _, id := range ids {
					args = append(args, "--azure.subscription-id="+id)
				}
				good := map[string]int{"one": 1, "several": 2, "all": 6}[subscriptions]
				code, stdout, stderr := runToEnd(t, env, args...)
				if subscriptions == "all" {
					// The forbidden subscription is reported; the others are unaffected.
					if code != 1 || strings.Count(stderr, "error: ") != 1 || !strings.Contains(stderr, simulator.DemoForbiddenID+": HTTP 403") {
						t.Errorf("exit code %d, standard error %q", code, stderr)
					}
				} else if code != 0 || strings.Contains(stderr, "error: ") {
					t.Errorf("exit code %d, standard error %q", code, stderr)
				}
				if stdout != "" {
					t.Errorf("standard output: %q", stdout)
				}

				text, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				var file struct {
					Value []struct {
						ID, Type string
					}
				}
				if err := json.Unmarshal(text, &file); err != nil {
					t.Fatal(err)
				}
				if len(file.Value) != good*test.items {
					t.Errorf("%d items, want %d", len(file.Value), good*test.items)
				}
				for _, item := range file.Value {
					if item.Type != test.itemType || !strings.HasPrefix(item.ID, "/subscriptions/") {
						t.Errorf("an item has the type %s and the ID %s", item.Type, item.ID)
					}
				}
				for _, want := range test.verbatim {
					if !strings.Contains(string(text), want) {
						t.Errorf("no %s in\n%.1000s", want, text)
					}
				}
				left, err := os.ReadDir(filepath.Dir(path))
				if err != nil || len(left) != 1 {
					t.Errorf("files beside the exported one: %v %v", left, err)
				}
			})
		}
	}
}

// Numbers and characters are not decoded and encoded again.
func TestExport_Verbatim(t *testing.T) {
	t.Parallel()
	azure := startAzure(t, simulator.Generate(1, 1))
	id := "00000001-0000-4000-8000-000000000001"
	azure.SetFault(id, simulator.Body(200, "application/json", `{"value":[{"name":"ascScore","properties":{"displayName":"<R&D> \u00fc","score":{"max":58.0,"current":1.10e1,"percentage":0.189655172413793103},"weight":12345678901234567890}}]}`))
	for _, args := range [][]string{{"-o", "-"}, {"--output=-"}, {"-o-"}} {
		code, stdout, stderr := runToEnd(t, secretEnv(t, azure), append(append(azure.Flags(), "export", "scores"), args...)...)
		if code != 0 || stderr != "" {
			t.Errorf("exit code %d, standard error %q", code, stderr)
		}
		want := `{
  "value": [
    {
      "name": "ascScore",
      "properties": {
        "displayName": "<R&D> \u00fc",
        "score": {
          "max": 58.0,
          "current": 1.10e1,
          "percentage": 0.189655172413793103
        },
        "weight": 12345678901234567890
      }
    }
  ]
}
`
		if stdout != want {
			t.Errorf("%v: got\n%s\nwant\n%s", args, stdout, want)
		}
	}
}

// A failed export leaves the file as it was, and nothing beside it.
func TestExport_Failure(t *testing.T) {
	t.Parallel()
	azure := startAzure(t, simulator.Demo())
	args := slices.Clip(append(azure.Flags(), "export", "scores"))
	env := slices.Clip(secretEnv(t, azure))
	const before = "what was there before"

	for _, test := range []struct {
		name string
		env  []string
		args []string
		want string
	}{
		{"no subscription can be read", env, append(args, "--azure.subscription-id="+simulator.DemoForbiddenID), "nothing was written"},
		{"only disabled ones", env, append(args, "--azure.subscription-id="+simulator.DemoDisabledID), "cannot list any active subscription"},
		{"wrong secret", append(env, "AZURE_CLIENT_SECRET=wrong"), args, "AADSTS7000215"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			path := write(t, "AzureSecureScore.json", []byte(before))
			code, _, stderr := runToEnd(t, test.env, append(test.args, "-o", path)...)
			if code != 1 || !strings.Contains(stderr, name+": error: ") || !strings.Contains(stderr, test.want) {
				t.Errorf("exit code %d, standard error %q", code, stderr)
			}
			if text, err := os.ReadFile(path); err != nil || string(text) != before {
				t.Errorf("the file holds %q %v", text, err)
			}
			if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

func TestExport_Interrupted(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(2, 2)
	azure := startAzure(t, tenant)
	azure.SetFault(tenant.Subscriptions[0].ID, simulator.Hang())
	path := filepath.Join(t.TempDir(), "scores.json")
	var stderr strings.Builder
	cmd := command(t.Context(), t, secretEnv(t, azure), append(azure.Flags(), "export", "scores", "-o", path)...)
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the calls of the export", func() bool { return azure.Requests()[simulator.RouteSecureScores] == 2 })
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // the exit code is checked below
	if code := cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(stderr.String(), "interrupted, nothing was written") {
		t.Errorf("exit code %d, standard error %q", code, stderr.String())
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A file is new and private whatever had its name before: a link or a file that others can write
// may be a stranger's trap.
func TestExport_ReplacesTheName(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("needs Unix permissions")
	}
	for name, prepare := range map[string]func(t *testing.T, path, elsewhere string) error{
		"new file":               func(*testing.T, string, string) error { return nil },
		"link":                   func(_ *testing.T, path, elsewhere string) error { return os.Symlink(elsewhere, path) },
		"link to a missing file": func(_ *testing.T, path, elsewhere string) error { return os.Symlink(elsewhere+"-missing", path) },
		"file that all can write": func(_ *testing.T, path, _ string) error {
			return errors.Join(os.WriteFile(path, []byte("before"), 0o600), os.Chmod(path, 0o666))
		},
		"hard link": func(_ *testing.T, path, elsewhere string) error { return os.Link(elsewhere, path) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path, elsewhere := filepath.Join(dir, "scores.json"), write(t, "elsewhere", []byte("untouched"))
			if err := prepare(t, path, elsewhere); err != nil {
				t.Fatal(err)
			}
			if code, stdout, stderr := runToEnd(t, nil, "export", "scores", "--demo", "--log.level=error", "-o", path); code != 1 || stdout != "" {
				t.Fatalf("exit code %d, want 1 for the forbidden subscription; %s", code, stderr)
			}
			info, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode() != 0o600 || info.Size() < 100 {
				t.Errorf("mode %v, %d bytes", info.Mode(), info.Size())
			}
			if text, err := os.ReadFile(elsewhere); err != nil || string(text) != "untouched" {
				t.Errorf("the other file holds %q, %v", text, err)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
				t.Errorf("files in the directory: %v, %v", left, err)
			}
		})
	}
}

// A path that cannot be written fails at once and by its own name, before Azure is asked.
func TestExport_ChecksTargetFirst(t *testing.T) {
	t.Parallel()
	azure := startAzure(t, simulator.Demo())
	env, args := secretEnv(t, azure), append(azure.Flags(), "export", "scores", "-o")
	dir := t.TempDir()
	for path, want := range map[string]string{
		filepath.Join(dir, "missing", "scores.json"): "no such file or directory",
		dir: "is a directory",
		filepath.Join(write(t, "file", nil), "scores.json"): "not a directory",
	} {
		code, _, stderr := runToEnd(t, env, append(args, path)...)
		if wantLine := name + ": error: " + path + ": " + want + "\n"; code != 1 || stderr != wantLine {
			t.Errorf("exit code %d, standard error %q, want %q", code, stderr, wantLine)
		}
	}
	if requests := azure.Requests(); len(requests) != 0 {
		t.Errorf("Azure was asked: %v", requests)
	}
}

// Devices and pipes are written to, not replaced.
func TestExport_DevicesAndPipes(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("needs Unix devices")
	}
	export := func(path string) (stdout string) {
		_, stdout, stderr := runToEnd(t, nil, "export", "scores", "--demo", "--log.level=error", "-o", path)
		if !strings.Contains(stderr, path+": 6 items") {
			t.Errorf("%s: standard error %q", path, stderr)
		}
		return stdout
	}
	if text := export("/dev/stdout"); !json.Valid([]byte(text)) {
		t.Errorf("standard output: %q", text)
	}
	export(os.DevNull)

	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if out, err := exec.CommandContext(t.Context(), "mkfifo", pipe).CombinedOutput(); err != nil {
		t.Fatalf("mkfifo: %v %s", err, out)
	}
	received := make(chan []byte, 1)
	go func() {
		text, _ := os.ReadFile(pipe) // an empty file is not valid JSON
		received <- text
	}()
	export(pipe)
	if text := <-received; !json.Valid(text) {
		t.Errorf("the pipe received %q", text)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("files beside the pipe: %v, %v", left, err)
	}
}
