package exporter

import (
	"io"
	"math"
	"strconv"
	"strings"
	"unique"
)

// sampleWriter writes gauges in the text format or OpenMetrics, line by line. expfmt takes ten
// times as long, and an object per series.
type sampleWriter struct {
	out         io.Writer
	openMetrics bool
	cutoffs     cutoffs

	buffer []byte
	err    error // of the first write that failed

	family *family
	// headerWritten reports whether the family's HELP and TYPE are written: a family without series
	// has none.
	headerWritten bool
	// labels of controls as text. They are the same in every family and most subscriptions.
	labels map[unique.Handle[controlKey]]string
}

// label is a label of a series.
type label struct{ name, value string }

// flushSize is how much text is written at once.
const flushSize = 32 << 10

// write writes all families in the format of the encoding, not compressed, and without the end that
// OpenMetrics has.
func (s *snapshot) write(out io.Writer, e encoding) error {
	w := &sampleWriter{
		out: out, openMetrics: e.openMetrics, cutoffs: s.cutoffs,
		buffer: make([]byte, 0, flushSize+4<<10),
		labels: map[unique.Handle[controlKey]]string{},
	}
	for i := range s.families {
		w.family = &s.families[i]
		w.headerWritten = false
		if w.family.ofSnapshot != nil {
			w.family.ofSnapshot(w, s)
		}
		if w.family.ofSubscription != nil {
			for _, sub := range s.subscriptions {
				w.family.ofSubscription(w, sub)
			}
		}
	}
	return w.flush()
}

// beginLine begins a line: before the first one of a family comes its header, whose HELP needs no
// escapes.
func (w *sampleWriter) beginLine() {
	if !w.headerWritten {
		w.buffer = append(w.buffer, "# HELP "+w.family.name+" "+w.family.help+"\n# TYPE "+w.family.name+" gauge\n"...)
		w.headerWritten = true
	}
	w.buffer = append(w.buffer, w.family.name...)
}

// sample writes a series.
func (w *sampleWriter) sample(value float64, labels ...label) {
	w.beginLine()
	for i, l := range labels {
		if i == 0 {
			w.buffer = append(w.buffer, '{')
		} else {
			w.buffer = append(w.buffer, ',')
		}
		w.buffer = appendLabel(w.buffer, l.name, l.value)
	}
	if len(labels) > 0 {
		w.buffer = append(w.buffer, '}')
	}
	w.endLine(value)
}

// scoreSample writes a series of a score.
func (w *sampleWriter) scoreSample(value float64, subscriptionID string, s *score) {
	key := s.key.Value()
	labels := make([]label, 0, 4)
	if key.connector != "" {
		labels = append(labels, label{"connector", key.connector})
	}
	w.sample(value, append(labels, label{"environment", key.environment}, label{"initiative", key.initiative}, label{"subscription_id", subscriptionID})...)
}

// controlSample writes a series of a control, with a label for the state unless it is empty.
func (w *sampleWriter) controlSample(value float64, subscriptionID string, c *control, state string) {
	labels, ok := w.labels[c.key]
	if !ok {
		labels = controlLabels(c.key.Value())
		w.labels[c.key] = labels
	}
	w.beginLine()
	w.buffer = append(w.buffer, labels...)
	if state != "" {
		w.buffer = append(w.buffer, `,state="`...)
		w.buffer = append(w.buffer, state...)
		w.buffer = append(w.buffer, '"')
	}
	w.buffer = append(w.buffer, `,subscription_id="`...)
	w.buffer = append(w.buffer, subscriptionID...)
	w.buffer = append(w.buffer, `"}`...)
	w.endLine(value)
}

// controlLabels is the beginning of the labels of a control's series, as text.
func controlLabels(key controlKey) string {
	text := []byte{'{'}
	if key.connector != "" {
		text = append(appendLabel(text, "connector", key.connector), ',')
	}
	text = append(appendLabel(text, "control", key.name), ',')
	text = append(appendLabel(text, "control_id", key.id), ',')
	text = append(appendLabel(text, "environment", key.environment), ',')
	return string(appendLabel(text, "initiative", key.initiative))
}

// endLine appends the value and ends the line. Full buffers are written.
func (w *sampleWriter) endLine(value float64) {
	w.buffer = append(w.buffer, ' ')
	if n := int64(value); float64(n) == value && math.Abs(value) < 1e6 {
		w.buffer = strconv.AppendInt(w.buffer, n, 10)
		if w.openMetrics {
			w.buffer = append(w.buffer, ".0"...)
		}
	} else {
		w.buffer = strconv.AppendFloat(w.buffer, value, 'g', -1, 64)
	}
	w.buffer = append(w.buffer, '\n')
	if len(w.buffer) >= flushSize {
		_ = w.flush() // kept in err
	}
}

// flush writes what is buffered. After an error it writes nothing.
func (w *sampleWriter) flush() error {
	if w.err == nil {
		_, w.err = w.out.Write(w.buffer)
	}
	w.buffer = w.buffer[:0]
	return w.err
}

var labelEscaper = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

func appendLabel(text []byte, name, value string) []byte {
	text = append(text, name...)
	text = append(text, `="`...)
	if strings.ContainsAny(value, "\\\n\"") {
		value = labelEscaper.Replace(value)
	}
	text = append(text, value...)
	return append(text, '"')
}
