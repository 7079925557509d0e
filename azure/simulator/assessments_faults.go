package simulator

import (
	"net/http"
	"strings"
)

// OnAssessments applies the fault only to queries about recommendations: counts, names and
// controls.
func OnAssessments(f Fault) Fault {
	return onPlan(func(plan *graphPlan) bool { return plan.assessments != nil }, f)
}

// OnAssessmentQuery applies the fault only to queries about recommendations of one kind: packed,
// plain, names or controls.
func OnAssessmentQuery(kind string, f Fault) Fault {
	return onPlan(func(plan *graphPlan) bool { return plan.assessments != nil && plan.assessments.kind == kind }, f)
}

// OnQueriesOf applies the fault only to queries whose text contains a part.
func OnQueriesOf(text string, f Fault) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if q, err := readGraphQuery(r); err == nil && strings.Contains(q.Query, text) {
			f(w, r, next)
			return
		}
		next.ServeHTTP(w, r)
	}
}

// RefusePackedAssessments answers packed counts with 400, as a Resource Graph that does not know
// the nested form.
func RefusePackedAssessments() Fault {
	return OnAssessmentQuery("packed", func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		packingRefused(w, "make_list")
	})
}

// TooComplex answers queries of more than n subscriptions with UnexpectedQueryExecutionError. See
// also ResourceGraph.MaxAssessments.
func TooComplex(n int) Fault {
	return OnBatchesOver(n, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { tooComplex(w) })
}

// tooComplex is the published answer to a query that reads too many rows. Its status is assumed.
func tooComplex(w http.ResponseWriter) {
	badRequest(w, "UnexpectedQueryExecutionError",
		"An unexpected error occurred while executing the query. Please try again later.")
}
