package notify

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
)

// exchange is one request to a service and what came of it. Client libraries
// are given it in place of an HTTP client, since some lose the status, the
// headers or the cause of an error on the way back.
type exchange struct {
	client *http.Client
	most   int   // bytes of an answer of success that are read; 0: as of any other, maxAnswer
	err    error // no answer, or none that could be read
	status int
	header http.Header
	body   string
}

// Do sends a request. The body of its answer has been read when it returns.
func (x *exchange) Do(req *http.Request) (*http.Response, error) {
	resp, err := x.client.Do(req)
	if err != nil {
		x.err = err
		return nil, err
	}
	defer resp.Body.Close()
	most := maxAnswer
	if resp.StatusCode/100 == 2 {
		most = max(most, x.most)
	}
	body, err := readHead(resp.Body, most)
	if err != nil {
		x.err = err
		return nil, err
	}
	x.status, x.header, x.body = resp.StatusCode, resp.Header, strings.TrimSpace(strings.ToValidUTF8(body, "�"))
	resp.Body = io.NopCloser(strings.NewReader(x.body))
	return resp, nil
}

// failure says why there was no answer with a status of success; nil when there
// was one. What err tells beyond that is of use only when nothing was sent.
func (x *exchange) failure(err error, secrets ...string) *Error {
	switch {
	case x.err != nil:
		return classifyErr(x.err, secrets...)
	case x.status != 0:
		return classifyStatus(x.status, x.header)
	case err != nil:
		return &Error{Reason: ReasonClient, Err: redact(err, secrets...)}
	}
	return nil
}

// stranger is the failure when something else than the service answered with
// success: a proxy's login page, mostly.
func (x *exchange) stranger(service string) *Error {
	return &Error{Reason: ReasonServer, Err: errors.New("what answered is not " + service + "; a proxy may stand before it")}
}

// readHead reads at most so many bytes. What is longer loses the word at its
// cut, too: it may be half of a key, which nothing would know as one.
func readHead(r io.Reader, most int) (string, error) {
	b, err := io.ReadAll(io.LimitReader(r, int64(most)+1))
	if err != nil || len(b) <= most {
		return string(b), err
	}
	const longest = 1024 // bytes of a key
	b = b[:most]
	end := bytes.LastIndexAny(b, " \t\r\n")
	return string(b[:max(end, most-longest, 0)]), nil
}
