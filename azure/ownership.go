package azure

// ManagementGroup is a management group above a subscription.
type ManagementGroup struct {
	ID   string
	Name string // its display name, or the ID if there is none
}

// maxAncestors bounds the management groups above a subscription. Azure allows six levels below the
// root.
const maxAncestors = 10
