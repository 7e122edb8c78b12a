//! The format of Java's properties files (`docs/protocol.md` §9.1): `=`, `:` or a blank behind the
//! key, `#` and `!` comments, backslash continuation and escapes.

use std::collections::BTreeMap;

/// A key's value, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Value {
    pub text: String,
    pub place: String,
}

/// What is set, by the keys' names without `zookeeper.`.
pub(super) type Values = BTreeMap<String, Value>;

/// Splits a text into (key, value, number of the line where the key stands), in file order.
///
/// A key that stands twice is given twice; with Java the last one wins.
pub fn parse(text: &str) -> Vec<(String, String, usize)> {
    let mut found = Vec::new();
    // Java ends a line at a lone carriage return too: no key may hide behind one.
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut lines = text.lines().enumerate();
    while let Some((number, first)) = lines.next() {
        let mut logical = first.trim_start().to_owned();
        if logical.is_empty() || logical.starts_with(['#', '!']) {
            continue;
        }
        while continues(&logical) {
            logical.pop();
            match lines.next() {
                Some((_, more)) => logical += more.trim_start(),
                None => break,
            }
        }
        let (key, value) = split_property(&logical);
        found.push((unescape(key), unescape(value).trim().to_owned(), number + 1));
    }
    found
}

/// An odd number of backslashes at the end.
fn continues(line: &str) -> bool {
    line.chars().rev().take_while(|&c| c == '\\').count() % 2 == 1
}

fn split_property(line: &str) -> (&str, &str) {
    let mut escaped = false;
    for (at, c) in line.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == '=' || c == ':' || c.is_whitespace() {
            let value = line[at..].trim_start();
            let value = value.strip_prefix(['=', ':']).unwrap_or(value);
            return (&line[..at], value.trim_start());
        }
    }
    (line, "")
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('u') => {
                let digits: String = chars.by_ref().take(4).collect();
                let code = u32::from_str_radix(&digits, 16)
                    .ok()
                    .and_then(char::from_u32);
                out.push(code.unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_separator_comment_and_continuation_is_understood() {
        let text = "# no = 1\n! no = 2\n\na=1\n  b : 2\nc 3\nd\ne = 4, \\\n   5\n\\u0066\\==\\t6\ra = 7\r\nb=8";
        let found = parse(text);
        let found: Vec<(&str, &str, usize)> = found
            .iter()
            .map(|(key, value, line)| (key.as_str(), value.as_str(), *line))
            .collect();
        assert_eq!(
            found,
            [
                ("a", "1", 4),
                ("b", "2", 5),
                ("c", "3", 6),
                ("d", "", 7),
                ("e", "4, 5", 8),
                ("f=", "6", 10),
                ("a", "7", 11),
                ("b", "8", 12),
            ]
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(?s).*") {
            parse(&text);
        }

        #[test]
        fn what_is_escaped_is_read(key in "[a-z.]{1,9}", value in "[a-z0-9/,*]{0,20}") {
            let text = format!("  {key} = {}\n", value.replace('/', "\\/"));
            prop_assert_eq!(parse(&text), vec![(key, value, 1)]);
        }
    }
}
