package simulator

import "hash/crc32"

// The recommendations of the demo: keys, names and severities are those of Microsoft's reference.
// For Azure, the controls are those of a published definition; for AWS and GCP and where a control
// is newer than that, they are assumed. Efforts, impacts and the recommendations of single packages
// and secrets are invented.

// catalogued is a recommendation of an environment with the names of its controls.
type catalogued struct {
	key, name, severity, category string
	controls                      []string
}

const (
	enableMFA        = "Enable MFA"
	managementPorts  = "Secure management ports"
	systemUpdates    = "Apply system updates"
	vulnerabilities  = "Remediate vulnerabilities"
	configurations   = "Remediate security configurations"
	accessControl    = "Manage access and permissions"
	encryptAtRest    = "Enable encryption at rest"
	encryptInTransit = "Encrypt data in transit"
	restrictNetwork  = "Restrict unauthorized network access"
	applications     = "Apply adaptive application control"
	ddos             = "Protect applications against DDoS attacks"
	endpoints        = "Enable endpoint protection"
	auditing         = "Enable auditing and logging"
	enhancedSecurity = "Enable enhanced security features"
	bestPractices    = "Implement security best practices"
)

func of(controls ...string) []string { return controls }

var catalogue = map[string][]catalogued{
	"Azure": {
		{"94290b00-4d0c-d7b4-7cea-064a9554e681", "MFA should be enabled on accounts with owner permissions on subscriptions", "High", "IdentityAndAccess", of(enableMFA)},
		{"57e98606-6b1e-6193-0e3d-fe621387c16b", "MFA should be enabled on accounts with write permissions on subscriptions", "High", "IdentityAndAccess", of(enableMFA)},
		{"805651bc-6ecd-4c73-9b55-97a19d0582d0", "Management ports of virtual machines should be protected with just-in-time network access control", "High", "Networking", of(managementPorts)},
		{"bc303248-3d14-44c2-96a0-55f5c326b5fe", "Management ports should be closed on your virtual machines", "Medium", "Networking", of(managementPorts)},
		{"45cfe080-ceb1-a91e-9743-71551ed24e94", "Log Analytics agent should be installed on your Cloud Services (extended support) role instances", "High", "Compute", of(systemUpdates, configurations, endpoints)},
		{"08e628db-e2ed-4793-bc91-d13e684401c3", "Azure Kubernetes Service clusters should have the Azure Policy add-on for Kubernetes installed", "High", "Compute", of(accessControl, configurations, restrictNetwork, ddos)},
		{"8c3d9ad0-3639-4686-9cd2-2b2ab2609bda", "Vulnerabilities in security configuration on your Windows machines should be remediated (powered by Guest Configuration)", "Low", "Compute", of(configurations)},
		{"0677209d-e675-2c6f-e91a-54cef2878663", "Vulnerabilities in container security configurations should be remediated", "High", "Compute", of(configurations)},
		{"8941d121-f740-35f6-952c-6561d2b38d36", "Cloud Services (extended support) role instances should be configured securely", "High", "Compute", of(configurations)},
		{"c3b6ae71-f1f0-31b4-e6c1-d5951285d03d", "External accounts with owner permissions should be removed from subscriptions", "High", "IdentityAndAccess", of(accessControl)},
		{"04e7147b-0deb-9796-2e5c-0336343ceb3d", "External accounts with write permissions should be removed from subscriptions", "High", "IdentityAndAccess", of(accessControl)},
		{"e52064aa-6853-e252-a11e-dffc675689c2", "Deprecated accounts with owner permissions should be removed from subscriptions", "High", "IdentityAndAccess", of(accessControl)},
		{"00c6d40b-e990-6acf-d4f3-471e747a27c4", "Deprecated accounts should be removed from subscriptions", "High", "IdentityAndAccess", of(accessControl)},
		{"2c79b4af-f830-b61e-92b9-63dfa30f16e4", "There should be more than one owner assigned to subscriptions", "High", "IdentityAndAccess", of(accessControl)},
		{"d57a4221-a804-52ca-3dea-768284f06bb7", "Virtual machines should encrypt temp disks, caches, and data flows between Compute and Storage resources", "High", "Compute", of(encryptAtRest)},
		{"651967bf-044e-4bde-8376-3e08e0600105", "Transparent Data Encryption on SQL databases should be enabled", "Low", "Data", of(encryptAtRest)},
		{"b12bc79e-4f12-44db-acda-571820191ddc", "Automation account variables should be encrypted", "High", "Compute", of(encryptAtRest)},
		{"1b351b29-41ca-6df5-946c-c190a56be5fe", "Web Application should only be accessible over HTTPS", "Medium", "AppServices", of(encryptInTransit)},
		{"35b25be2-d08a-e340-45ed-f08a95d804fc", "Redis Cache should allow access only via SSL", "High", "Data", of(encryptInTransit)},
		{"1c5de8e1-f68d-6a17-e0d2-ec259c42768c", "Secure transfer to storage accounts should be enabled", "High", "Data", of(encryptInTransit)},
		{"483f12ed-ae23-447e-a2de-a67a10db4353", "Internet-facing virtual machines should be protected with network security groups", "High", "Networking", of(restrictNetwork)},
		{"3b20e985-f71f-483b-b078-f30d73936d43", "All network ports should be restricted on network security groups associated to your virtual machine", "High", "Networking", of(restrictNetwork)},
		{"f9f0eed0-f143-47bf-b856-671ea2eeed62", "Adaptive network hardening recommendations should be applied on internet facing virtual machines", "High", "Networking", of(restrictNetwork)},
		{"1a2b5b4c-f80d-46e7-ac81-b51a9fb363de", "Kubernetes API server should be configured with restricted access", "High", "Compute", of(restrictNetwork)},
		{"c3b51c94-588b-426b-a892-24696f9e54cc", "IP forwarding on your virtual machine should be disabled", "Medium", "Networking", of(restrictNetwork)},
		{"f67fb4ed-d481-44d7-91e5-efadf504f74a", "Virtual networks should be protected by Azure Firewall", "Low", "Networking", of(restrictNetwork)},
		{"35f45c95-27cf-4e52-891f-8390d1de5828", "Adaptive application controls for defining safe applications should be enabled on your machines", "High", "Compute", of(applications)},
		{"1234abcd-1b53-4fd4-9835-2c2fa3935313", "Allowlist rules in your adaptive application control policy should be updated", "High", "Compute", of(applications)},
		{"e3de1cc0-f4dd-3b34-e496-8b5381ba2d70", "Azure DDoS Protection Standard should be enabled", "Medium", "Networking", of(ddos)},
		{"4fb67663-9ab9-475d-b026-8c544cced439", "Endpoint protection should be installed on your machines", "High", "Compute", of(endpoints)},
		{"37a3689a-818e-4a0e-82ac-b1392b9bb000", "Endpoint protection health issues should be resolved on your machines", "Medium", "Compute", of(endpoints)},
		{"21300918-b2e3-0346-785f-c77ff57d243b", "Endpoint protection solution should be installed on virtual machine scale sets", "High", "Compute", of(endpoints)},
		{"94208a8b-16e8-4e5b-abbd-4e81c9d02bee", "Auditing on SQL server should be enabled", "Low", "Data", of(auditing)},
		{"88bbc99c-e5af-ddd7-6105-6150b2bfa519", "Diagnostic logs in Key Vault should be enabled", "Low", "Data", of(auditing)},
		{"1597605a-0faf-5860-eb74-462ae2e9fc21", "Diagnostic logs in Event Hubs should be enabled", "Low", "Data", of(auditing)},
		{"961eb649-3ea9-f8c2-6595-88e9a3aeedeb", "Diagnostic logs in Virtual Machine Scale Sets should be enabled", "High", "Compute", of(auditing)},
		{"1be22853-8ed1-4005-9907-ddad64cb1417", "Microsoft Defender for Storage should be enabled", "High", "Data", of(enhancedSecurity)},
		{"b1af52e4-e968-4e2b-b6d0-6736c9651f0a", "Microsoft Defender for Key Vault should be enabled", "High", "Data", of(enhancedSecurity)},
		{"0876ef51-fee7-449d-ba1e-f2662c7e43c6", "Microsoft Defender for App Service should be enabled", "High", "AppServices", of(enhancedSecurity)},
		{"151e82c5-5341-a74b-1eb0-bc38d2c84bb5", "MFA should be enabled on accounts with read permissions on subscriptions", "High", "IdentityAndAccess", of(bestPractices)},
		{"a8c6a4ad-d51e-88fe-2979-d3ee3c864f8b", "External accounts with read permissions should be removed from subscriptions", "High", "IdentityAndAccess", of(bestPractices)},
		{"6f90a6d6-d4d6-0794-0ec1-98fa77878c2e", "A maximum of 3 owners should be designated for subscriptions", "High", "IdentityAndAccess", of(bestPractices)},
		{"a9341235-9389-42f0-a0bf-9bfb57960d44", "Non-internet-facing virtual machines should be protected with network security groups", "Low", "Networking", of(bestPractices)},
		{"45d313c3-3fca-5040-035f-d61928366d31", "Access to storage accounts with firewall and virtual network configurations should be restricted", "Low", "Networking", of(bestPractices)},
		{"eade5b56-eefd-444f-95c8-23f29e5d93cb", "Subnets should be associated with a network security group", "Low", "Networking", of(bestPractices)},
	},
	"AWS": {
		{"9b26b102-ccde-4697-aa30-f0621f865f99", "Management ports of EC2 instances should be protected with just-in-time network access control", "High", "Compute", of(managementPorts)},
		{"5b3c2887-d7b7-4887-b074-4e6057027709", "Amazon EC2 instances managed by Systems Manager should have a patch compliance status of COMPLIANT after a patch installation", "Medium", "Compute", of(systemUpdates)},
		{"4be5393d-cc33-4ef7-acae-80295bc3ae35", "EC2 instances should be managed by AWS Systems Manager", "Medium", "Compute", of(configurations)},
		{"f13dc885-79aa-456b-ba28-3428147ecf55", "Ensure credentials unused for 90 days or greater are disabled", "Medium", "IdentityAndAccess", of(accessControl)},
		{"de8ae504-ec39-4ffb-b3ef-6e36fdcbb455", "Amazon S3 permissions granted to other AWS accounts in bucket policies should be restricted", "High", "IdentityAndAccess", of(accessControl)},
		{"4e482075-311f-401e-adc7-f8a8affc5635", "Amazon EFS should be configured to encrypt file data at rest using AWS KMS", "Medium", "Compute", of(encryptAtRest)},
		{"fce0daac-96e4-47ab-ab35-18ac6b7dcc70", "Application Load Balancer should be configured to redirect all HTTP requests to HTTPS", "Medium", "Networking", of(encryptInTransit)},
		{"9bb205cd-a931-4f77-a620-0a263479732b", "Amazon ECS services should not have public IP addresses assigned to them automatically", "High", "Networking", of(restrictNetwork)},
		{"2917bcec-6991-4ea4-9e73-156e6ef831e4", "CloudTrail should be enabled", "High", "IdentityAndAccess", of(auditing)},
		{"729c20d1-fe7c-4e1b-8c9c-ab5ad56d7f96", "Ensure IAM password policy expires passwords within 90 days or less", "Low", "IdentityAndAccess", of(bestPractices)},
	},
	"GCP": {
		{"9f88a5b8-2853-4b3f-a4c7-33f225cae99a", "Ensure that SSH access is restricted from the internet", "High", "Networking", of(managementPorts)},
		{"569ef64e-d7aa-4d7e-aa0b-5b3e045ca2c3", "Ensure oslogin is enabled for all instances", "Medium", "IdentityAndAccess", of(configurations)},
		{"54c381fe-a80a-4038-8a9d-c166d2922ea9", "Ensure that IAM users are not assigned the Service Account User or Service Account Token Creator roles at project level", "Medium", "IdentityAndAccess", of(accessControl)},
		{"f4cfc689-cac8-4f45-8355-652dcda3ec55", "Ensure that all BigQuery Tables are encrypted with Customer-managed encryption key (CMEK)", "Medium", "Data", of(encryptAtRest)},
		{"13872d43-aac6-4018-9c89-507b8fe9be54", "Ensure that the Cloud SQL database instance requires all incoming connections to use SSL", "High", "Data", of(encryptInTransit)},
		{"de78ebca-1ec6-4872-8061-8fcfb27752fc", "Ensure that Cloud SQL database instances are not open to the world", "High", "Data", of(restrictNetwork)},
		{"c10bad5f-cd86-4ea0-a40c-5d31510da525", "Ensure that Cloud DNS logging is enabled for all VPC networks", "High", "Networking", of(auditing)},
		{"33509176-9e4d-4238-84ec-984ba67019fa", "Ensure that DNSSEC is enabled for Cloud DNS", "Medium", "Networking", of(bestPractices)},
	},
}

// previews and unmapped do not count towards the score.
var (
	previews = []catalogued{
		{"0396b18c-41aa-489c-affd-4ee5d1714a59", "Linux virtual machines should use Secure Boot", "Low", "Compute", of(configurations)},
		{"b7604066-ed76-45f9-a5c1-c97e4812dc55", "Virtual machines guest attestation status should be healthy", "Medium", "Compute", of(configurations)},
	}
	unmapped = []catalogued{
		{"17618b1a-ed14-49bb-b37f-9f8ba967be8b", "Machines should have secret findings resolved", "High", "Compute", of(configurations)},
		{"bbff27d2-73db-4c2d-8b1a-5f20b1f1da7e", "Machines should have ports closed that might expose attack vectors", "High", "Networking", of(managementPorts)},
	}
)

// dynamic are recommendations that Azure creates per software, secret or finding, by category. They
// assess the resources of a control that no definition maps them to.
var dynamic = []struct{ category, name, severity, control string }{
	{"SoftwareUpdate", "Update OpenSSL", "Critical", systemUpdates},
	{"SoftwareUpdate", "Update Google Chrome", "High", systemUpdates},
	{"SystemUpdate", "Install the security updates of Ubuntu 22.04", "Medium", systemUpdates},
	{"SoftwareUpdate", "Update Apache Log4j", "Critical", vulnerabilities},
	{"SoftwareUpdate", "Update nginx", "Medium", vulnerabilities},
	{"HostMisconfigurations", "Disable SMBv1", "High", configurations},
	{"ExposedSecrets", "Remove the exposed SSH private key", "High", vulnerabilities},
	{"Unknown", "Remove the unsupported version of Python", "Low", vulnerabilities},
}

// demoRecommendations are the recommendations of an environment by the name of their control. They
// are created once: a recommendation of several controls is the same one.
var demoRecommendations = map[string]map[string][]*Recommendation{
	"Azure": newRecommendations("Azure"), "AWS": newRecommendations("AWS"), "GCP": newRecommendations("GCP"),
}

func newRecommendations(environment string) map[string][]*Recommendation {
	byControl := map[string][]*Recommendation{}
	add := func(r *Recommendation, controls ...string) {
		levels := []string{"Low", "Moderate", "High"}
		r.Effort, r.UserImpact = levels[r.Key[0]%3], levels[r.Key[1]%3]
		for _, c := range controls {
			byControl[c] = append(byControl[c], r)
		}
	}
	newRecommendation := func(c catalogued) *Recommendation {
		return &Recommendation{Key: c.key, Name: c.name, Severity: c.severity, Categories: []string{c.category}}
	}
	for _, c := range catalogue[environment] {
		add(newRecommendation(c), c.controls...)
	}
	if environment == "Azure" {
		for _, c := range previews {
			r := newRecommendation(c)
			r.Preview = true
			add(r, c.controls...)
		}
		for _, c := range unmapped {
			r := newRecommendation(c)
			r.Unmapped = true
			add(r, c.controls...)
		}
	}
	newDynamic := func(category, name, severity, control string) {
		add(&Recommendation{Key: inventedKey(name + control), Name: name, Severity: severity, Categories: []string{"Compute"}, Dynamic: category}, control)
	}
	for _, d := range dynamic {
		newDynamic(d.category, d.name, d.severity, d.control)
	}
	for _, d := range definitions {
		if len(byControl[d.name]) == 0 { // no name is known in this environment
			newDynamic("HostMisconfigurations", "Fix a finding of "+d.name, "Medium", d.name)
		}
	}
	return byControl
}

// inventedKey is a GUID of the form of the invented control IDs.
func inventedKey(text string) string {
	const hex = "0123456789abcdef"
	key := []byte("00000000-0000-4000-a000-000000000000")
	sum := crc32.ChecksumIEEE([]byte(text))
	for i := range 8 {
		key[len(key)-8+i] = hex[sum>>(4*i)&15]
	}
	return string(key)
}

// recommended adds the demo's recommendations to the controls of an environment.
func recommended(controls []Control, environment string) []Control {
	for i := range controls {
		controls[i].Recommendations = demoRecommendations[environment][controls[i].DisplayName]
	}
	return controls
}
