package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// onTerminal runs the program with its output and errors on a terminal, and
// returns what that shows.
func onTerminal(t *testing.T, env []string, args ...string) string {
	t.Helper()
	// A terminal of the kernel's: whoever opens the one end sees what a person would.
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer person.Close()
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	shown := make(chan string)
	go func() {
		text, _ := io.ReadAll(person) // ends with an error once the terminal is closed
		shown <- string(text)
	}()
	cmd := command(t.Context(), t, env, args...)
	cmd.Stdout, cmd.Stderr = terminal, terminal
	_ = cmd.Run() // the exit code is for other tests
	terminal.Close()
	return <-shown
}

// A person sees how far it is when there are many subscriptions; a pipe does not.
func TestProgress(t *testing.T) {
	t.Parallel()
	azure := startAzure(t, simulator.Generate(25, 2))
	env := append(secretEnv(), trust(t, azure))
	args := append(cloudFlags(azure), "export", "scores")

	text := onTerminal(t, env, args...)
	if !strings.Contains(text, "\r25 of 25 subscriptions\r\x1b[K") || !strings.Contains(text, "\r1 of 25 subscriptions\r") {
		t.Errorf("a terminal shows %q", text)
	}
	_, _, stderr := runToEnd(t, env, args...)
	if stderr != "AzureSecureScore.json: 25 items of 25 subscriptions\n" {
		t.Errorf("standard error %q", stderr)
	}
	// Of few subscriptions there is nothing to tell.
	text = onTerminal(t, env, append(args, "--azure.subscription-id=00000001-0000-4000-8000-000000000001")...)
	if text != "AzureSecureScore.json: 1 items of 1 subscriptions\r\n" {
		t.Errorf("a terminal shows %q", text)
	}
}

// Colours are for people who want them.
func TestColours(t *testing.T) {
	t.Parallel()
	const green, red = "\x1b[32m✓\x1b[0m", "\x1b[31m✗\x1b[0m"
	text := onTerminal(t, nil, "check", "--demo", "--log.level=error")
	if !strings.Contains(text, green) || !strings.Contains(text, red+" forbidden") {
		t.Errorf("no colours on a terminal:\n%q", text)
	}
	if text := onTerminal(t, []string{"NO_COLOR=1"}, "check", "--demo", "--log.level=error"); strings.Contains(text, "\x1b") || !strings.Contains(text, "✓") {
		t.Errorf("colours in spite of NO_COLOR:\n%q", text)
	}
	if text := onTerminal(t, nil, "check", "--demo", "--log.level=error", "--output=json"); strings.Contains(text, "\x1b") {
		t.Errorf("colours in JSON:\n%q", text)
	}
}

// A pipe is written to, and not replaced by a file.
func TestReplacePipe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	read := make(chan string)
	go func() {
		text, _ := os.ReadFile(pipe) // an error is an empty text, which the test does not want
		read <- string(text)
	}()
	if err := replaceFile(pipe, []byte("text")); err != nil {
		t.Error(err)
	}
	if text := <-read; text != "text" {
		t.Errorf("the pipe brought %q", text)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v %v", left, err)
	}
}
