package notify

import (
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/slack-go/slack"
)

// Limits on what is written to Slack, in characters, from the reference of
// Block Kit where it has one: 150 in a header, 3,000 in a section, 10 fields.
// The others keep a message short enough to be read on a phone.
const (
	slackTitle    = 150
	slackFields   = 10
	slackFallback = 500       // the words of a notification
	slackFoot     = 400       // commands and IDs
	slackName     = 40        // of a link
	slackLine     = 300       // one line of a log
	slackMost     = 10 * 1000 // bytes of a whole message
)

// slackBudget is how many characters the parts of a message may have. Texts in
// scripts of several bytes, or of many characters to be escaped, need a smaller
// one than others.
type slackBudget struct{ lead, logs, steps, name, value int }

// slackBudgets returns the budgets to be tried, the widest first. The last
// holds for every text.
func slackBudgets(logs int) []slackBudget {
	return []slackBudget{
		{lead: 1500, logs: logs, steps: 1500, name: 40, value: 300},
		{lead: 1200, logs: logs / 2, steps: 800, name: 40, value: 200},
		{lead: 800, logs: logs / 5, steps: 300, name: 30, value: 100},
		{lead: 200, logs: 0, steps: 100, name: 20, value: 40},
	}
}

// slackContent is a message as Slack takes it: blocks, and the words that stand
// for them on a lock screen. Both always go together, since an edit that has
// only one of them deletes the other.
type slackContent struct {
	text   string
	blocks []slack.Block
}

func (c slackContent) option() slack.MsgOption {
	return slack.MsgOptionCompose(slack.MsgOptionText(c.text, false), slack.MsgOptionBlocks(c.blocks...))
}

func (c slackContent) size() int {
	b, err := json.Marshal(c.blocks)
	if err != nil { // of strings only: it cannot be
		return len(c.text)
	}
	return len(b) + len(c.text)
}

// fitting builds a message within the widest budget that keeps it below
// slackMost.
func fitting(logs int, build func(slackBudget) slackContent) slackContent {
	var c slackContent
	for _, b := range slackBudgets(logs) {
		if c = build(b); c.size() < slackMost {
			break
		}
	}
	return c
}

// slackRoot lays an incident out. The mention is Slack's markup, or nothing.
func slackRoot(t Text, mention string) slackContent {
	return fitting(1500, func(b slackBudget) slackContent {
		blocks := slackBlocks{}
		if title := cutRunes(Clean(t.Title), slackTitle); title != "" {
			blocks.add(slack.NewHeaderBlock(slack.NewTextBlockObject(slack.PlainTextType, title, false, false)))
		}
		blocks.section(joined(mention, mrkdwn(strings.Join(t.Lead, "\n"), b.lead)))
		blocks.logs(t.Logs, t.LogsMore, b.logs)
		blocks.fields(t.Fields, b)
		blocks.section(newest(t.Steps, b.steps))
		blocks.foot(t.Foot, t.Link)
		return slackContent{fallback(t, mention), blocks}
	})
}

// slackReply lays an answer in a thread out: evidence, steps, or a call for
// somebody, who then need not open the thread to know why.
func slackReply(m Message, mention string) slackContent {
	t := m.Text
	return fitting(3000, func(b slackBudget) slackContent {
		blocks := slackBlocks{}
		switch m.Kind {
		case KindEvidence:
			blocks.section(mrkdwn(strings.Join(t.Lead, "\n"), b.lead))
			blocks.logs(t.Logs, t.LogsMore, b.logs)
			t = Text{Title: t.Title, Lead: t.Lead}
		case KindStep:
			if len(t.Steps) > 0 {
				t = Text{Lead: t.Steps}
			}
			blocks.section(newest(t.Lead, b.lead))
		default:
			blocks.section(joined(mention, "*"+mrkdwn(Clean(t.Title), slackTitle)+"*"))
			blocks.section(mrkdwn(strings.Join(t.Lead, "\n"), b.lead))
			blocks.foot(t.Foot, t.Link)
		}
		return slackContent{fallback(t, mention), blocks}
	})
}

// fallback returns the words of a notification: the title and what everybody
// should see. A message without any is refused, so there are always some.
func fallback(t Text, mention string) string {
	words := joined(mention, mrkdwn(strings.Join(append([]string{Clean(t.Title)}, t.Lead...), "\n"), slackFallback))
	if words == "" {
		return "defib"
	}
	return words
}

func joined(mention, text string) string { return strings.TrimSpace(mention + " " + text) }

// mrkdwn escapes s for Slack within so many characters, escapes counted.
func mrkdwn(s string, most int) string {
	s = strings.TrimSpace(Plain(s))
	for n := most; n > 0; {
		out := Slack(cutRunes(s, n))
		over := utf8.RuneCountInString(out) - most
		if over <= 0 {
			return out
		}
		n -= max(1, over/5) // one character becomes at most five: &amp;
	}
	return ""
}

// newest returns the last lines of a list that fit, with an ellipsis in place
// of the others.
func newest(list []string, most int) string {
	out := ""
	for _, line := range slices.Backward(list) {
		line = mrkdwn(Clean(line), slackLine)
		if utf8.RuneCountInString(out)+utf8.RuneCountInString(line)+3 > most {
			return strings.TrimSpace("…\n" + out)
		}
		out = strings.TrimSpace(line + "\n" + out)
	}
	return out
}

// slackBlocks grows block by block. Slack refuses empty ones, so they are left
// out.
type slackBlocks []slack.Block

func (b *slackBlocks) add(block slack.Block) { *b = append(*b, block) }

// section adds text that is escaped already. It is verbatim, so Slack makes no
// links and mentions of its own out of what a container wrote.
func (b *slackBlocks) section(text string) {
	if text != "" {
		b.add(slack.NewSectionBlock(slack.NewTextBlockObject(slack.MarkdownType, text, false, true), nil, nil))
	}
}

func (b *slackBlocks) fields(list []Field, budget slackBudget) {
	var out []*slack.TextBlockObject
	for _, f := range list {
		if len(out) == slackFields {
			break
		}
		name, value := mrkdwn(Clean(f.Name), budget.name), mrkdwn(f.Value, budget.value)
		if name != "" {
			name = "*" + name + "*\n"
		}
		if value != "" {
			out = append(out, slack.NewTextBlockObject(slack.MarkdownType, name+value, false, true))
		}
	}
	if len(out) > 0 {
		b.add(slack.NewSectionBlock(nil, out, nil))
	}
}

// logs adds the last lines that fit, and more in place of the others. Nothing in
// preformatted rich text means anything to Slack, so nothing is escaped.
func (b *slackBlocks) logs(list []string, more string, most int) {
	out, more := "", cutRunes(Clean(more), slackLine)
	most -= utf8.RuneCountInString(more) + 1
	for _, line := range slices.Backward(list) {
		line = cutRunes(Clean(line), slackLine)
		if utf8.RuneCountInString(out)+utf8.RuneCountInString(line)+1 > most {
			if out != "" && more != "" {
				out = more + "\n" + out
			}
			break
		}
		out = strings.TrimRight(line+"\n"+out, "\n")
	}
	if strings.TrimSpace(out) == "" {
		return
	}
	text := slack.NewRichTextSectionTextElement(out, nil)
	b.add(slack.NewRichTextBlock("", &slack.RichTextPreformatted{
		Type: slack.RTEPreformatted, Elements: []slack.RichTextSectionElement{text},
	}))
}

// foot adds commands and IDs, and the link, which is checked and may be one.
func (b *slackBlocks) foot(text string, link Field) {
	text = mrkdwn(text, slackFoot)
	if link.Value != "" {
		text = strings.TrimSpace(text + " · <" + strings.ReplaceAll(link.Value, "&", "&amp;") + "|" + mrkdwn(Clean(link.Name), slackName) + ">")
	}
	if text != "" {
		b.add(slack.NewContextBlock("", slack.NewTextBlockObject(slack.MarkdownType, text, false, true)))
	}
}
