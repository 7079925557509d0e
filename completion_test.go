package main

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestCompletion(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		words []string
		want  []string // among the words offered
	}{
		{[]string{""}, []string{"serve", "export", "check"}},
		{[]string{"ex"}, []string{"export"}},
		{[]string{"export", ""}, []string{"scores", "controls", "recommendations"}},
		{[]string{"--azure.cloud", ""}, []string{"public", "custom"}},
		{[]string{"check", "--output", ""}, []string{"table", "json"}},
		{[]string{"export", "scores", "--"}, []string{"--output", "--demo"}},
	} {
		code, stdout, stderr := runToEnd(t, nil, append([]string{"--completion-bash"}, test.words...)...)
		offered := strings.Split(stdout, "\n")
		for _, want := range test.want {
			if code != 0 || stderr != "" || !slices.Contains(offered, want) {
				t.Errorf("after %q: exit code %d, standard error %q, %q is not among %q", test.words, code, stderr, want, offered)
			}
		}
	}
}

// The scripts work in their shells, where those are installed.
func TestCompletion_InShells(t *testing.T) {
	t.Parallel()
	for shell, test := range map[string]struct{ script, want string }{
		"bash": {`source "$1"; COMP_WORDS=(` + name + ` export ""); COMP_CWORD=2; _` + name + `_bash_autocomplete; echo "${COMPREPLY[@]}"`, "scores controls recommendations"},
		// zsh completes only at a prompt, so that only sourcing the script is tested.
		"zsh": {`compdef() { echo "$@"; }; source "$1"`, "_" + name + " " + name},
	} {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			path, err := exec.LookPath(shell)
			if err != nil {
				t.Skipf("%s is not installed", shell)
			}
			code, script, stderr := runToEnd(t, nil, "--completion-script-"+shell)
			if code != 0 || stderr != "" {
				t.Fatalf("exit code %d, standard error %q", code, stderr)
			}
			cmd := exec.CommandContext(t.Context(), path, "-c", test.script, shell, write(t, "script", []byte(script)))
			cmd.Env = []string{"HOME=" + t.TempDir(), "PATH=" + filepath.Dir(binary) + ":/usr/bin:/bin"}
			out, err := cmd.CombinedOutput()
			if got := strings.TrimSpace(string(out)); err != nil || got != test.want {
				t.Errorf("got %q %v, want %q", got, err, test.want)
			}
		})
	}
}

func TestCompletion_ManPage(t *testing.T) {
	t.Parallel()
	code, page, stderr := runToEnd(t, nil, "--help-man")
	if code != 0 || stderr != "" || !strings.HasPrefix(page, ".TH "+name+" 1 ") {
		t.Errorf("exit code %d, standard error %q, man page\n%s", code, stderr, page)
	}
	want := []string{".SH \"NAME\"\n" + name + "\n", `\fBexport scores`, `\fBcheck`}
	for _, f := range flags(t) {
		want = append(want, "--"+f.Name)
	}
	for _, w := range want {
		if !strings.Contains(page, w) {
			t.Errorf("the man page lacks %s", w)
		}
	}
}
