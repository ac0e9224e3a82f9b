package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/defib-dev/defib/actions/notify"
)

// notifyDescs are the metrics of the channels on which people are told. The
// label channel is its name in the configuration.
type notifyDescs struct {
	sent, failed, dropped, waiting, oldest, parked, refusing, silent *prometheus.Desc
}

func newNotifyDescs() notifyDescs {
	return notifyDescs{
		sent:     desc("notifications_sent_total", "Messages that a channel has taken.", "channel"),
		failed:   desc("notifications_failed_total", "Attempts to send a message that failed, by why.", "channel", "reason"),
		dropped:  desc("notifications_dropped_total", "Messages that are never sent: refused for good, or too old to matter.", "channel"),
		waiting:  desc("notifications_waiting", "Messages that are due on a channel and not sent yet.", "channel"),
		oldest:   desc("notifications_oldest_seconds", "For how long the oldest of them has been due; 0 when none waits.", "channel"),
		parked:   desc("notifications_parked", "Whether a channel tells nobody, because its token or all that it is sent is refused.", "channel"),
		refusing: desc("notifications_refusing", "Whether a channel does not take a call for somebody, which the others make in its place.", "channel"),
		silent:   desc("notifications_silent", "Whether a channel is out of reach, so that the others call in its place.", "channel"),
	}
}

func (d notifyDescs) all() []*prometheus.Desc {
	return []*prometheus.Desc{d.sent, d.failed, d.dropped, d.waiting, d.oldest, d.parked, d.refusing, d.silent}
}

func (c *collector) channels(s sink, list []notify.ChannelStatus) {
	now := c.o.Now()
	for _, ch := range list {
		name := label(ch.Name)
		s.counter(c.notify.sent, ch.Sent, name)
		s.counter(c.notify.dropped, ch.Dropped, name)
		for _, r := range []notify.Reason{
			notify.ReasonAuth, notify.ReasonRateLimited, notify.ReasonClient, notify.ReasonServer,
			notify.ReasonTimeout, notify.ReasonNetwork, notify.ReasonGone,
		} {
			s.counter(c.notify.failed, ch.Failed[r], name, string(r))
		}
		s.gauge(c.notify.waiting, float64(ch.Waiting), name)
		oldest := 0.0
		if !ch.Oldest.IsZero() {
			oldest = max(0, now.Sub(ch.Oldest).Seconds())
		}
		s.gauge(c.notify.oldest, oldest, name)
		s.gauge(c.notify.parked, truth(!ch.Parked.IsZero()), name)
		s.gauge(c.notify.refusing, truth(!ch.Refused.IsZero()), name)
		s.gauge(c.notify.silent, truth(!ch.Silent.IsZero()), name)
	}
}
