package azure

// Actions are the actions of Azure RBAC that an identity needs for each of [Operations]. A token
// needs none. With a custom role that lacks one, the operation fails with [ReasonForbidden];
// Resource Graph instead leaves the rows out. See deploy/azure/role.json, which a test compares
// with these.
var Actions = map[string][]string{
	operationGetToken:                {},
	operationListSubscriptions:       {actionReadSubscriptions, actionReadDescendants},
	operationListSecureScores:        {actionReadScores},
	operationListSecureScoreControls: {actionReadControls},
	operationQueryResourceGraph: {
		actionQueryGraph,
		actionReadSubscriptions,
		actionReadScores,
		"Microsoft.Security/secureScores/secureScoreControls/read",
		actionReadAssessments,
	},
}

// The actions without which a request to Azure Resource Manager fails.
const (
	actionReadSubscriptions = "Microsoft.Resources/subscriptions/read"
	actionQueryGraph        = "Microsoft.ResourceGraph/resources/read"
	actionReadDescendants   = "Microsoft.Management/managementGroups/descendants/read" // only with [Config.ManagementGroups]
	actionReadScores        = "Microsoft.Security/secureScores/read"
	actionReadControls      = "Microsoft.Security/secureScoreControls/read"
	actionReadAssessments   = "Microsoft.Security/assessments/read" // without it, Resource Graph shows no recommendation
)
