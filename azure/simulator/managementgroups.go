package simulator

import (
	"cmp"
	"maps"
	"net/http"
	"slices"
	"strings"
)

const managementGroupPath = "/providers/Microsoft.Management/managementGroups/"

// managementGroup is a group of the tenant. Its members are IDs of subscriptions or other groups.
type managementGroup struct {
	id, name string
	members  []string
}

func newManagementGroups(membersOf map[string][]string, names map[string]string) map[string]managementGroup {
	groups := make(map[string]managementGroup, len(membersOf))
	for id, members := range membersOf {
		name := cmp.Or(names[id], id)
		groups[strings.ToLower(id)] = managementGroup{id, name, members}
	}
	return groups
}

// newParents maps the lower-case ID of a subscription or group to that of its parent. In Azure both
// have one parent; of several, the first in alphabetical order is used.
func newParents(groups map[string]managementGroup) map[string]string {
	parents := map[string]string{}
	for _, id := range slices.Sorted(maps.Keys(groups)) {
		for _, member := range groups[id].members {
			if member = strings.ToLower(member); parents[member] == "" {
				parents[member] = id
			}
		}
	}
	return parents
}

// SetManagementGroups replaces the groups and their names, as in [Tenant].
func (s *Server) SetManagementGroups(members map[string][]string, names map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.setGroups(members, names)
	for i, sub := range s.subscriptions {
		s.subscriptions[i] = &graphSubscription{Subscription: sub.Subscription, id: sub.id, ancestors: s.ancestors(sub.id)}
	}
}

func (s *Server) setGroups(members map[string][]string, names map[string]string) {
	s.groups = newManagementGroups(members, names)
	s.parents = newParents(s.groups)
}

// ancestors returns the groups above a subscription, the parent first. The caller holds the lock.
func (s *Server) ancestors(id string) []managementGroup {
	var chain []managementGroup
	for id = s.parents[id]; id != "" && len(chain) < len(s.groups); id = s.parents[id] {
		chain = append(chain, s.groups[id])
	}
	return chain
}

// descendant is a subscription or a group somewhere below a group.
type descendant struct {
	id     string
	parent string // ID of a group
	group  bool
	name   string
}

// listDescendants also lists subscriptions that the principal does not see in the list of
// subscriptions: a role on the group is enough. Microsoft's specification gives their type as
// /subscriptions, its sample as the longer name; those with lower-case IDs have the shorter one
// here.
func (s *Server) listDescendants(w http.ResponseWriter, r *http.Request) {
	found, ok := s.descendants(r.PathValue("group"))
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
	s.mu.Lock()
	for i, d := range found {
		it := item{
			ID: managementGroupPath + d.id, Type: "Microsoft.Management/managementGroups", Name: d.id,
		}
		it.Properties.DisplayName = d.name
		it.Properties.Parent.ID = managementGroupPath + d.parent
		if !d.group {
			sub := Subscription{ID: d.id, Name: d.id}
			if j := s.find(d.id); j >= 0 {
				sub = s.subscriptions[j].Subscription
			}
			it.ID, it.Name, it.Properties.DisplayName = sub.path(), strings.ToLower(sub.ID), sub.Name
			it.Type = "Microsoft.Management/managementGroups/subscriptions"
			if sub.lowercaseIDs() {
				it.Type = "/subscriptions"
			}
		}
		items[i] = it
	}
	s.mu.Unlock()
	writePage(w, r, items, s.pageSize)
}

// descendants returns everything below the group, level by level, each once even if groups form a
// cycle. It reports false for a group that does not exist.
func (s *Server) descendants(id string) ([]descendant, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	root, ok := s.groups[strings.ToLower(id)]
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
			child, isGroup := s.groups[strings.ToLower(member)]
			if isGroup {
				level = append(level, child)
				member = child.id
			}
			found = append(found, descendant{member, level[0].id, isGroup, child.name})
		}
	}
	return found, true
}
