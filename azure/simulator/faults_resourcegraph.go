package simulator

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
)

// OnScoreQueries applies the fault only to queries about scores and controls.
func OnScoreQueries(f Fault) Fault {
	return onPlan(func(plan *graphPlan) bool { return slices.Contains(plan.types, typeScore) }, f)
}

// OnBatchesOver applies the fault only to queries of more than n subscriptions.
func OnBatchesOver(n int, f Fault) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if q, err := readGraphQuery(r); err != nil || len(q.Subscriptions) <= n {
			next.ServeHTTP(w, r)
			return
		}
		f(w, r, next)
	}
}

// RefuseBagPack answers queries packed by bag_pack with 400, as a Resource Graph that only knows
// pack.
func RefuseBagPack() Fault { return refusePacking("bag_pack") }

// RefusePacking answers packed queries with 400, whichever function they use.
func RefusePacking() Fault { return refusePacking("bag_pack", "pack") }

func refusePacking(functions ...string) Fault {
	refused := func(plan *graphPlan) bool { return slices.Contains(functions, plan.packing) }
	return onPlan(refused, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		packingRefused(w, functions[0])
	})
}

// onPlan applies the fault only to valid queries with such a plan.
func onPlan(applies func(*graphPlan) bool, f Fault) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		q, _ := readGraphQuery(r) // of an invalid body, the query is invalid, too
		if plan, err := parseGraphQuery(q.Query); err == nil && applies(plan) {
			f(w, r, next)
			return
		}
		next.ServeHTTP(w, r)
	}
}

// NoValidSubscriptions answers 400 with the detail NoValidSubscriptionsInQueryRequest, as reported
// for queries of subscriptions that cannot be read.
func NoValidSubscriptions() Fault {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		q, _ := readGraphQuery(r)
		noValidSubscriptions(w, strings.Join(q.Subscriptions, ","))
	}
}

// PayloadTooLarge refuses queries of more than n subscriptions because their answer would be too
// large.
func PayloadTooLarge(n int) Fault {
	return OnBatchesOver(n, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		payloadTooLarge(w, 24_813_879)
	})
}

// GatewayTimeout answers 504 to queries of more than n subscriptions.
func GatewayTimeout(n int) Fault { return OnBatchesOver(n, ServerError(http.StatusGatewayTimeout)) }

// ResultTruncated cuts answers of more than n rows to n rows and marks them as truncated, without a
// $skipToken for the rest.
func ResultTruncated(n int) Fault {
	return editGraphAnswer(func(answer *graphAnswer) {
		if len(answer.Data) > n {
			answer.Data = answer.Data[:n]
			answer.ResultTruncated, answer.SkipToken = "true", ""
		}
	})
}

// DropRows leaves out the rows of one subscription.
func DropRows(subscriptionID string) Fault {
	return editGraphAnswer(func(answer *graphAnswer) {
		kept := slices.DeleteFunc(answer.Data, func(row json.RawMessage) bool {
			var s struct{ SubscriptionID string }
			return json.Unmarshal(row, &s) == nil && strings.EqualFold(s.SubscriptionID, subscriptionID)
		})
		answer.TotalRecords -= len(answer.Data) - len(kept)
		answer.Data = kept
	})
}

// RepeatSkipToken answers every query with the first page and the same $skipToken, endlessly.
func RepeatSkipToken() Fault {
	const token = "ZW5kbGVzcw"
	edit := editGraphAnswer(func(answer *graphAnswer) { answer.SkipToken = token })
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			r.Body = io.NopCloser(bytes.NewReader(bytes.Replace(body, []byte(token), nil, 1)))
		}
		edit(w, r, next)
	}
}

// graphAnswer is the body of an answer with its rows undecoded.
type graphAnswer struct {
	TotalRecords    int               `json:"totalRecords"`
	Count           int               `json:"count"`
	Data            []json.RawMessage `json:"data"`
	Facets          []json.RawMessage `json:"facets"`
	ResultTruncated string            `json:"resultTruncated"`
	SkipToken       string            `json:"$skipToken,omitempty"`
}

// editGraphAnswer edits the healthy answer; an error is unchanged.
func editGraphAnswer(edit func(*graphAnswer)) Fault {
	return Rewrite(func(_ *http.Request, body []byte) []byte {
		var answer graphAnswer
		if err := json.Unmarshal(body, &answer); err != nil || answer.Data == nil {
			return body
		}
		edit(&answer)
		answer.Count = len(answer.Data)
		return marshal(answer)
	})
}
