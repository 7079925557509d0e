package azure

import (
	"strings"
	"testing"
)

func TestParseCloud(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, authority, endpoint, audience, wantEndpoint, wantAudience, wantErr string }{
		{"public", "", "", "", "https://management.azure.com", "https://management.core.windows.net/", ""},
		{"usgovernment", "", "", "", "https://management.usgovcloudapi.net", "https://management.core.usgovcloudapi.net", ""},
		{"china", "", "", "", "https://management.chinacloudapi.cn", "https://management.core.chinacloudapi.cn", ""},
		{"custom", "https://login.local/", "https://arm.local/", "", "https://arm.local", "https://arm.local", ""},
		{"custom", "https://login.local", "https://arm.local:8443", "https://audience.local/", "https://arm.local:8443", "https://audience.local", ""},
		{"custom", "", "https://arm.local", "", "", "", "authority host: address is missing"},
		{"custom", "https://login.local", "http://arm.local", "", "", "", "ARM endpoint"},
		{"custom", "https://login.local", "https://user@arm.local", "", "", "", "ARM endpoint"},
		{"custom", "https://login.local", "https://arm.local:65536", "", "", "", "ARM endpoint"},
		{"custom", "https://login.local:0", "https://arm.local", "", "", "", "authority host"},
		{"public", "https://login.local", "", "", "", "", "are for the custom cloud"},
		{"moon", "", "", "", "", "", "unknown cloud"},
	} {
		got, err := ParseCloud(test.name, test.authority, test.endpoint, test.audience)
		if test.wantErr != "" {
			if err == nil || !strings.Contains(err.Error(), test.wantErr) {
				t.Errorf("%+v: error %v", test, err)
			}
			continue
		}
		service := got.Services["resourceManager"]
		if err != nil || service.Endpoint != test.wantEndpoint || strings.TrimRight(service.Audience, "/") != strings.TrimRight(test.wantAudience, "/") {
			t.Errorf("%+v: got %+v, %v", test, service, err)
		}
		if _, err := New(Config{Cloud: got}); err != nil {
			t.Errorf("%+v: no client: %v", test, err)
		}
	}
}
