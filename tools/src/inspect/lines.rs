//! A line of output, as text or as JSON.

use std::fmt::Display;
use std::io::{self, Write};

/// One thing in a file.
pub struct Line {
    pub file: String,
    pub offset: u64,
    pub what: &'static str,
    pub fields: Vec<(&'static str, Field)>,
}

/// A value. What may have more than 53 bits and is no count is text: readers of JSON would round it.
pub enum Field {
    Number(u64),
    Signed(i64),
    Flag(bool),
    Text(String),
    Null,
}

pub fn text(value: impl Display) -> Field {
    Field::Text(value.to_string())
}

impl Line {
    pub fn print(&self, json: bool, out: &mut dyn Write) -> io::Result<()> {
        let head = [
            ("file", &text(&self.file)),
            ("offset", &Field::Number(self.offset)),
            ("what", &text(self.what)),
        ];
        let fields = self.fields.iter().map(|(name, field)| (*name, field));
        if json {
            let all: Vec<String> = head
                .into_iter()
                .chain(fields)
                .map(|(name, field)| format!("\"{name}\":{}", field.json()))
                .collect();
            return writeln!(out, "{{{}}}", all.join(","));
        }
        let fields: Vec<String> = fields
            .map(|(name, field)| format!("{name}={}", field.plain()))
            .collect();
        let Line {
            file, offset, what, ..
        } = self;
        writeln!(out, "{file} {offset} {what} {}", fields.join(" "))
    }
}

impl Field {
    fn plain(&self) -> String {
        match self {
            Field::Number(n) => n.to_string(),
            Field::Signed(n) => n.to_string(),
            Field::Flag(flag) => flag.to_string(),
            Field::Null => "-".to_owned(),
            Field::Text(text) if text.contains(|c: char| c.is_control() || c == ' ') => {
                format!("{text:?}")
            }
            Field::Text(text) => text.clone(),
        }
    }

    fn json(&self) -> String {
        match self {
            Field::Text(text) => quoted(text),
            Field::Null => "null".to_owned(),
            other => other.plain(),
        }
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let mut units = [0; 2];
                let units = c.encode_utf16(&mut units);
                quoted.extend(units.iter().map(|unit| format!("\\u{unit:04x}")));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_any_characters_stays_one_json_string() {
        assert_eq!(
            quoted("/a \"b\"\\\n\u{7f}é"),
            "\"/a \\\"b\\\"\\\\\\u000a\\u007fé\""
        );
    }
}
