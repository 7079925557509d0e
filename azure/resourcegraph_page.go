package azure

import (
	"bufio"
	"errors"
	"io"
	"net/http"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// graphPage is one response of Resource Graph.
type graphPage[Row any] struct {
	TotalRecords    int            `json:"totalRecords"`
	Data            graphRows[Row] `json:"data"`
	ResultTruncated string         `json:"resultTruncated"`
	SkipToken       string         `json:"$skipToken"`
	Code            string         `json:"code"` // as is Error, of an error instead of a list
	Error           *errorBody     `json:"error"`
}

// readGraphPage reads a response while it arrives: only one row is in memory as JSON.
func readGraphPage[Row any](body io.Reader, parse func(jsontext.Value) Row) (*graphPage[Row], error) {
	limited := &rowReader{body: body, left: maxGraphRow}
	buffered := bufio.NewReader(limited)
	beginning, _ := buffered.Peek(64) // an error comes again
	_, _ = buffered.Discard(len(beginning) - len(trimMark(beginning)))
	page := &graphPage[Row]{Data: graphRows[Row]{parse: parse, reader: limited}}
	err := json.UnmarshalRead(buffered, page, lenient)
	known, isKnown := errors.AsType[*Error](err)
	switch {
	case limited.err != nil:
		return nil, classify(limited.err)
	case isKnown:
		return nil, known
	case err != nil:
		return nil, invalidJSON(err, beginning)
	case !page.Data.isList || page.Error != nil:
		return nil, notAList(errorBody{Code: page.Code, Error: page.Error}.codes())
	}
	return page, nil
}

// graphRows are the rows of a page. parse gets each row, which it must not keep.
type graphRows[Row any] struct {
	parse  func(jsontext.Value) Row
	reader *rowReader

	isList bool
	rows   []Row
	items  int // the rows and what is packed into them
}

// UnmarshalJSONFrom implements [json.UnmarshalerFrom].
func (r *graphRows[Row]) UnmarshalJSONFrom(decoder *jsontext.Decoder) error {
	r.isList = decoder.PeekKind() == '['
	if !r.isList {
		return decoder.SkipValue()
	}
	_, _ = decoder.ReadToken() // the bracket
	for decoder.PeekKind() != ']' {
		row, err := decoder.ReadValue()
		if err != nil {
			return err
		}
		if r.items += 1 + countElements(row); r.items > maxGraphItems {
			return invalidBecause(causeTooLarge, "more than %d items", maxGraphItems)
		}
		r.rows = append(r.rows, r.parse(row))
		r.reader.left = maxGraphRow
	}
	_, err := decoder.ReadToken()
	return err
}

// rowReader bounds the JSON between the ends of two rows, which is what the decoder may hold.
type rowReader struct {
	body io.Reader
	left int   // bytes until the next row must end
	err  error // why the body cannot be read
}

// Read implements [io.Reader].
func (r *rowReader) Read(p []byte) (n int, err error) {
	if r.left <= 0 {
		err = &http.MaxBytesError{Limit: maxGraphRow}
	} else {
		n, err = r.body.Read(p[:min(len(p), r.left)])
		r.left -= n
	}
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}
