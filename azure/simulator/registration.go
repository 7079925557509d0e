package simulator

import "net/http"

// getRegistration answers whether a subscription has registered Microsoft.Security. The real answer
// also lists the provider's resource types.
func (s *Server) getRegistration(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("subscription")
	s.mu.Lock()
	state := "Registered"
	i := s.find(id)
	if i >= 0 && s.subscriptions[i].Unregistered {
		state = "NotRegistered"
	}
	noAccess := i >= 0 && s.subscriptions[i].NoAccess
	s.mu.Unlock()
	switch {
	case i < 0:
		subscriptionNotFound(w, id)
	case noAccess:
		Forbidden()(w, r, nil)
	default:
		writeJSON(w, http.StatusOK, map[string]any{
			"id":        "/subscriptions/" + id + "/providers/Microsoft.Security",
			"namespace": "Microsoft.Security", "registrationPolicy": "RegistrationRequired",
			"registrationState": state, "resourceTypes": []string{},
		})
	}
}
