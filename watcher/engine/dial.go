package engine

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/docker/docker/client"
	"github.com/docker/go-connections/tlsconfig"
)

const (
	dialTimeout = 5 * time.Second
	// A dead peer behind TCP is given up after 10 + 3 × 5 s without an answer.
	keepIdle, keepInterval, keepCount = 10 * time.Second, 5 * time.Second, 3
	idleConns                         = 16
	idleTimeout                       = 90 * time.Second
)

// newClient makes a client with a connection pool of its own. The API version
// is negotiated after the first ping.
func (e *Engine) newClient() (*client.Client, error) {
	u, err := client.ParseHostURL(e.host)
	if err != nil {
		return nil, fmt.Errorf("docker host %q: write it as unix:///path/to/docker.sock or tcp://name:port", e.host)
	}
	switch u.Scheme {
	case "unix", "tcp", "http", "https":
	default:
		return nil, fmt.Errorf("docker host %q: %s:// is not supported; use unix:// or tcp:// (for ssh, forward the socket first: ssh -nNT -L /tmp/docker.sock:/var/run/docker.sock HOST)", e.host, u.Scheme)
	}
	conf, err := tlsFromEnv(u.Scheme)
	if err != nil {
		return nil, err
	}
	tr := &http.Transport{
		TLSClientConfig: conf, MaxIdleConns: idleConns, MaxIdleConnsPerHost: idleConns,
		IdleConnTimeout: idleTimeout, TLSHandshakeTimeout: dialTimeout,
	}
	cli, err := client.NewClientWithOpts(
		client.WithHTTPClient(&http.Client{Transport: tr, CheckRedirect: client.CheckRedirect}),
		client.WithHost(e.host), client.WithVersionFromEnv(), client.WithUserAgent("defib"),
		client.WithDialContext(e.dialer(u)),
	)
	if err != nil {
		return nil, fmt.Errorf("docker host %q: %w", e.host, err)
	}
	return cli, nil
}

// dialer connects to the engine, whatever address the transport names, unless
// a proxy stands between.
func (e *Engine) dialer(u *url.URL) func(ctx context.Context, network, addr string) (net.Conn, error) {
	d := &net.Dialer{Timeout: dialTimeout, KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: keepIdle, Interval: keepInterval, Count: keepCount,
	}}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		switch {
		case e.dial != nil:
			return e.dial(ctx)
		case u.Scheme == "unix":
			return d.DialContext(ctx, "unix", u.Host)
		}
		return d.DialContext(ctx, network, addr)
	}
}

// tlsFromEnv reads the files in [certDir]; nil without one.
func tlsFromEnv(scheme string) (*tls.Config, error) {
	dir, err := certDir(scheme)
	if dir == "" || err != nil {
		return nil, err
	}
	conf, err := tlsconfig.Client(tlsconfig.Options{
		CAFile:   filepath.Join(dir, "ca.pem"),
		CertFile: filepath.Join(dir, "cert.pem"),
		KeyFile:  filepath.Join(dir, "key.pem"),

		InsecureSkipVerify: os.Getenv(client.EnvTLSVerify) == "",
	})
	if err != nil {
		return nil, fmt.Errorf("TLS files in %s (DOCKER_CERT_PATH names their directory): %w", dir, err)
	}
	return conf, nil
}

// certDir is where the TLS files for a host are: what DOCKER_CERT_PATH names,
// else, when DOCKER_TLS_VERIFY wants TLS, where the docker command looks. It is
// empty for a plain connection, and for https with the certificates of the system.
func certDir(scheme string) (string, error) {
	if scheme == "unix" || scheme == "http" {
		return "", nil
	}
	if dir := os.Getenv(client.EnvOverrideCertPath); dir != "" || scheme == "https" || os.Getenv(client.EnvTLSVerify) == "" {
		return dir, nil
	}
	if dir := os.Getenv("DOCKER_CONFIG"); dir != "" {
		return dir, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", errors.New("DOCKER_TLS_VERIFY is set, and there is no home directory with the TLS files: name theirs by DOCKER_CERT_PATH")
	}
	return filepath.Join(home, ".docker"), nil
}

// base is the URL that paths without a version are added to.
func (e *Engine) base() string {
	u, err := client.ParseHostURL(e.host)
	if err != nil {
		return e.host // New has refused it
	}
	if u.Scheme == "unix" {
		return "http://" + client.DummyHost
	}
	scheme := "http"
	if dir, _ := certDir(u.Scheme); dir != "" || u.Scheme == "https" { // New has refused what is wrong with it
		scheme = "https"
	}
	return scheme + "://" + u.Host + strings.TrimSuffix(u.Path, "/")
}

// local reports whether the engine runs on this host for certain.
func (e *Engine) local() bool { return strings.HasPrefix(e.host, "unix://") }
