package exporter

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
)

// targetGroup is an element of Prometheus' HTTP service discovery.
type targetGroup struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

// serveSD serves Prometheus' HTTP service discovery: each subscription is a target, whose address
// is its ID, to be relabelled into /probe?target=ID.
func (h *handlers) serveSD(w http.ResponseWriter, r *http.Request) {
	err := h.collector.subscriptions.refresh(r.Context())
	listed := h.collector.subscriptions.list()
	if err != nil && len(listed) == 0 { // Prometheus keeps its targets when it gets an error
		http.Error(w, "the list of subscriptions is not available: "+string(azure.ReasonOf(err)), http.StatusServiceUnavailable)
		return
	}
	groups := make([]targetGroup, len(listed))
	for i, s := range listed {
		groups[i] = targetGroup{[]string{s.ID}, h.targetLabels(s)}
	}
	w.Header().Set("Content-Type", "application/json")
	setWriteDeadline(w)
	_ = json.NewEncoder(w).Encode(groups) // fails only when the client is gone
}

// targetLabels are the labels of a target before relabelling.
func (h *handlers) targetLabels(s azure.Subscription) map[string]string {
	labels := map[string]string{
		"__meta_azure_secure_score_subscription_id":      s.ID,
		"__meta_azure_secure_score_subscription_name":    s.Name,
		"__meta_azure_secure_score_subscription_state":   s.State,
		"__meta_azure_secure_score_tenant_id":            s.TenantID,
		"__meta_azure_secure_score_owner":                s.Owner,
		"__meta_azure_secure_score_management_group_ids": joinGroups(s.ManagementGroups),
	}
	for _, tag := range h.tags {
		if value := tag.of(s); value != "" {
			labels["__meta_azure_secure_score_"+tag.name] = value
		}
	}
	return labels
}

// joinGroups puts a comma before and after each ID, so that a regular expression needs no case for
// the first and the last one.
func joinGroups(groups []azure.ManagementGroup) string {
	if len(groups) == 0 {
		return ""
	}
	var ids strings.Builder
	for _, group := range groups {
		ids.WriteString("," + group.ID)
	}
	return ids.String() + ","
}
