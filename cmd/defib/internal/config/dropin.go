package config

import (
	"fmt"
	"slices"

	"github.com/defib-dev/defib/watcher/policy"
)

// dropIns makes a channel of each variable that autoheal has for telling
// people, so that who comes from it goes on being told.
func (in Input) dropIns(s *Settings) error {
	for _, v := range []struct{ variable, kind string }{{"WEBHOOK_URL", TypeAutoheal}, {"APPRISE_URL", TypeApprise}} {
		if in.Getenv(v.variable) == "" {
			continue
		}
		list := s.Config.Notify.Channels
		if slices.ContainsFunc(list, func(c Channel) bool { return c.Name == v.kind }) {
			return fmt.Errorf("%s: it makes a channel named %s, and the file has one, too; rename that", v.variable, v.kind)
		}
		c := Channel{Name: v.kind, Type: v.kind, URL: Secret{Env: v.variable}, MinLevel: policy.LevelInfo}
		row := fmt.Sprintf("notify.channels[%d].", len(list))
		for _, key := range []string{"name", "type", "url_env", "min_level"} {
			s.Sources[row+key] = v.variable
		}
		if key := in.Getenv("WEBHOOK_JSON_KEY"); key != "" && v.kind == TypeAutoheal {
			c.JSONKey, s.Sources[row+"json_key"] = key, "WEBHOOK_JSON_KEY"
		}
		s.Config.Notify.Channels = append(slices.Clip(list), c)
	}
	return nil
}
