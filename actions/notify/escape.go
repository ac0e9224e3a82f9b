package notify

import (
	"strings"
	"unicode/utf8"

	"github.com/defib-dev/defib/watcher/mask"
)

// This file makes text that a container chose harmless for each service. All
// functions first drop escape sequences, control characters, marks that turn
// the direction of writing and other invisible characters; a line end stays.
// None of them touches a secret: what reaches this package is masked.

// maxText bounds one text, in bytes. It is far above what any service takes.
const maxText = 64 << 10

// joiner is U+2060, which nobody sees and which may stand anywhere. Between the
// characters of a mark it keeps the mark from being one.
const joiner = "\u2060"

// Clean makes s one line that is fit to be shown: no escape sequences, control
// characters or invisible characters; line ends and tabs become spaces; invalid
// UTF-8 becomes U+FFFD. It gives back at most 64 KiB.
func Clean(s string) string { return strings.TrimRight(mask.Clean(head(s), false, maxText), " ") }

// Plain is [Clean] for a text of several lines, for services without markup.
func Plain(s string) string { return mask.Clean(head(s), true, maxText) }

// head bounds what is looked at, for text that is mostly not seen.
func head(s string) string {
	n := 4 * maxText
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// Slack escapes s for mrkdwn. A mention needs a bare "<", and a word such as
// @channel counts where names are linked.
func Slack(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "@", "@"+joiner).Replace(Plain(s))
}

// Discord makes mentions, links with a text of their own and the end of a code
// block in s mere text.
func Discord(s string) string { return Markdown(s) }

// DingTalk is [Markdown]; its robots also call whom "@" and a number name.
func DingTalk(s string) string { return Markdown(s) }

// WeCom is [Markdown]; its robots call whom <@name> names.
func WeCom(s string) string { return Markdown(s) }

// Feishu makes the tags in s, such as <at user_id="all">, mere text.
func Feishu(s string) string { return Markdown(s) }

// Markdown does so for the dialects of Markdown that chats speak: it breaks
// mentions (@name, <@id>, <users/all>, @**all**), tags, links and pictures, and
// runs of backticks. Single backticks stay, so that commands can be told from
// the words around them.
func Markdown(s string) string {
	return strings.NewReplacer("@", "@"+joiner, "<", "<"+joiner, "](", "]"+joiner+"(", "``", "`"+joiner+"`"+joiner).Replace(Plain(s))
}

// cutBytes bounds s to so many bytes at a rune boundary, with an ellipsis when
// something is left out and there is room for it.
func cutBytes(s string, most int) string {
	const dots = "…"
	switch {
	case len(s) <= most:
		return s
	case most < len(dots):
		return ""
	}
	n := most - len(dots)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + dots
}
