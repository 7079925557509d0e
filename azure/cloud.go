package azure

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
)

// CloudCustom is the name of a cloud that is described by its addresses.
const CloudCustom = "custom"

// CloudNames are the names that [ParseCloud] accepts.
var CloudNames = []string{"public", "usgovernment", "china", CloudCustom}

// ParseCloud returns the cloud with one of [CloudNames]. The addresses describe the custom cloud
// and are accepted for it alone: the authority host that issues tokens, the ARM endpoint, and the
// audience of tokens for ARM, which defaults to the ARM endpoint.
func ParseCloud(name, authorityHost, armEndpoint, armAudience string) (cloud.Configuration, error) {
	if name != CloudCustom && authorityHost+armEndpoint+armAudience != "" {
		return cloud.Configuration{}, fmt.Errorf("authority host, ARM endpoint and audience are for the %s cloud, not for %q", CloudCustom, name)
	}
	switch name {
	case "public":
		return cloud.AzurePublic, nil
	case "usgovernment":
		return cloud.AzureGovernment, nil
	case "china":
		return cloud.AzureChina, nil
	case CloudCustom:
	default:
		return cloud.Configuration{}, fmt.Errorf("unknown cloud %q, expected one of %s", name, strings.Join(CloudNames, ", "))
	}
	authority, err := parseEndpoint(authorityHost)
	if err != nil {
		return cloud.Configuration{}, fmt.Errorf("authority host: %w", err)
	}
	endpoint, err := parseEndpoint(armEndpoint)
	if err != nil {
		return cloud.Configuration{}, fmt.Errorf("ARM endpoint: %w", err)
	}
	if armAudience == "" {
		armAudience = endpoint.String()
	}
	return cloud.Configuration{
		ActiveDirectoryAuthorityHost: authority.String() + "/",
		Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
			cloud.ResourceManager: {Endpoint: endpoint.String(), Audience: strings.TrimRight(armAudience, "/")},
		},
	}, nil
}

// parseEndpoint parses an https address without a query and drops trailing slashes.
func parseEndpoint(address string) (*url.URL, error) {
	if address == "" {
		return nil, errors.New("address is missing")
	}
	u, err := url.Parse(strings.TrimRight(address, "/"))
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%q is not a URL like https://host", address)
	}
	if n, err := strconv.ParseUint(port(u), 10, 16); err != nil || n == 0 {
		return nil, fmt.Errorf("%q has an invalid port", address)
	}
	return u, nil
}
