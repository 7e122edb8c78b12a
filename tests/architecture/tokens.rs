//! What a Rust file declares and names, from its tokens: comments and strings can't be mistaken for
//! code, and what is compiled for tests only is left out item by item.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};

/// A path that production code names, `use` trees spelt out: `use a::{b, c::*}` is `a::b`, `a::c`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The inline modules (`mod x { … }`) of the file that the path stands in.
    pub inside: Vec<String>,
    /// As written, without generic arguments.
    pub segments: Vec<String>,
    /// Where it stands.
    pub kind: Kind,
    /// Counted from 1.
    pub line: usize,
}

/// Where a path stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// In a signature, a type or an expression.
    Code,
    /// In a `use` item.
    Import {
        /// The name that it binds; none for a glob.
        binds: Option<String>,
        /// With any `pub`: the name is passed on.
        public: bool,
    },
}

/// A `mod` item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// The inline modules around it.
    pub inside: Vec<String>,
    pub name: String,
    /// `mod x { … }` rather than a file of its own.
    pub inline: bool,
    /// Compiled for tests only. What an inline one holds is left out.
    pub for_tests: bool,
}

/// A file's production code.
#[derive(Clone, Debug, Default)]
pub struct Code {
    pub modules: Vec<Declared>,
    pub named: Vec<Named>,
    /// Types, functions, constants, traits and macros, by the inline modules around them.
    pub items: BTreeMap<Vec<String>, BTreeSet<String>>,
    /// What imports bind, by the inline modules around them.
    pub bound: BTreeMap<Vec<String>, BTreeMap<String, Vec<String>>>,
    /// Globs, by the inline modules around them.
    pub globs: BTreeMap<Vec<String>, Vec<Vec<String>>>,
    /// Lines of the keyword `unsafe`.
    pub unsafe_lines: Vec<usize>,
}

impl Code {
    /// # Panics
    /// If the text is no Rust.
    pub fn of(text: &str) -> Self {
        let tokens: TokenStream = text.parse().expect("Rust that compiles");
        let mut code = Self::default();
        code.walk(&tokens.into_iter().collect::<Vec<_>>(), &[], true);
        for named in &code.named {
            let inside = named.inside.clone();
            match &named.kind {
                Kind::Code => {}
                Kind::Import { binds: None, .. } => code
                    .globs
                    .entry(inside)
                    .or_default()
                    .push(named.segments.clone()),
                Kind::Import {
                    binds: Some(name), ..
                } => {
                    let bound = code.bound.entry(inside).or_default();
                    bound
                        .entry(name.clone())
                        .or_insert_with(|| named.segments.clone());
                }
            }
        }
        code
    }

    fn item(&mut self, inside: &[String], name: &TokenTree) {
        self.items
            .entry(inside.to_vec())
            .or_default()
            .insert(name.to_string());
    }

    /// `items`: what is declared here is the module's, not a function's or a type's own.
    fn walk(&mut self, tokens: &[TokenTree], inside: &[String], items: bool) {
        let mut at = 0;
        // The `pub` of the item that begins here, if it has one.
        let mut public = false;
        while at < tokens.len() {
            if let Some((attribute, inner, next)) = attribute(tokens, at) {
                if test_only(&attribute) {
                    if inner {
                        return;
                    }
                    at = self.skip_item(tokens, next, inside);
                } else {
                    if !is_ident(attribute.first(), "doc") {
                        self.walk(&attribute, inside, false);
                    }
                    at = next;
                }
                continue;
            }
            match &tokens[at] {
                TokenTree::Ident(word) => {
                    let word = word.to_string();
                    match word.as_str() {
                        "pub" => {
                            public = true;
                            at += 1;
                            // Not `crate` in `pub(crate)`: it names nothing.
                            at += usize::from(
                                group(tokens.get(at), Delimiter::Parenthesis).is_some(),
                            );
                            continue;
                        }
                        "use" if !is_punct(tokens.get(at + 1), '<') => {
                            let end = until(tokens, at, ';');
                            let mut tree = Vec::new();
                            use_tree(&tokens[at + 1..end], &mut Vec::new(), &mut tree);
                            self.named
                                .extend(tree.into_iter().map(|(segments, binds)| Named {
                                    inside: inside.to_vec(),
                                    segments,
                                    kind: Kind::Import { binds, public },
                                    line: line(&tokens[at]),
                                }));
                            at = end + 1;
                        }
                        "mod" if matches!(tokens.get(at + 1), Some(TokenTree::Ident(_))) => {
                            let name = tokens[at + 1].to_string();
                            let body = group(tokens.get(at + 2), Delimiter::Brace);
                            self.modules.push(Declared {
                                inside: inside.to_vec(),
                                name: name.clone(),
                                inline: body.is_some(),
                                for_tests: false,
                            });
                            if let Some(body) = body {
                                let within = [inside, &[name]].concat();
                                self.walk(&trees(body), &within, true);
                            }
                            at += 3;
                        }
                        "struct" | "enum" | "union" | "trait" | "type" | "fn" | "const"
                        | "static"
                            if matches!(tokens.get(at + 1), Some(TokenTree::Ident(_))) =>
                        {
                            if items {
                                self.item(inside, &tokens[at + 1]);
                            }
                            at += if word == "const" { 1 } else { 2 };
                        }
                        "unsafe" => {
                            self.unsafe_lines.push(line(&tokens[at]));
                            at += 1;
                            continue;
                        }
                        "macro_rules" => {
                            if let Some(name) = tokens.get(at + 2) {
                                self.item(inside, name);
                            }
                            at += 3;
                        }
                        _ => at = self.path(tokens, at, inside),
                    }
                }
                TokenTree::Group(group) => {
                    self.walk(&trees(group), inside, false);
                    at += 1;
                }
                // A lifetime, a field or a method names no path.
                TokenTree::Punct(p) if p.as_char() == '\'' => at += 2,
                TokenTree::Punct(p) if p.as_char() == '.' && !is_punct(tokens.get(at + 1), '.') => {
                    at += 1;
                    at += usize::from(matches!(tokens.get(at), Some(TokenTree::Ident(_))));
                }
                _ => at += 1,
            }
            public = false;
        }
    }

    /// The path that begins here; the index behind it.
    fn path(&mut self, tokens: &[TokenTree], begin: usize, inside: &[String]) -> usize {
        let mut segments = vec![tokens[begin].to_string()];
        let mut at = begin + 1;
        while separator(tokens, at) {
            match tokens.get(at + 2) {
                Some(TokenTree::Ident(word)) => segments.push(word.to_string()),
                _ => break,
            }
            at += 3;
        }
        // Behind `>::` stands a name of a type's own.
        let continued =
            begin >= 3 && separator(tokens, begin - 2) && is_punct(tokens.get(begin - 3), '>');
        if !continued {
            self.named.push(Named {
                inside: inside.to_vec(),
                segments,
                kind: Kind::Code,
                line: line(&tokens[begin]),
            });
        }
        at
    }

    /// The index behind an item, field, arm or statement for tests; a module's declaration is kept.
    fn skip_item(&mut self, tokens: &[TokenTree], begin: usize, inside: &[String]) -> usize {
        let mut at = begin;
        while let Some((_, _, next)) = attribute(tokens, at) {
            at = next;
        }
        if is_ident(tokens.get(at), "pub") {
            at += 1 + usize::from(group(tokens.get(at + 1), Delimiter::Parenthesis).is_some());
        }
        let word = tokens.get(at).map(ToString::to_string).unwrap_or_default();
        if word == "mod" {
            self.modules.push(Declared {
                inside: inside.to_vec(),
                name: tokens[at + 1].to_string(),
                inline: group(tokens.get(at + 2), Delimiter::Brace).is_some(),
                for_tests: true,
            });
            return at + 3;
        }
        let function = ["fn", "unsafe", "async", "extern"]
            .iter()
            .any(|word| is_ident(tokens.get(at + 1), word));
        match word.as_str() {
            "use" | "static" | "type" | "let" => until(tokens, at, ';') + 1,
            "const" if !function => until(tokens, at, ';') + 1,
            _ => {
                let item = [
                    "fn", "const", "unsafe", "async", "extern", "struct", "enum", "union", "impl",
                    "trait",
                ];
                let in_list = !item.contains(&word.as_str());
                let mut angles = 0;
                while at < tokens.len() {
                    match &tokens[at] {
                        TokenTree::Punct(p) if p.as_char() == '<' => angles += 1,
                        TokenTree::Punct(p) if p.as_char() == '>' => angles -= 1,
                        TokenTree::Punct(p) if p.as_char() == ';' => return at + 1,
                        TokenTree::Punct(p) if p.as_char() == ',' && in_list && angles <= 0 => {
                            return at + 1;
                        }
                        TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                            return at
                                + 1
                                + usize::from(in_list && is_punct(tokens.get(at + 1), ','));
                        }
                        _ => {}
                    }
                    at += 1;
                }
                at
            }
        }
    }
}

/// The content of the attribute that begins here, whether it is `#![…]`, and the index behind it.
fn attribute(tokens: &[TokenTree], at: usize) -> Option<(Vec<TokenTree>, bool, usize)> {
    if !is_punct(tokens.get(at), '#') {
        return None;
    }
    let inner = is_punct(tokens.get(at + 1), '!');
    let place = at + 1 + usize::from(inner);
    let content = group(tokens.get(place), Delimiter::Bracket)?;
    Some((trees(content), inner, place + 1))
}

/// Whether what has this attribute is compiled for tests only.
fn test_only(attribute: &[TokenTree]) -> bool {
    match attribute {
        [TokenTree::Ident(word)] => word == "test",
        [TokenTree::Ident(word), TokenTree::Group(predicate)] if word == "cfg" => {
            without_tests(&trees(predicate)) == Some(false)
        }
        _ => false,
    }
}

/// The value of a `cfg` predicate in a build without tests; none if it depends on more than that.
fn without_tests(predicate: &[TokenTree]) -> Option<bool> {
    match predicate {
        [TokenTree::Ident(word)] if word == "test" => Some(false),
        [TokenTree::Ident(word), TokenTree::Group(parts), ..] => {
            let parts = trees(parts);
            let values: Vec<Option<bool>> = parts
                .split(|token| is_punct(Some(token), ','))
                .filter(|part| !part.is_empty())
                .map(without_tests)
                .collect();
            match word.to_string().as_str() {
                "not" => values[0].map(|value| !value),
                "all" if values.contains(&Some(false)) => Some(false),
                "all" if values.iter().all(|value| *value == Some(true)) => Some(true),
                "any" if values.contains(&Some(true)) => Some(true),
                "any" if values.iter().all(|value| *value == Some(false)) => Some(false),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Each path of a `use` tree, and the name that it binds: none for a glob.
fn use_tree(
    tokens: &[TokenTree],
    prefix: &mut Vec<String>,
    into: &mut Vec<(Vec<String>, Option<String>)>,
) {
    let depth = prefix.len();
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Ident(word) if word == "as" => {
                let alias = tokens[at + 1].to_string();
                into.push((prefix.clone(), Some(alias)));
                prefix.truncate(depth);
                return;
            }
            TokenTree::Ident(word) => prefix.push(word.to_string()),
            TokenTree::Group(group) => {
                for part in trees(group).split(|token| is_punct(Some(token), ',')) {
                    use_tree(part, prefix, into);
                }
                prefix.truncate(depth);
                return;
            }
            TokenTree::Punct(p) if p.as_char() == '*' => {
                into.push((prefix.clone(), None));
                prefix.truncate(depth);
                return;
            }
            _ => {}
        }
        at += 1;
    }
    // `a::{self}` is `a`.
    if prefix.len() > 1 && prefix.last().is_some_and(|word| word == "self") {
        prefix.pop();
    }
    if let Some(last) = prefix.last().filter(|_| at > 0) {
        into.push((prefix.clone(), Some(last.clone())));
    }
    prefix.truncate(depth);
}

fn trees(group: &Group) -> Vec<TokenTree> {
    group.stream().into_iter().collect()
}

fn group(token: Option<&TokenTree>, delimiter: Delimiter) -> Option<&Group> {
    match token {
        Some(TokenTree::Group(group)) if group.delimiter() == delimiter => Some(group),
        _ => None,
    }
}

fn is_punct(token: Option<&TokenTree>, c: char) -> bool {
    matches!(token, Some(TokenTree::Punct(p)) if p.as_char() == c)
}

fn is_ident(token: Option<&TokenTree>, word: &str) -> bool {
    matches!(token, Some(TokenTree::Ident(ident)) if ident == word)
}

/// Whether `::` stands here.
fn separator(tokens: &[TokenTree], at: usize) -> bool {
    is_punct(tokens.get(at), ':') && is_punct(tokens.get(at + 1), ':')
}

/// The index of the next such sign, or the end.
fn until(tokens: &[TokenTree], begin: usize, c: char) -> usize {
    (begin..tokens.len())
        .find(|at| is_punct(tokens.get(*at), c))
        .unwrap_or(tokens.len())
}

fn line(token: &TokenTree) -> usize {
    token.span().start().line
}
