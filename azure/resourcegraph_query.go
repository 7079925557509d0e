package azure

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
)

// graphQuery is a query in three forms, and the choice between them. A refused form is skipped at
// once, so that concurrent batches do not spend the quota on it, but logged only once another form
// is accepted.
type graphQuery struct {
	subject string // in the log
	packed  string // with bag_pack
	plain   string

	mu      sync.Mutex
	form    queryForm // in use
	since   time.Time // when it was chosen, or a better one last tried
	refusal error     // of the form before it
	logged  queryForm
}

// queryForm is a form of a query, from the best to the most widely supported. A form that Azure
// refuses with 400 is replaced by the next one that it accepts. The plain form costs many requests,
// so after an hour the best one is tried again.
type queryForm int

const (
	formBagPack queryForm = iota // one page
	formPack                     // the older name of the same function
	formPlain                    // pages of up to 1,000 rows
)

// String implements [fmt.Stringer].
func (f queryForm) String() string {
	return [...]string{"packed with bag_pack, one request", "packed with pack, one request", "plain rows, many requests"}[f]
}

// retryFormAfter is how long the plain form is used before a better one is tried again.
const retryFormAfter = time.Hour

// run calls attempt with the best form of the query that Azure accepts.
func (q *graphQuery) run(now func() time.Time, logger log.Logger, attempt func(form queryForm, text string) error) error {
	first := q.best(now())
	for form := first; ; form++ {
		err := attempt(form, form.text(q.packed, q.plain))
		switch {
		case err == nil:
			q.accepted(form, logger)
			return nil
		case !formRefused(err):
			return err
		case form == formPlain:
			q.allRefused(first)
			return err
		}
		q.refused(form, err, now())
	}
}

// text returns the query in this form.
func (f queryForm) text(packed, plain string) string {
	switch f {
	case formBagPack:
		return packed
	case formPack:
		return strings.Replace(packed, "bag_pack(", "pack(", 1)
	}
	return plain
}

// formRefused reports whether another form of the query may succeed.
func formRefused(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.status == http.StatusBadRequest && e.Reason == ReasonInvalidResponse && !resultTooLarge(err) && !unreadable(err)
}

// best returns the form to use. Once an hour one query tries the best one instead of the plain one.
func (q *graphQuery) best(now time.Time) queryForm {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.form == formPlain && now.Sub(q.since) >= retryFormAfter {
		q.since = now
		return formBagPack
	}
	return q.form
}

func (q *graphQuery) refused(form queryForm, err error, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if form >= q.form {
		q.form, q.since, q.refusal = form+1, now, err
	}
}

// allRefused forgets the refusals: the form is not the reason for them.
func (q *graphQuery) allRefused(first queryForm) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.form = first
}

func (q *graphQuery) accepted(form queryForm, logger log.Logger) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.form = min(q.form, form)
	switch {
	case form != q.form || form == q.logged: // a slower query, or nothing new
		return
	case form < q.logged:
		level.Info(logger).Log("msg", "Resource Graph accepts a better form of the query again", "query", q.subject, "form", form)
	default:
		level.Warn(logger).Log("msg", "Resource Graph rejects the preferred form of the query; falling back to another one", "query", q.subject, "form", form, "err", q.refusal)
	}
	q.logged = form
}
