package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v2"
)

// group is a rule group of Prometheus. Decoding is strict: a field that Azure has no equivalent for
// must not get lost silently.
type group struct {
	Name     string   `yaml:"name"`
	Interval duration `yaml:"interval"`
	Rules    []rule   `yaml:"rules"`
}

type rule struct {
	Record        string            `yaml:"record"`
	Alert         string            `yaml:"alert"`
	Expr          string            `yaml:"expr"`
	For           duration          `yaml:"for"`
	KeepFiringFor duration          `yaml:"keep_firing_for"`
	Labels        map[string]string `yaml:"labels"`
	Annotations   map[string]string `yaml:"annotations"`
}

// duration is a duration in the notation of Prometheus, such as 1d12h.
type duration time.Duration

// UnmarshalYAML implements [yaml.Unmarshaler].
func (d *duration) UnmarshalYAML(unmarshal func(any) error) error {
	var text string
	if err := unmarshal(&text); err != nil {
		return err
	}
	parsed, err := model.ParseDuration(text)
	*d = duration(parsed)
	return err
}

// readGroups reads the rule files of a directory, without the tests beside them, in the order of
// their names.
func readGroups(dir string) ([]group, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return nil, err
	}
	var all []group
	for _, file := range files {
		if strings.HasSuffix(file, "_test.yaml") {
			continue
		}
		content, err := os.ReadFile(filepath.Clean(file))
		if err != nil {
			return nil, err
		}
		var parsed struct {
			Groups []group `yaml:"groups"`
		}
		if err := yaml.UnmarshalStrict(content, &parsed); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all = append(all, parsed.Groups...)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no rule group in %s", dir)
	}
	return all, nil
}
