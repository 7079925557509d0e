package simulator

// Flags point an exporter in another process at the simulator, whose certificate it must trust: see
// [Server.CertificatePEM].
func (s *Server) Flags() []string {
	return []string{"--azure.cloud=custom", "--azure.authority-host=" + s.URL(), "--azure.arm-endpoint=" + s.URL()}
}

// ClientSecretEnv is the environment from which azidentity takes the service principal and its
// [ClientSecret].
func ClientSecretEnv() []string {
	return []string{
		"AZURE_TOKEN_CREDENTIALS=EnvironmentCredential", "AZURE_TENANT_ID=" + TenantID,
		"AZURE_CLIENT_ID=" + ClientID, "AZURE_CLIENT_SECRET=" + ClientSecret,
	}
}
