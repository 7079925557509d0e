package dashboards

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v2"
)

// The series of an exporter have one job, so that one outage is one alert. Targets per subscription
// need a job of their own in scrape_configs, because their paths differ.
func TestExampleJobs(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("prometheus*.yml")
	if err != nil || len(files) < 3 {
		t.Fatalf("found %v (%v)", files, err)
	}
	for _, file := range files {
		var config struct {
			Jobs []struct {
				Name          string `yaml:"job_name"`
				Interval      string `yaml:"scrape_interval"`
				Path          string `yaml:"metrics_path"`
				MetricRelabel []struct {
					Target      string `yaml:"target_label"`
					Replacement string
				} `yaml:"metric_relabel_configs"`
			} `yaml:"scrape_configs"`
		}
		if err := yaml.Unmarshal(read(t, file), &config); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		exporters := 0
		for _, job := range config.Jobs {
			if job.Interval != "2m" {
				t.Errorf("%s: %s has the interval %q, want 2m", file, job.Name, job.Interval)
			}
			probes := job.Path == "/probe"
			if (job.Name == "azure-secure-score") == probes {
				t.Errorf("%s: the job azure-secure-score must have the exporters as its only targets, got job %s", file, job.Name)
			}
			if !probes {
				exporters++
			} else if m := job.MetricRelabel; len(m) != 1 || m[0].Target != "job" || m[0].Replacement != "azure-secure-score" {
				t.Errorf("%s: the series of %s do not have the job azure-secure-score: %v", file, job.Name, m)
			}
		}
		if exporters != 1 {
			t.Errorf("%s has %d jobs for exporters, want 1", file, exporters)
		}
	}
}

// compose.yaml mounts files that exist, and the dashboards where Grafana expects them.
func TestCompose(t *testing.T) {
	t.Parallel()
	var compose struct {
		Services map[string]struct {
			Image   string
			Volumes []string
		}
	}
	if err := yaml.Unmarshal(read(t, "../compose.yaml"), &compose); err != nil {
		t.Fatal(err)
	}
	var provisioned struct {
		Providers []struct{ Options struct{ Path string } }
	}
	if err := yaml.Unmarshal(read(t, "grafana/dashboards.yaml"), &provisioned); err != nil || len(provisioned.Providers) != 1 {
		t.Fatalf("grafana/dashboards.yaml: %+v (%v)", provisioned, err)
	}
	mounted := map[string]bool{} // targets
	for name, service := range compose.Services {
		if service.Image != "" && !regexp.MustCompile(`:v?\d+\.\d+\.\d+$`).MatchString(service.Image) {
			t.Errorf("%s: the image %s is not pinned", name, service.Image)
		}
		for _, volume := range service.Volumes {
			parts := strings.Split(volume, ":")
			mounted[parts[1]] = true
			if !strings.HasPrefix(parts[0], "./") {
				continue // a named volume
			}
			if _, err := os.Stat(filepath.Join("..", parts[0])); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	for file := range dashboards(t) {
		if path := provisioned.Providers[0].Options.Path + "/" + file; !mounted[path] {
			t.Errorf("compose.yaml does not mount %s", path)
		}
	}
}
