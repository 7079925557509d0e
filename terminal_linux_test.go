package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// onTerminal runs the program with standard output and error on a terminal and returns what that
// shows.
func onTerminal(t *testing.T, env []string, args ...string) string {
	t.Helper()
	// A pseudo-terminal: its master end reads what a person would see.
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
	_ = cmd.Run() // other tests check the exit code
	terminal.Close()
	return <-shown
}

func TestProgress(t *testing.T) {
	t.Parallel()
	azure := startAzure(t, simulator.Generate(25, 2))
	env := secretEnv(t, azure)
	args := append(azure.Flags(), "export", "scores")

	text := onTerminal(t, env, args...)
	if !strings.Contains(text, "\r25 of 25 subscriptions\r\x1b[K") || !strings.Contains(text, "\r1 of 25 subscriptions\r") {
		t.Errorf("a terminal shows %q", text)
	}
	_, _, stderr := runToEnd(t, env, args...)
	if stderr != "AzureSecureScore.json: 25 items from 25 subscriptions\n" {
		t.Errorf("standard error %q", stderr)
	}
	// A few take no time.
	text = onTerminal(t, env, append(args, "--azure.subscription-id=00000001-0000-4000-8000-000000000001")...)
	if text != "AzureSecureScore.json: 1 item from 1 subscription\r\n" {
		t.Errorf("a terminal shows %q", text)
	}
	if text := onTerminal(t, env, append(azure.Flags(), "check")...); !strings.Contains(text, "\r25 of 25 subscriptions\r\x1b[K") {
		t.Errorf("a terminal shows %q", text)
	}
}

// Colours appear on a terminal, unless NO_COLOR or JSON is asked for.
func TestColours(t *testing.T) {
	t.Parallel()
	const green, red = "\x1b[32m✓\x1b[0m", "\x1b[31m✗\x1b[0m"
	text := onTerminal(t, nil, "check", "--demo", "--log.level=error")
	if !strings.Contains(text, green) || !strings.Contains(text, red+" forbidden") {
		t.Errorf("no colours on a terminal:\n%q", text)
	}
	if text := onTerminal(t, []string{"NO_COLOR=1"}, "check", "--demo", "--log.level=error"); strings.Contains(text, "\x1b[3") || !strings.Contains(text, "✓") {
		t.Errorf("colours despite NO_COLOR:\n%q", text)
	}
	if text := onTerminal(t, nil, "check", "--demo", "--log.level=error", "--output=json"); strings.Contains(text, "\x1b[3") {
		t.Errorf("colours in JSON:\n%q", text)
	}
}
