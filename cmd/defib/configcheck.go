package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/defib-dev/defib/cmd/defib/internal/api"
	"github.com/defib-dev/defib/cmd/defib/internal/config"
)

// check says all that is wrong with a file in one go. What may only follow
// from a mistake is left until that is mended.
func (a *app) check(file string) error {
	cfg, src, err := config.Load(file)
	wrong, ok := errors.AsType[config.FileErrors](err)
	if err != nil && !ok {
		return err
	}
	if len(wrong) > 0 {
		fmt.Fprintln(a.err, wrong.Error())
	}
	n := &cfg.Notify
	missing := a.complain(n.ReadSecrets(a.getenv, src))
	rest := a.complain(checkGroup(cfg, src)) + a.complain(checkWords(*n, wrong))
	if len(wrong) == 0 {
		_, err := newChannels(withSecrets(n.Channels, a.getenv), a.getenv)
		rest += a.complain(err)
	}
	a.warn(cfg, src)
	return a.verdict(file, len(wrong)+rest, missing)
}

// complain prints an error and returns how many it joins.
func (a *app) complain(err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintln(a.err, a.lines(err.Error()))
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		return len(joined.Unwrap())
	}
	return 1
}

// verdict sums up what was printed.
func (a *app) verdict(file string, mistakes, secrets int) error {
	const how = "the daemon needs them under the same names; run this as it runs"
	switch {
	case mistakes == 0 && secrets == 0:
		fmt.Fprintln(a.out, a.clean(file)+": no mistakes")
		return nil
	case mistakes == 0:
		return hinted(errors.New("secrets are missing"), how)
	case secrets == 0:
		return hinted(mistaken(mistakes), "")
	}
	return hinted(fmt.Errorf("%w, and secrets are missing", mistaken(mistakes)), how)
}

func mistaken(n int) error { return errors.New(plural(n, "mistake") + " in the configuration") }

// warn names what may be right where the daemon runs, and does nothing here.
func (a *app) warn(cfg config.Config, src config.Sources) {
	list := config.Unknown(a.environ, &cfg.Notify)
	if path := cfg.GPU.Library; cfg.GPU.Enabled && path != "" && !exists(path) {
		list = append(list, fmt.Sprintf("%s: gpu.library: there is no file %s here; where it is missing, no GPU is found", src.Of("gpu.library"), path))
	}
	for _, text := range list {
		fmt.Fprintln(a.err, a.clean("warning: "+text))
	}
}

// checkGroup wants the group of the socket: without it the daemon ends at once.
func checkGroup(cfg config.Config, src config.Sources) error {
	if _, err := api.GroupID(cfg.API.Group); err != nil {
		return fmt.Errorf("%s: api.group: %w", src.Of("api.group"), err)
	}
	return nil
}

// checkWords reads the templates, unless it was said that their place is wrong.
func checkWords(n config.Notify, wrong config.FileErrors) error {
	if slices.ContainsFunc(wrong, func(p config.Problem) bool { return p.Key == "notify.templates" }) {
		return nil
	}
	_, err := newWords(n)
	return err
}

// withSecrets are the channels whose secrets can be read, with them.
func withSecrets(list []config.Channel, getenv func(string) string) []config.Channel {
	var out []config.Channel
	for _, c := range list {
		if c.ReadSecrets(getenv) == nil {
			out = append(out, c)
		}
	}
	return out
}
