package main

import (
	_ "github.com/docker/docker/client"
	_ "github.com/docker/go-connections/sockets"
	_ "github.com/docker/go-connections/tlsconfig"
	_ "github.com/goccy/go-yaml"
	_ "github.com/google/go-cmp/cmp"
	_ "github.com/spf13/cobra"
	_ "go.etcd.io/bbolt"
	_ "golang.org/x/sys/unix"
	_ "golang.org/x/term"
)

func main() {}
