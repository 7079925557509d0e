package exporter

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

// form is a way to write metrics: a format and what it is compressed with.
type form struct {
	format   expfmt.Format
	encoding string // identity, gzip or zstd
}

// part is the beginning of an answer in some form: what is in the snapshot. What is
// not, and is gathered for each answer, comes behind it.
type part struct {
	once  sync.Once
	bytes []byte
	// For gzip, whose checksum is over the whole answer.
	crc  uint32
	size uint32
	err  error
}

// parts holds the parts of a snapshot that were asked for.
type parts struct {
	mu    sync.Mutex
	byKey map[partKey]*part
}

// partKey is what a part depends on: a client may name a format in many ways, which
// are the same to a snapshot.
type partKey struct {
	openMetrics bool
	encoding    string
}

// part returns the snapshot in a form. It is made when it is first asked for, and
// goes with the snapshot.
func (s *snapshot) part(f form) (*part, error) {
	openMetrics := f.format.FormatType() == expfmt.TypeOpenMetrics
	key := partKey{openMetrics, f.encoding}
	s.parts.mu.Lock()
	if s.parts.byKey == nil {
		s.parts.byKey = map[partKey]*part{}
	}
	p := s.parts.byKey[key]
	if p == nil {
		p = &part{}
		s.parts.byKey[key] = p
	}
	s.parts.mu.Unlock()

	p.once.Do(func() {
		var b bytes.Buffer
		switch f.encoding {
		case "gzip":
			p.err = p.deflate(&b, func(w io.Writer) error { return s.write(w, openMetrics) })
		case "zstd":
			p.err = compressZstd(&b, func(w io.Writer) error { return s.write(w, openMetrics) })
		default:
			b.Grow(s.textSize())
			p.err = s.write(&b, openMetrics)
		}
		p.bytes = b.Bytes()
	})
	return p, p.err
}

// textSize is about how many bytes the snapshot has as text, rather more.
func (s *snapshot) textSize() int {
	size := 0
	for _, f := range s.families {
		size += len(f.name) + len(f.help) + 100
		for _, series := range f.series {
			size += len(f.name) + 25
			for _, l := range series.labels {
				size += len(*l.Name) + len(*l.Value) + 4
			}
		}
	}
	return size
}

// write writes the snapshot in the text format or in OpenMetrics, without its end,
// as expfmt does, which takes ten times as long and much memory on the way.
func (s *snapshot) write(w io.Writer, openMetrics bool) error {
	helpEscapes := textHelp
	if openMetrics {
		helpEscapes = labelValue
	}
	line := make([]byte, 0, 4096)
	for _, f := range s.families {
		line = append(line[:0], "# HELP "...)
		line = append(line, f.name...)
		line = append(line, ' ')
		line = append(line, helpEscapes.Replace(f.help)...)
		line = append(line, "\n# TYPE "...)
		line = append(line, f.name...)
		line = append(line, " gauge\n"...)
		for i := range f.series {
			line = f.series[i].append(line, openMetrics)
			if len(line) > cap(line)-1024 {
				if _, err := w.Write(line); err != nil {
					return err
				}
				line = line[:0]
			}
		}
		if _, err := w.Write(line); err != nil {
			return err
		}
	}
	return nil
}

var (
	labelValue = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
	textHelp   = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
)

// append appends the line of the series.
func (s *series) append(line []byte, openMetrics bool) []byte {
	line = append(line, s.metric.name...)
	separator := byte('{')
	for _, l := range s.labels {
		line = append(line, separator)
		line = append(line, *l.Name...)
		line = append(line, `="`...)
		if value := *l.Value; strings.ContainsAny(value, "\\\n\"") {
			line = append(line, labelValue.Replace(value)...)
		} else {
			line = append(line, value...)
		}
		line = append(line, '"')
		separator = ','
	}
	if separator == ',' {
		line = append(line, '}')
	}
	line = append(line, ' ')
	number := len(line)
	line = strconv.AppendFloat(line, s.value, 'g', -1, 64)
	if openMetrics && !bytes.ContainsAny(line[number:], ".e") {
		line = append(line, ".0"...)
	}
	return append(line, '\n')
}

// encode writes the metrics at the end of an answer.
func encode(w io.Writer, format expfmt.Format, metrics []*dto.MetricFamily) error {
	encoder := expfmt.NewEncoder(w, format)
	for _, m := range metrics {
		if err := encoder.Encode(m); err != nil {
			return err
		}
	}
	if closer, ok := encoder.(expfmt.Closer); ok { // OpenMetrics has an end
		return closer.Close()
	}
	return nil
}

// gzipHeader is that of a stream without name and time, as package gzip writes it.
var gzipHeader = []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff}

// deflate compresses the first part of a gzip stream and leaves the stream open:
// many clients read no more than the first of several gzip streams in a row.
func (p *part) deflate(b *bytes.Buffer, write func(io.Writer) error) error {
	b.Write(gzipHeader)
	compressor, err := flate.NewWriter(b, flate.DefaultCompression)
	if err != nil {
		return err
	}
	if err := write(io.MultiWriter(compressor, p)); err != nil {
		return err
	}
	return compressor.Flush()
}

// Write counts and sums what goes into a gzip stream.
func (p *part) Write(b []byte) (int, error) {
	p.crc = crc32.Update(p.crc, crc32.IEEETable, b)
	p.size += uint32(len(b)) //nolint:gosec // a gzip stream counts modulo 2³²
	return len(b), nil
}

// answer writes the part and behind it the other metrics, in the same form.
func (p *part) answer(w io.Writer, f form, others []*dto.MetricFamily) error {
	if _, err := w.Write(p.bytes); err != nil {
		return err
	}
	switch f.encoding {
	case "gzip":
		compressor, err := flate.NewWriter(w, flate.BestSpeed)
		if err != nil {
			return err
		}
		whole := &part{crc: p.crc, size: p.size}
		if err := encode(io.MultiWriter(compressor, whole), f.format, others); err != nil {
			return err
		}
		if err := compressor.Close(); err != nil {
			return err
		}
		var trailer [8]byte
		binary.LittleEndian.PutUint32(trailer[:4], whole.crc)
		binary.LittleEndian.PutUint32(trailer[4:], whole.size)
		_, err = w.Write(trailer[:])
		return err
	case "zstd":
		// A frame behind a frame is one stream.
		return compressZstd(w, func(w io.Writer) error { return encode(w, f.format, others) })
	default:
		return encode(w, f.format, others)
	}
}

func compressZstd(w io.Writer, write func(io.Writer) error) error {
	compressor, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return fmt.Errorf("zstd: %w", err)
	}
	if err := write(compressor); err != nil {
		_ = compressor.Close()
		return err
	}
	return compressor.Close()
}
