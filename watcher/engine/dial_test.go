package engine

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// DOCKER_TLS_VERIFY alone means TLS with the files of the docker command, and
// never a plain connection.
func TestTLSFilesOfTheDockerCommand(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("DOCKER_CONFIG", "")
	t.Setenv("DOCKER_CERT_PATH", "")
	t.Setenv("DOCKER_TLS_VERIFY", "1")
	o := Options{Host: "tcp://10.0.0.1:2376", Watch: func(map[string]string) (string, string) { return "", "" }, Now: time.Now}
	dir := filepath.Join(home, ".docker")
	if _, err := New(o); err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "DOCKER_CERT_PATH") {
		t.Errorf("without files: got %v, want an error that names %s and the way out", err, dir)
	}
	writeTLSFiles(t, dir)
	wantTLS(t, o)
	t.Setenv("HOME", t.TempDir())
	t.Setenv("DOCKER_CONFIG", dir)
	wantTLS(t, o)
	t.Setenv("DOCKER_CONFIG", "")
	t.Setenv("HOME", "")
	if _, err := New(o); err == nil || !strings.Contains(err.Error(), "DOCKER_CERT_PATH") {
		t.Errorf("without a home: got %v, want the way out", err)
	}
	for _, host := range []string{"unix:///run/docker.sock", "http://10.0.0.1:2375", "https://docker.example.org"} {
		o.Host = host
		if _, err := New(o); err != nil {
			t.Errorf("%s: got %v, want no look at the files", host, err)
		}
	}
}

// wantTLS wants the engine to be asked over TLS, and its certificate checked.
func wantTLS(t *testing.T, o Options) {
	t.Helper()
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := e.base(), "https://10.0.0.1:2376"; got != want {
		t.Errorf("it is pinged at %s, want %s", got, want)
	}
	conf, err := tlsFromEnv("tcp")
	if err != nil || conf == nil || conf.InsecureSkipVerify || len(conf.Certificates) != 1 {
		t.Errorf("got %+v, %v; want a configuration that checks", conf, err)
	}
}

// writeTLSFiles writes one certificate as all that is needed.
func writeTLSFiles(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true}
	signed, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"ca.pem": {Type: "CERTIFICATE", Bytes: signed}, "cert.pem": {Type: "CERTIFICATE", Bytes: signed}, "key.pem": {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
