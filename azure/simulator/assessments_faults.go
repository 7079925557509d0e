package simulator

import "net/http"

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
