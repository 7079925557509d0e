package exporter

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"sync"
	"time"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
)

// encoding is a format and compression in which a snapshot is cached. Different headers of clients
// can mean the same one.
type encoding struct {
	openMetrics bool
	compression string // gzip, zstd or empty
}

// rendering is a snapshot as compressed text. Its stream is left open: the exporter's own metrics
// follow, and many clients read only the first of several streams.
type rendering struct {
	encoding
	once sync.Once
	text chunks
	gzip gzipSum
	err  error
}

// renderings are the encodings of a snapshot that clients have requested.
type renderings struct {
	mu         sync.Mutex
	byEncoding map[encoding]*rendering
}

// rendering returns the snapshot in an encoding. It is rendered once, on first request.
func (s *snapshot) rendering(e encoding) *rendering {
	s.renderings.mu.Lock()
	r := s.renderings.byEncoding[e]
	if r == nil {
		r = &rendering{encoding: e}
		if s.renderings.byEncoding == nil {
			s.renderings.byEncoding = map[encoding]*rendering{}
		}
		s.renderings.byEncoding[e] = r
	}
	s.renderings.mu.Unlock()
	r.once.Do(func() {
		started := time.Now()
		r.err = r.render(s)
		s.rendered.Store(int64(time.Since(started)))
	})
	return r
}

func (r *rendering) render(s *snapshot) (err error) {
	var compressor interface {
		io.Writer
		Flush() error
	}
	if r.compression == "zstd" {
		compressor, err = zstd.NewWriter(&r.text, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
			zstd.WithEncoderCRC(false), zstd.WithWindowSize(1<<20))
	} else {
		compressor, err = flate.NewWriter(&r.text, flate.BestSpeed)
	}
	if err != nil {
		return err
	}
	if err := s.write(io.MultiWriter(compressor, &r.gzip), r.encoding); err != nil {
		return err
	}
	return compressor.Flush()
}

// serve writes the stream and ends it with what writeRest writes.
func (r *rendering) serve(w io.Writer, writeRest func(io.Writer) error) error {
	if r.err != nil {
		return r.err
	}
	if r.compression == "zstd" {
		return r.serveZstd(w, writeRest)
	}
	return r.serveGzip(w, writeRest)
}

// gzipHeader is that of a stream without name and time, as package gzip writes it.
var gzipHeader = []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff}

func (r *rendering) serveGzip(w io.Writer, writeRest func(io.Writer) error) error {
	if _, err := w.Write(gzipHeader); err != nil {
		return err
	}
	if err := r.text.writeTo(w); err != nil {
		return err
	}
	compressor, err := flate.NewWriter(w, flate.BestSpeed)
	if err != nil {
		return err
	}
	sum := r.gzip
	if err := writeRest(io.MultiWriter(compressor, &sum)); err != nil {
		return err
	}
	if err := compressor.Close(); err != nil {
		return err
	}
	_, err = w.Write(sum.trailer())
	return err
}

// gzipSum holds the checksum and size in the trailer of a gzip stream.
type gzipSum struct{ crc, size uint32 }

// Write implements [io.Writer].
func (g *gzipSum) Write(text []byte) (int, error) {
	g.crc = crc32.Update(g.crc, crc32.IEEETable, text)
	g.size += uint32(len(text)) //nolint:gosec // a gzip stream counts modulo 2³²
	return len(text), nil
}

func (g *gzipSum) trailer() []byte {
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, g.crc), g.size)
}

// maxZstdBlock is the largest block that fits every window.
const maxZstdBlock = 64 << 10

// serveZstd ends the frame with raw blocks. Decoders that read a single frame would lose a second
// one.
func (r *rendering) serveZstd(w io.Writer, writeRest func(io.Writer) error) error {
	if err := r.text.writeTo(w); err != nil {
		return err
	}
	var rest bytes.Buffer
	if err := writeRest(&rest); err != nil {
		return err
	}
	for {
		block := rest.Next(maxZstdBlock)
		header := uint32(len(block)) << 3 //nolint:gosec // up to 64 KiB; bits 1 and 2 say that it is raw
		if rest.Len() == 0 {
			header |= 1 // the last block
		}
		if _, err := w.Write(binary.LittleEndian.AppendUint32(nil, header)[:3]); err != nil {
			return err
		}
		if _, err := w.Write(block); err != nil || rest.Len() == 0 {
			return err
		}
	}
}

// chunks hold compressed text. Unlike a growing buffer, they copy nothing and waste little.
type chunks [][]byte

const chunkSize = 256 << 10

// Write implements [io.Writer].
func (c *chunks) Write(text []byte) (int, error) {
	n := len(text)
	for len(text) > 0 {
		last := len(*c) - 1
		if last < 0 || len((*c)[last]) == cap((*c)[last]) {
			*c = append(*c, make([]byte, 0, chunkSize))
			last++
		}
		chunk := (*c)[last]
		fits := min(len(text), cap(chunk)-len(chunk))
		(*c)[last] = append(chunk, text[:fits]...)
		text = text[fits:]
	}
	return n, nil
}

func (c chunks) writeTo(w io.Writer) error {
	for _, chunk := range c {
		if _, err := w.Write(chunk); err != nil {
			return err
		}
	}
	return nil
}
