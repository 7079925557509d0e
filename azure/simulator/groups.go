package simulator

import (
	"net/http"
	"strings"
)

// A managementGroup is a group of the tenant as it was given: its members are subscriptions or other groups.
type managementGroup struct {
	id      string
	members []string
}

// A descendant is a subscription or a group somewhere below a group.
type descendant struct {
	id     string
	parent string // ID of a group
	group  bool
}

func newManagementGroups(members map[string][]string) map[string]managementGroup {
	groups := make(map[string]managementGroup, len(members))
	for id, m := range members {
		groups[strings.ToLower(id)] = managementGroup{id, m}
	}
	return groups
}

// descendants are all that is below the group, level by level; a group that is its own ancestor is told once. It is false for a group
// that does not exist.
func (a *Server) descendants(id string) ([]descendant, bool) {
	root, ok := a.groups[strings.ToLower(id)]
	if !ok {
		return nil, false
	}
	var found []descendant
	seen := map[string]bool{strings.ToLower(id): true}
	for level := []managementGroup{root}; len(level) > 0; level = level[1:] {
		for _, member := range level[0].members {
			if seen[strings.ToLower(member)] {
				continue
			}
			seen[strings.ToLower(member)] = true
			child, isGroup := a.groups[strings.ToLower(member)]
			if isGroup {
				level = append(level, child)
				member = child.id
			}
			found = append(found, descendant{member, level[0].id, isGroup})
		}
	}
	return found, true
}

// listDescendants tells of the subscriptions below a group too that the principal does not see in the list of subscriptions: a role on
// the group is enough. Microsoft's specification says /subscriptions for their type, its sample the longer name; odd ones have the
// shorter here.
func (a *Server) listDescendants(w http.ResponseWriter, r *http.Request) {
	const groups = "/providers/Microsoft.Management/managementGroups/"
	found, ok := a.descendants(r.PathValue("group"))
	if !ok {
		Forbidden()(w, r, nil)
		return
	}
	type item struct {
		ID         string `json:"id"`
		Type       string `json:"type"`
		Name       string `json:"name"`
		Properties struct {
			DisplayName string `json:"displayName"`
			Parent      struct {
				ID string `json:"id"`
			} `json:"parent"`
		} `json:"properties"`
	}
	items := make([]item, len(found))
	a.mu.Lock()
	for i, d := range found {
		it := item{ID: groups + d.id, Type: "Microsoft.Management/managementGroups", Name: d.id}
		it.Properties.DisplayName = d.id
		it.Properties.Parent.ID = groups + d.parent
		if !d.group {
			s := Subscription{ID: d.id, Name: d.id}
			if j := a.find(d.id); j >= 0 {
				s = a.subscriptions[j].Subscription
			}
			it.ID, it.Name, it.Properties.DisplayName = s.path(), strings.ToLower(s.ID), s.Name
			it.Type = "Microsoft.Management/managementGroups/subscriptions"
			if s.odd() {
				it.Type = "/subscriptions"
			}
		}
		items[i] = it
	}
	a.mu.Unlock()
	writePage(a, w, r, items)
}
