package notify

import "time"

// Rate allows at most N in any Per.
type Rate struct {
	N   int
	Per time.Duration
}

// Limit is how much a channel takes. A zero Rate is the class's default.
type Limit struct {
	Posts Rate // everything but edits
	Edits Rate // roots rewritten
}

// Limiter is a Sink whose service shuts out who sends more than so much.
type Limiter interface{ Limit() Limit }

func perMinute(n int) Limit { return Limit{Posts: Rate{N: n, Per: time.Minute}} }

// Limit implements [Limiter].
func (*dingTalk) Limit() Limit { return perMinute(dingPerMinute) }

// Limit implements [Limiter].
func (s *shoutrrr) Limit() Limit { return perMinute(s.scheme.pace) }

// withDefaults: chats take a message a second, and Slack 50 edits a minute
// (its Tier 3, of which some room is left); other services take more.
func (l Limit) withDefaults(c Class) Limit {
	posts := Rate{N: 1, Per: time.Second}
	if c == Alert || c == Feed {
		posts.N = 5
	}
	return Limit{Posts: l.Posts.or(posts), Edits: l.Edits.or(Rate{N: 40, Per: time.Minute})}
}

func (r Rate) or(def Rate) Rate {
	if r.N <= 0 || r.Per <= 0 {
		return def
	}
	return r
}

// bucket is a token bucket. A quarter of the rate may be used at once and the
// rest is spread evenly, so that no span of Per ever holds more than N: some
// services lock a robot out that sends one too many.
type bucket struct {
	size  float64
	every time.Duration // between two tokens
	have  float64
	at    time.Time // of have
}

func newBucket(r Rate) bucket {
	size := max(1, r.N/4)
	return bucket{size: float64(size), every: r.Per / time.Duration(max(1, r.N-size)), have: float64(size)}
}

func (b *bucket) fill(now time.Time) {
	if gone := now.Sub(b.at); gone > 0 {
		if !b.at.IsZero() {
			b.have = min(b.size, b.have+float64(gone)/float64(b.every))
		}
		b.at = now
	}
}

// ready is when a token is there: now, or later.
func (b *bucket) ready(now time.Time) time.Time {
	b.fill(now)
	if b.have >= 1 {
		return now
	}
	return now.Add(time.Duration((1-b.have)*float64(b.every)) + time.Millisecond)
}

func (b *bucket) take(now time.Time) {
	b.fill(now)
	b.have--
}

// tokens are what a bucket has: kept, it goes on from there after a restart.
type tokens struct {
	Have float64 `json:"have"`
	At   stamp   `json:"at"`
}

func (b *bucket) tokens() tokens { return tokens{b.have, stampOf(b.at)} }

func (b *bucket) resume(t tokens, now time.Time) {
	if t.At == 0 {
		return
	}
	b.have, b.at = min(b.size, t.Have), t.At.time()
	b.notAfter(now)
}

// notAfter: the clock has been set back to now.
func (b *bucket) notAfter(now time.Time) {
	if b.at.After(now) {
		b.at = now
	}
}
