package main

import (
	"encoding/json"
	"net"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// All lines have one form, whether the exporter, exporter-toolkit or net/http logs.
func TestLogger_OneFormat(t *testing.T) {
	t.Parallel()
	line := regexp.MustCompile(`^ts=\S+ level=(debug|info|warn|error) msg=`)
	for _, format := range []string{"logfmt", "json"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			p := startTLS(t, nil, "--demo", "--log.level=debug", "--log.format="+format)
			hangUp(t, p)
			waitFor(t, "net/http to log", func() bool { return strings.Contains(p.log.String(), "TLS handshake error") })
			p.stop(t, syscall.SIGTERM)
			for text := range strings.Lines(p.log.String()) {
				if format == "logfmt" {
					if !line.MatchString(text) || strings.Contains(text, "caller=") {
						t.Errorf("not ts, level, msg: %s", text)
					}
					continue
				}
				var entry map[string]any
				if err := json.Unmarshal([]byte(text), &entry); err != nil || entry["ts"] == nil || entry["level"] == nil || entry["time"] != nil || entry["caller"] != nil {
					t.Errorf("want ts and level without time and caller: %v, %s", err, text)
				}
			}
		})
	}
}

// Probes of the port hang up during the TLS handshake, by FIN or RST. These are not warnings.
func TestLogger_PortProbes(t *testing.T) {
	t.Parallel()
	p := startTLS(t, nil, "--demo", "--log.level=debug")
	hangUp(t, p)
	waitFor(t, "all handshake errors", func() bool { return strings.Count(p.log.String(), "TLS handshake error") == 3 })
	for text := range strings.Lines(p.log.String()) {
		if strings.Contains(text, "TLS handshake error") && !strings.Contains(text, "level=debug") {
			t.Errorf("logged above debug: %s", text)
		}
	}
}

// hangUp connects three times and closes the connection: by FIN before and after the first byte of
// a handshake, and by RST.
func hangUp(t *testing.T, p *process) {
	t.Helper()
	for i, linger := range []int{-1, -1, 0} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "https://"))
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.(*net.TCPConn).SetLinger(linger); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte{0x16}[:min(i, 1)]); err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
}
