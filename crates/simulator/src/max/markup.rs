//! Formatted text: Markdown and HTML in, plain text and spans out (MAX Bot API, text formatting).

use serde_json::{Value, json};

/// A stretch of text with a style; offsets count code points of the plain text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) style: Style,
    pub(super) from: usize,
    pub(super) length: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Emphasized,
    Strong,
    Strikethrough,
    Underline,
    Monospaced,
    Highlighted,
    Heading,
    Quote,
    Link(String),
    MentionOfUser(i64),
}

impl Style {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Emphasized => "emphasized",
            Self::Strong => "strong",
            Self::Strikethrough => "strikethrough",
            Self::Underline => "underline",
            Self::Monospaced => "monospaced",
            Self::Highlighted => "highlighted",
            Self::Heading => "heading",
            Self::Quote => "quote",
            Self::Link(_) => "link",
            Self::MentionOfUser(_) => "user_mention",
        }
    }

    pub(super) fn details(&self, out: &mut Value) {
        match self {
            Self::Link(url) => out["url"] = json!(url),
            Self::MentionOfUser(user) => out["user_id"] = json!(user),
            _ => {}
        }
    }

    /// A link, or the mention that an address of the form `max://user/<id>` stands for.
    fn of_address(address: &str) -> Self {
        match address.strip_prefix("max://user/").and_then(|id| id.parse().ok()) {
            Some(user) => Self::MentionOfUser(user),
            None => Self::Link(address.to_owned()),
        }
    }
}

#[derive(Default)]
struct Plain {
    text: String,
    length: usize,
    spans: Vec<Span>,
}

impl Plain {
    fn push(&mut self, character: char) {
        self.text.push(character);
        self.length += 1;
    }

    fn close(&mut self, style: Style, from: usize) {
        if self.length > from {
            self.spans.push(Span { style, from, length: self.length - from });
        }
    }

    fn finish(mut self) -> (String, Vec<Span>) {
        self.spans.sort_by_key(|span| (span.from, std::cmp::Reverse(span.length)));
        (self.text, self.spans)
    }
}

/// HTML: unknown tags are stripped.
pub(super) fn html(source: &str) -> (String, Vec<Span>) {
    let mut out = Plain::default();
    let mut open: Vec<(String, Style, usize)> = Vec::new();
    let mut rest = source;
    while let Some(character) = rest.chars().next() {
        if character == '<'
            && let Some(end) = rest.find('>')
        {
            let tag = &rest[1..end];
            rest = &rest[end + 1..];
            if let Some(name) = tag.strip_prefix('/') {
                let name = name.trim().to_ascii_lowercase();
                if let Some(at) = open.iter().rposition(|(opened, ..)| *opened == name) {
                    let (_, style, from) = open.remove(at);
                    out.close(style, from);
                }
            } else {
                let name: String =
                    tag.chars().take_while(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
                if name == "br" {
                    out.push('\n');
                } else if let Some(style) = style_of_tag(&name, tag) {
                    open.push((name, style, out.length));
                }
            }
            continue;
        }
        let entity =
            [("&lt;", '<'), ("&gt;", '>'), ("&quot;", '"'), ("&#39;", '\''), ("&nbsp;", '\u{a0}'), ("&amp;", '&')]
                .into_iter()
                .find(|(name, _)| rest.starts_with(name));
        if let Some((name, meant)) = entity {
            out.push(meant);
            rest = &rest[name.len()..];
        } else {
            out.push(character);
            rest = &rest[character.len_utf8()..];
        }
    }
    out.finish()
}

fn style_of_tag(name: &str, tag: &str) -> Option<Style> {
    Some(match name {
        "i" | "em" => Style::Emphasized,
        "b" | "strong" => Style::Strong,
        "s" | "del" => Style::Strikethrough,
        "u" | "ins" => Style::Underline,
        "code" | "pre" => Style::Monospaced,
        "mark" => Style::Highlighted,
        "h1" => Style::Heading,
        "blockquote" => Style::Quote,
        "a" => {
            let address = tag.split_once("href=")?.1;
            let quote = address.chars().next().filter(|quote| ['"', '\''].contains(quote))?;
            Style::of_address(address[1..].split(quote).next()?)
        }
        _ => return None,
    })
}

/// Markdown: a mark without its partner is text.
pub(super) fn markdown(source: &str) -> (String, Vec<Span>) {
    let mut out = Plain::default();
    for (at, line) in source.split('\n').enumerate() {
        if at > 0 {
            out.push('\n');
        }
        let (style, line) = if let Some(line) = line.strip_prefix("# ") {
            (Some(Style::Heading), line)
        } else if let Some(line) = line.strip_prefix("> ") {
            (Some(Style::Quote), line)
        } else {
            (None, line)
        };
        let from = out.length;
        inline(line, &mut out);
        if let Some(style) = style {
            out.close(style, from);
        }
    }
    out.finish()
}

fn inline(line: &str, out: &mut Plain) {
    // The longer marks first: `**` is not two `*`.
    let marks = [
        ("**", Style::Strong),
        ("__", Style::Strong),
        ("~~", Style::Strikethrough),
        ("++", Style::Underline),
        ("^^", Style::Highlighted),
        ("`", Style::Monospaced),
        ("*", Style::Emphasized),
        ("_", Style::Emphasized),
    ];
    let mut rest = line;
    'text: while let Some(character) = rest.chars().next() {
        if character == '\\'
            && let Some(escaped) = rest[1..].chars().next().filter(char::is_ascii_punctuation)
        {
            out.push(escaped);
            rest = &rest[1 + escaped.len_utf8()..];
            continue;
        }
        if character == '['
            && let Some((title, after)) = rest[1..].split_once("](")
            && let Some((address, after)) = after.split_once(')')
        {
            let from = out.length;
            inline(title, out);
            out.close(Style::of_address(address), from);
            rest = after;
            continue;
        }
        for (mark, style) in &marks {
            if let Some(inner) = rest.strip_prefix(mark)
                && let Some((content, after)) = inner.split_once(mark)
                && !content.is_empty()
                && !content.starts_with(' ')
                && !content.ends_with(' ')
            {
                let from = out.length;
                if *mark == "`" {
                    content.chars().for_each(|character| out.push(character));
                } else {
                    inline(content, out);
                }
                out.close(style.clone(), from);
                rest = after;
                continue 'text;
            }
        }
        out.push(character);
        rest = &rest[character.len_utf8()..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown((text, spans): (String, Vec<Span>)) -> String {
        let spans: Vec<String> = spans.iter().map(|s| format!("{} {}+{}", s.style.name(), s.from, s.length)).collect();
        format!("{text}|{}", spans.join(","))
    }

    #[test]
    fn both_languages_give_plain_text_and_spans() {
        for (source, expected) in [
            ("a **b** c", "a b c|strong 2+1"),
            ("*x* _y_", "x y|emphasized 0+1,emphasized 2+1"),
            ("~~s~~ ++u++ ^^h^^ `m*`", "s u h m*|strikethrough 0+1,underline 2+1,highlighted 4+1,monospaced 6+2"),
            ("# T\n> q", "T\nq|heading 0+1,quote 2+1"),
            ("[t](https://a.example) [N](max://user/5)", "t N|link 0+1,user_mention 2+1"),
            ("**a *b* c**", "a b c|strong 0+5,emphasized 2+1"),
            ("2 * 3 * 4 \\*x\\*", "2 * 3 * 4 *x*|"),
        ] {
            assert_eq!(shown(markdown(source)), expected, "{source}");
        }
        for (source, expected) in [
            ("a <b>b</b> <i>c</i>", "a b c|strong 2+1,emphasized 4+1"),
            ("<a href=\"https://a.example\">t</a>&lt;&amp;", "t<&|link 0+1"),
            ("<unknown>x</unknown><b></b>", "x|"),
            (
                "<s>s</s><u>u</u><code>c</code><mark>m</mark><h1>h</h1><blockquote>q</blockquote>",
                "sucmhq|strikethrough 0+1,underline 1+1,monospaced 2+1,highlighted 3+1,heading 4+1,quote 5+1",
            ),
        ] {
            assert_eq!(shown(html(source)), expected, "{source}");
        }
    }
}
