package azure

// portals are the hosts of Azure's portals by the host of ARM. That of a custom cloud is unknown.
var portals = map[string]string{
	"management.azure.com":         "portal.azure.com",
	"management.usgovcloudapi.net": "portal.azure.us",
	"management.chinacloudapi.cn":  "portal.azure.cn",
}

// portalURL returns the address of a view of Defender for Cloud, or "".
func (c *Client) portalURL(view string) string {
	host, ok := portals[c.endpoint.Hostname()]
	if !ok {
		return ""
	}
	return "https://" + host + "/#view/Microsoft_Azure_Security/" + view
}

func (c *Client) recommendationURL(key string) string {
	return c.portalURL("GenericRecommendationDetailsBlade/assessmentKey/" + key)
}

// RecommendationsURL returns the portal's list of all recommendations of a subscription, or "" in a
// custom cloud.
func (c *Client) RecommendationsURL(subscriptionID string) string {
	return c.portalURL("RecommendationsBladeV2/subscriptionIds~/%5B%22" + subscriptionID + "%22%5D/source/SecurityPosture_ViewRecommendation")
}
