package main

import (
	"fmt"
	"os"
	"sync"
)

// progress counts many subscriptions on a terminal.
type progress struct {
	w     *os.File
	total int

	mu   sync.Mutex
	done int
}

func (p *progress) visible() bool { return p.total >= 20 && isTerminal(p.w) }

// start sets the total.
func (p *progress) start(total int) { p.total = total }

// advance counts one subscription. It is safe for concurrent use.
func (p *progress) advance() {
	if !p.visible() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done++
	fmt.Fprintf(p.w, "\r%d of %d subscriptions", p.done, p.total)
}

// erase removes the line.
func (p *progress) erase() {
	if p.visible() {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
