package azure

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/go-json-experiment/json/jsontext"
)

func copyRow(row jsontext.Value) string { return string(row) }

func TestGraphPage_Members(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"token and truncation before the rows": `{"$skipToken":"t","resultTruncated":"true","totalRecords":2,"data":[{"a":1},[2]]}`,
		"token and truncation after the rows":  `{"totalRecords":2,"count":2,"data":[{"a":1},[2]],"facets":[{}],"resultTruncated":"true","$skipToken":"t"}`,
		"other case":                           `{"TotalRecords":2,"Data":[{"a":1},[2]],"ResultTruncated":"true","$SkipToken":"t"}`,
		"byte order mark and blanks":           "\ufeff \r\n{\"totalRecords\":2,\"data\":[ {\"a\":1} ,\n[2] ],\"resultTruncated\":\"true\",\"$skipToken\":\"t\"} ",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			page, err := readGraphPage(iotest.OneByteReader(strings.NewReader(body)), copyRow)
			if err != nil {
				t.Fatal(err)
			}
			if page.TotalRecords != 2 || page.ResultTruncated != "true" || page.SkipToken != "t" || strings.Join(page.Data.rows, " ") != `{"a":1} [2]` {
				t.Errorf("got %+v", page)
			}
		})
	}
}

func TestGraphPage_Failures(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 2*maxGraphRow)
	for name, test := range map[string]struct {
		body  io.Reader
		cause string
		text  string // in the error
	}{
		"nothing":              {strings.NewReader(``), causeNotJSON, ""},
		"HTML":                 {strings.NewReader("\ufeff <html>"), causeForeign, ""},
		"end of text":          {strings.NewReader(`{"data":[{"a":1}`), causeNotJSON, ""},
		"broken row":           {strings.NewReader(`{"data":[{"a":1},{"a":}]}`), causeNotJSON, "at byte 22"},
		"text after the end":   {strings.NewReader(`{"data":[]}{}`), causeNotJSON, ""},
		"broken connection":    {io.MultiReader(strings.NewReader(`{"data":[{}`), iotest.ErrReader(io.ErrUnexpectedEOF)), "connection_lost", ""},
		"other failure":        {io.MultiReader(strings.NewReader(`{"data":[{}`), iotest.ErrReader(errors.New("x"))), string(ReasonNetwork), ""},
		"no list":              {strings.NewReader(`{"totalRecords":0}`), causeNotAList, ""},
		"null":                 {strings.NewReader(`{"data":null}`), causeNotAList, ""},
		"a list and null":      {strings.NewReader(`{"data":[],"data":null}`), causeNotAList, ""},
		"an object":            {strings.NewReader(`{"data":{"a":[]}}`), causeNotAList, ""},
		"an error after":       {strings.NewReader(`{"data":[],"error":{"code":"ServerBusy"}}`), causeNotAList, "ServerBusy"},
		"an error before":      {strings.NewReader(`{"error":{"code":"BadRequest","details":[{"code":"Inner"}]},"data":[]}`), causeNotAList, "Inner"},
		"a code":               {strings.NewReader(`{"code":"ServerBusy"}`), causeNotAList, "ServerBusy"},
		"a list":               {strings.NewReader(`[]`), string(ReasonInvalidResponse), ""},
		"a number for a token": {strings.NewReader(`{"data":[],"$skipToken":1}`), string(ReasonInvalidResponse), "unexpected number"},
		"a long row":           {strings.NewReader(`{"data":[{"a":"` + long + `"}]}`), causeTooLarge, ""},
		"a long row, later":    {strings.NewReader(`{"data":[{},{"a":"` + long + `"}]}`), causeTooLarge, ""},
		"a long member":        {strings.NewReader(`{"facets":"` + long + `","data":[]}`), causeTooLarge, ""},
		"too many rows":        {strings.NewReader(`{"data":[` + strings.Repeat("7,", maxGraphItems) + `7]}`), causeTooLarge, "items"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := readGraphPage(test.body, copyRow)
			if Cause(err) != test.cause || !strings.Contains(err.Error(), test.text) {
				t.Errorf("cause %q, %v", Cause(err), err)
			}
		})
	}
}

// The rows together can be longer than the limit of one.
func TestGraphPage_LimitIsOfARow(t *testing.T) {
	t.Parallel()
	row := `{"a":"` + strings.Repeat("x", maxGraphRow/2) + `"}`
	page, err := readGraphPage(strings.NewReader(`{"data":[`+strings.Repeat(row+",", 6)+row+`]}`), func(row jsontext.Value) int { return len(row) })
	if err != nil || len(page.Data.rows) != 7 || page.Data.rows[6] != len(row) {
		t.Errorf("got %v, %v", page, err)
	}
}

// FuzzGraphPage: whatever Resource Graph sends, each subscription gets an error or values that are
// fit for metrics.
func FuzzGraphPage(f *testing.F) {
	const item = `{"id":"/subscriptions/x/providers/Microsoft.Security/secureScores/ascScore","score":{"max":39,"current":23.53,"percentage":0.6033},"weight":67}`
	const control = `{"id":"/secureScores/a/secureScoreControls/c","displayName":"\u202e","healthy":1e300}`
	f.Add([]byte(`{"totalRecords":1,"count":1,"data":[{"subscriptionId":"X","items":[` + item + `,` + control + `]}],"resultTruncated":"false"}`))
	f.Add([]byte(`{"totalRecords":1,"data":[{"subscriptionId":"x",` + item[1:] + `],"$skipToken":"t"}`))
	f.Add([]byte(`{"data":[{"subscriptionId":"x","items":null},{"subscriptionId":"y","items":[{"score":{"max":"1"}}]},7,null]}`))
	f.Add([]byte(`{"data":null,"error":{"code":"BadRequest"}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		page, err := readGraphPage(bytes.NewReader(body), parseScoreRow)
		found := map[string]*scoreRow{}
		if err == nil {
			err = addScores(found, page.Data.rows)
		}
		if err != nil && ReasonOf(err) != ReasonInvalidResponse {
			t.Errorf("reason %q", ReasonOf(err))
		}
		for _, row := range found {
			if row.err != nil && ReasonOf(row.err) != ReasonInvalidResponse {
				t.Errorf("reason %q", ReasonOf(row.err))
			}
			if row.err == nil {
				checkScores(t, row.scores)
				checkControls(t, row.controls)
			}
		}
	})
}
