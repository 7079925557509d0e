package azure

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/go-kit/log/level"
)

// credentialSource creates the credential, and creates it again when a file that it comes from was
// replaced: azidentity reads a certificate once and keeps a federated token for ten minutes. One
// goroutine at a time uses it.
type credentialSource struct {
	create func() (azcore.TokenCredential, error)
	files  []string
	now    func() time.Time

	current   azcore.TokenCredential
	createdAt time.Time
	content   [sha256.Size]byte // of the files
}

// newCredentialSource creates the credential for the first time, without a call to Azure.
func (c *Config) newCredentialSource(options azcore.ClientOptions) (*credentialSource, error) {
	options.PerRetryPolicies = []policy.Policy{tracePolicy{}, metricsPolicy{operation: operationGetToken, observe: c.Observe}}
	s := &credentialSource{now: c.now}
	switch {
	case c.Credential != nil && c.ClientSecretFile != "":
		return nil, errors.New("ClientSecretFile and Credential are mutually exclusive")
	case c.Credential != nil:
		s.create = func() (azcore.TokenCredential, error) { return c.Credential(options) }
	case c.ClientSecretFile != "":
		s.files = []string{c.ClientSecretFile}
		s.create = func() (azcore.TokenCredential, error) {
			credential, err := newSecretFileCredential(c.ClientSecretFile, options, c.PrivateCloud)
			if err != nil {
				return nil, fmt.Errorf("--azure.client-secret-file: %w", err)
			}
			return credential, nil
		}
	default:
		for _, variable := range []string{"AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_FEDERATED_TOKEN_FILE"} {
			if file := os.Getenv(variable); file != "" {
				s.files = append(s.files, file)
			}
		}
		s.create = func() (azcore.TokenCredential, error) {
			return azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{
				ClientOptions: options, DisableInstanceDiscovery: c.PrivateCloud,
			})
		}
	}
	_, err := s.refresh(false)
	return s, err
}

// newSecretFileCredential creates the credential of a service principal whose secret is in a file.
func newSecretFileCredential(file string, options azcore.ClientOptions, privateCloud bool) (azcore.TokenCredential, error) {
	for _, variable := range []string{"AZURE_TENANT_ID", "AZURE_CLIENT_ID"} {
		if os.Getenv(variable) == "" {
			return nil, fmt.Errorf("%s is not set", variable)
		}
	}
	if os.Getenv("AZURE_CLIENT_SECRET") != "" {
		return nil, errors.New("AZURE_CLIENT_SECRET is also set: use one or the other")
	}
	content, err := readSmall(file)
	if err != nil {
		return nil, err
	}
	secret := strings.TrimSpace(string(content))
	if secret == "" {
		return nil, fmt.Errorf("%s is empty", file)
	}
	var additionalTenants []string
	if tenants := os.Getenv("AZURE_ADDITIONALLY_ALLOWED_TENANTS"); tenants != "" {
		additionalTenants = strings.Split(tenants, ";")
	}
	return azidentity.NewClientSecretCredential(os.Getenv("AZURE_TENANT_ID"), os.Getenv("AZURE_CLIENT_ID"), secret, &azidentity.ClientSecretCredentialOptions{
		ClientOptions: options, DisableInstanceDiscovery: privateCloud, AdditionallyAllowedTenants: additionalTenants,
	})
}

// refresh creates the credential again if a file changed or must is set, and reports whether a file
// changed. A credential that was read from a pipe is kept.
func (s *credentialSource) refresh(must bool) (changed bool, err error) {
	content, rereadable := s.readFiles() // first, so that the next refresh finds a later change
	changed = rereadable && content != s.content
	if s.current != nil && !changed && (!must || !rereadable) {
		return false, nil
	}
	credential, err := s.create()
	if err != nil {
		return false, err
	}
	s.current, s.createdAt, s.content = credential, s.now(), content
	return changed, nil
}

// readFiles returns a digest of the files. It reports false if one of them is a pipe or a device,
// which can be read once.
func (s *credentialSource) readFiles() (digest [sha256.Size]byte, rereadable bool) {
	hash := sha256.New()
	for _, file := range s.files {
		if info, err := os.Stat(file); err == nil && !info.Mode().IsRegular() {
			return digest, false
		}
		content, err := readSmall(file)
		part := sha256.Sum256(content)
		hash.Write(part[:])
		fmt.Fprint(hash, err)
	}
	return [sha256.Size]byte(hash.Sum(nil)), true
}

// maxCredentialFile bounds a file with a secret, a token or certificates, in bytes.
const maxCredentialFile = 1 << 20

func readSmall(file string) ([]byte, error) {
	f, err := os.Open(file) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxCredentialFile+1))
	if err == nil && len(content) > maxCredentialFile {
		err = fmt.Errorf("%s is larger than %d bytes", file, maxCredentialFile)
	}
	return content, err
}

// warnAboutEnvironment logs variables of the environment that are ignored or unusable.
func (c *Config) warnAboutEnvironment() {
	if c.Credential != nil {
		return
	}
	if used, asked := hostOf(c.Cloud.ActiveDirectoryAuthorityHost), hostOf(os.Getenv("AZURE_AUTHORITY_HOST")); asked != "" && asked != used {
		fix := "unset AZURE_AUTHORITY_HOST"
		if name := cloudOf(asked); name != "" {
			fix += ", or set --azure.cloud=" + name
		}
		level.Warn(c.Logger).Log("msg", "AZURE_AUTHORITY_HOST contradicts --azure.cloud and is ignored", "authority_host", asked, "used", used, "fix", fix)
	}
	if file := os.Getenv("AZURE_CLIENT_CERTIFICATE_PATH"); file != "" && c.ClientSecretFile == "" && os.Getenv("AZURE_CLIENT_SECRET") == "" {
		if err := certificateError(file, os.Getenv("AZURE_CLIENT_CERTIFICATE_PASSWORD")); err != nil {
			level.Warn(c.Logger).Log("msg", "azidentity cannot read the client certificate", "file", file, "err", err, "fix", Hint(err, "", Identity{}))
		}
	}
}

// certificateError reports why azidentity cannot read a certificate file.
func certificateError(file, password string) error {
	if info, err := os.Stat(file); err == nil && !info.Mode().IsRegular() { //nolint:gosec // the operator names the file
		return nil // a pipe: azidentity must read it
	}
	content, err := readSmall(file)
	if err == nil {
		_, _, err = azidentity.ParseCertificates(content, []byte(password))
	}
	if err == nil {
		return nil
	}
	e := localError(err)
	if e.cause != causeFileUnreadable && e.cause != causeCertificatePassword {
		e.cause = causeCertificateUnsupported
	}
	return e
}

// hostOf returns the lower-case host of an address, or "".
func hostOf(address string) string {
	u, err := url.Parse(strings.TrimSpace(address))
	if err != nil {
		return ""
	}
	return sanitize(strings.ToLower(u.Host))
}

// cloudOf returns the name of the cloud whose tokens come from the host, or "".
func cloudOf(authorityHost string) string {
	for _, name := range CloudNames {
		if c, err := ParseCloud(name, "", "", ""); err == nil && hostOf(c.ActiveDirectoryAuthorityHost) == authorityHost {
			return name
		}
	}
	return ""
}
