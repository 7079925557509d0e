package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// The files hold what Azure sent: the same items in its own shape, with all pages
// merged and every number as it was written.
func TestExport(t *testing.T) {
	t.Parallel()
	tenant := simulator.Demo()
	tenant.PageSize = 4 // a subscription has 15 controls
	azure := startAzure(t, tenant)
	env := slices.Clip(append(secretEnv(), trust(t, azure)))

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
				args := append(cloudFlags(azure), "export", test.command, "-o", path)
				for _, id := range ids {
					args = append(args, "--azure.subscription-id="+id)
				}
				good := map[string]int{"one": 1, "several": 2, "all": 6}[subscriptions]
				code, stdout, stderr := runToEnd(t, env, args...)
				if subscriptions == "all" {
					// The forbidden one is told of, and does not keep the others back.
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

// What a file shows is not what a program that decodes and encodes would make of
// it: neither numbers nor letters change.
func TestExportIsVerbatim(t *testing.T) {
	t.Parallel()
	azure := startAzure(t, simulator.Generate(1, 1))
	id := "00000001-0000-4000-8000-000000000001"
	azure.SetFault(id, simulator.Body(200, "application/json", `{"value":[{"name":"ascScore","properties":{"displayName":"<R&D> \u00fc","score":{"max":58.0,"current":1.10e1,"percentage":0.189655172413793103},"weight":12345678901234567890}}]}`))
	for _, args := range [][]string{{"-o", "-"}, {"--output=-"}, {"-o-"}} {
		code, stdout, stderr := runToEnd(t, append(secretEnv(), trust(t, azure)), append(append(cloudFlags(azure), "export", "scores"), args...)...)
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

// A file is written whole or not at all.
func TestExportFails(t *testing.T) {
	t.Parallel()
	azure := startAzure(t, simulator.Demo())
	args := slices.Clip(append(cloudFlags(azure), "export", "scores"))
	env := slices.Clip(append(secretEnv(), trust(t, azure)))
	const before = "what was there before"

	for _, test := range []struct {
		name string
		env  []string
		args []string
		want string
	}{
		{"no subscription can be read", env, append(args, "--azure.subscription-id="+simulator.DemoForbiddenID), "nothing was written"},
		{"only disabled ones", env, append(args, "--azure.subscription-id="+simulator.DemoDisabledID), "no subscription that Azure scores"},
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
		})
	}

	t.Run("no such directory", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "missing", "scores.json")
		code, _, stderr := runToEnd(t, env, append(args, "-o", path)...)
		if code != 1 || !strings.Contains(stderr, "no such file or directory") {
			t.Errorf("exit code %d, standard error %q", code, stderr)
		}
	})
}

// Who interrupts an export gets no half of one.
func TestExportInterrupted(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(2, 2)
	azure := startAzure(t, tenant)
	azure.SetFault(tenant.Subscriptions[0].ID, simulator.Hang())
	path := filepath.Join(t.TempDir(), "scores.json")
	var stderr output
	cmd := command(t.Context(), t, append(secretEnv(), trust(t, azure)), append(cloudFlags(azure), "export", "scores", "-o", path)...)
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the calls of the export", func() bool { return azure.Requests()[simulator.RouteSecureScores] == 2 })
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // the exit code tells
	if code := cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(stderr.String(), "interrupted, nothing was written") {
		t.Errorf("exit code %d, standard error %q", code, stderr.String())
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("a file was written: %v", err)
	}
}

func TestReplaceFile(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("permissions are Unix's")
	}
	dir := t.TempDir()
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	mode := func() os.FileMode {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode()
	}

	if err := replaceFile(file, []byte("first")); err != nil || mode() != 0o600 {
		t.Errorf("a new file: %v, mode %v", err, mode())
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("file", link); err != nil {
		t.Fatal(err)
	}
	if err := replaceFile(link, []byte("second")); err != nil || mode() != 0o644 {
		t.Errorf("a file with permissions of its own: %v, mode %v", err, mode())
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is one no more: %v", err)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "second" {
		t.Errorf("the file holds %q %v", text, err)
	}

	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := replaceFile(link, []byte("third")); err != nil || mode() != 0o600 {
		t.Errorf("a link to a file that is still to be made: %v, mode %v", err, mode())
	}

	if left, err := os.ReadDir(dir); err != nil || len(left) != 2 {
		t.Errorf("left behind: %v %v", left, err)
	}
}
