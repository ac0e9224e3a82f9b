package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
)

// Notify asks how the channels do, and what waits.
func (c *Client) Notify(ctx context.Context) (Notify, error) {
	return get[Notify](ctx, c, "/v1/notify")
}

// TestNotify sends a test message to one channel, or to all for "", and waits
// for what comes of it.
func (c *Client) TestNotify(ctx context.Context, channel string) (NotifyTested, error) {
	return post[NotifyTested](ctx, c, "/v1/notify/test", NotifyTest{Channel: channel})
}

// Silences asks for those that have not ended.
func (c *Client) Silences(ctx context.Context) (Silences, error) {
	return get[Silences](ctx, c, "/v1/silences")
}

// Silence begins one.
func (c *Client) Silence(ctx context.Context, o SilenceOrder) (Silenced, error) {
	return post[Silenced](ctx, c, "/v1/silences", o)
}

// Unsilence ends one.
func (c *Client) Unsilence(ctx context.Context, id string) (Silenced, error) {
	return read[Silenced](ctx, c, http.MethodDelete, "/v1/silences/"+url.PathEscape(id), nil)
}

func post[T any](ctx context.Context, c *Client, path string, v any) (T, error) {
	data, err := json.Marshal(v)
	if err != nil {
		var zero T
		return zero, fmt.Errorf("write the order: %w", err)
	}
	return read[T](ctx, c, http.MethodPost, path, data)
}
