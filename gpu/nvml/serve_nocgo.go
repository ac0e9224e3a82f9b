//go:build !cgo

package nvml

import (
	"context"
	"errors"
	"io"
)

// built: this program cannot talk to the driver.
const built = false

// Serve cannot do its work in a program that was built with CGO_ENABLED=0; the
// [Probe] of such a program never starts it.
func Serve(context.Context, io.Reader, io.Writer, ServeOptions) error {
	return errors.New("this defib was built without GPU support")
}
