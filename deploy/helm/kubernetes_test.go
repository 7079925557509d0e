//go:build helm

package helm

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The plain manifests in deploy/kubernetes are what the chart renders, without the labels and the
// test pod that only Helm uses. The placeholders are those that docs/installation.md replaces.
func TestKubernetesManifests(t *testing.T) {
	const clientID, tenantID = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"
	for file, values := range map[string]string{
		"workload-identity.yaml": "credential.clientId=" + clientID,
		"client-secret.yaml": "credential.kind=clientSecret,credential.clientId=" + clientID + ",credential.tenantId=" + tenantID +
			",credential.existingSecret=azure-secure-score-exporter",
	} {
		var got strings.Builder
		got.WriteString("# Generated from the Helm chart by go test -tags helm ./deploy/helm -update. Do not edit.\n")
		for source, text := range renderAs(t, chart, "--set", values) {
			if !strings.Contains(source, "/templates/tests/") {
				got.WriteString(helmOnly.ReplaceAllString(text, ""))
			}
		}
		path := filepath.Join("..", "kubernetes", file)
		if *update {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(got.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got.String() != string(want) {
			t.Errorf("%s differs. To update it: go test -tags helm ./deploy/helm -update\n%s", path, got.String())
		}
	}
}

var helmOnly = regexp.MustCompile(`(?m)^(?:# Source: .*| +(?:helm\.sh/chart|app\.kubernetes\.io/(?:managed-by|version)): .*)\n`)
