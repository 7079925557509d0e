package azure

import (
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
)

// tasks runs functions concurrently. Wait panics if one of them panicked: the caller can recover
// that panic, whereas one in another goroutine ends the process.
type tasks struct {
	slots    chan struct{}
	running  sync.WaitGroup
	panicked atomic.Pointer[taskPanic]
}

// newTasks creates a group that runs up to limit tasks concurrently.
func newTasks(limit int) *tasks { return &tasks{slots: make(chan struct{}, limit)} }

// Go starts the task once a slot is free.
func (t *tasks) Go(task func()) {
	t.slots <- struct{}{}
	t.running.Go(func() {
		defer func() {
			if value := recover(); value != nil {
				t.panicked.CompareAndSwap(nil, newTaskPanic(value))
			}
			<-t.slots
		}()
		task()
	})
}

// Wait waits for all tasks. It panics with a [*taskPanic] if one panicked.
func (t *tasks) Wait() {
	t.running.Wait()
	if p := t.panicked.Load(); p != nil {
		panic(p)
	}
}

// taskPanic is a panic of another goroutine, with the stack of that goroutine.
type taskPanic struct {
	value any
	stack []byte
}

// newTaskPanic describes what recover returned. Of nested groups the innermost describes it.
func newTaskPanic(value any) *taskPanic {
	if p, ok := value.(*taskPanic); ok {
		return p
	}
	return &taskPanic{value, debug.Stack()}
}

func (p *taskPanic) Error() string { return fmt.Sprintf("%v\n\n%s", p.value, p.stack) }
