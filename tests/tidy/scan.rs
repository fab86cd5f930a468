//! Just enough of Rust's grammar to see what a file names: its code without comments, strings and tests, as words, and
//! the paths in them.

/// The text with comments, strings and characters blanked; lines stay where they are.
pub(super) fn code_of(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => end_of_line(&chars, at),
            '/' if chars.get(at + 1) == Some(&'*') => end_of_block(&chars, at),
            '"' => end_of_string(&chars, at + 1),
            'r' if !in_word(&chars, at) => end_of_raw(&chars, at + 1).unwrap_or(at),
            '\'' => end_of_char(&chars, at).unwrap_or(at),
            _ => at,
        };
        if end == at {
            code.push(chars[at]);
            at += 1;
        } else {
            code.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    code
}

fn end_of_line(chars: &[char], start: usize) -> usize {
    chars[start..].iter().position(|c| *c == '\n').map_or(chars.len(), |length| start + length)
}

fn end_of_block(chars: &[char], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn end_of_string(chars: &[char], start: usize) -> usize {
    let mut at = start;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// Whether the letter is the end or the middle of a longer word; `br"…"` is none.
fn in_word(chars: &[char], at: usize) -> bool {
    let is_word = |c: &char| c.is_alphanumeric() || *c == '_';
    match at.checked_sub(1).map(|before| chars[before]) {
        Some('b') => at >= 2 && is_word(&chars[at - 2]),
        Some(before) => is_word(&before),
        None => false,
    }
}

/// From behind the `r` of a raw string to its end; `None` if it is none.
fn end_of_raw(chars: &[char], start: usize) -> Option<usize> {
    let hashes = chars[start..].iter().take_while(|c| **c == '#').count();
    if chars.get(start + hashes) != Some(&'"') {
        return None;
    }
    let mut at = start + hashes + 1;
    while at < chars.len() {
        let closed = chars[at] == '"' && chars[at + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes;
        at += 1;
        if closed {
            return Some(at + hashes);
        }
    }
    Some(chars.len())
}

/// `None` for a lifetime.
fn end_of_char(chars: &[char], start: usize) -> Option<usize> {
    match (chars.get(start + 1)?, chars.get(start + 2)) {
        ('\\', _) => chars[start + 3..].iter().position(|c| *c == '\'').map(|length| start + 3 + length + 1),
        (_, Some('\'')) => Some(start + 3),
        _ => None,
    }
}

/// A word, `::`, or one other character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) line: usize,
    pub(super) text: String,
}

impl Token {
    fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

/// The words of the code, that of tests left out: items under `#[cfg(test)]`.
pub(super) fn tokens_of(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    for (number, line) in code_of(text).lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let length = if word > 0 {
                word
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            tokens.push(Token { line: number + 1, text: rest[..length].to_owned() });
            rest = rest[length..].trim_start();
        }
    }
    without_tests(tokens)
}

fn without_tests(tokens: Vec<Token>) -> Vec<Token> {
    let mark = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let is_mark =
            tokens.len() - at >= mark.len() && mark.iter().zip(&tokens[at..]).all(|(mark, token)| token.text == *mark);
        if is_mark {
            at = end_of_item(&tokens, at + mark.len());
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// Behind the item's block or semicolon.
fn end_of_item(tokens: &[Token], start: usize) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(start) {
        match token.text.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth -= 1,
            ";" if depth == 0 => return at + 1,
            _ => {}
        }
        // A field or a variant is the last of its kind.
        if depth < 0 {
            return at;
        }
        if depth == 0 && token.text == "}" {
            return at + 1;
        }
    }
    tokens.len()
}

/// A path that a file names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) line: usize,
    /// From the crate's root on, or from another crate's name.
    pub(super) path: Vec<String>,
    /// It is of this crate.
    pub(super) is_ours: bool,
}

/// All paths that begin at `crate`, `super` or another crate. `module` is where the file stands: `["pipeline", "decode"]`.
pub(super) fn paths_of(tokens: &[Token], module: &[&str]) -> Vec<Named> {
    let mut named = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let follows = |offset: usize, text: &str| tokens.get(at + offset).is_some_and(|token| token.text == text);
        let begins = tokens[at].is_word() && follows(1, "::") && !(at > 0 && tokens[at - 1].text == "::");
        if !begins {
            at += 1;
            continue;
        }
        let (prefix, is_ours, behind) = match tokens[at].text.as_str() {
            "crate" | "dce" => (Vec::new(), true, at + 2),
            "super" => {
                let (mut ups, mut behind) = (1, at + 2);
                while tokens.get(behind).is_some_and(|token| token.text == "super") {
                    (ups, behind) = (ups + 1, behind + 2);
                }
                let parents = &module[..module.len().saturating_sub(ups)];
                (parents.iter().map(|name| (*name).to_owned()).collect(), true, behind)
            }
            "self" | "Self" => {
                at += 2;
                continue;
            }
            other => (vec![other.to_owned()], false, at + 2),
        };
        at = read_tree(tokens, behind, &prefix, is_ours, &mut named);
    }
    named
}

/// Reads `a::{b, c::*}` with what stands before it; gives where it ends.
fn read_tree(tokens: &[Token], start: usize, prefix: &[String], is_ours: bool, named: &mut Vec<Named>) -> usize {
    let mut path = prefix.to_vec();
    let mut at = start;
    let line = tokens.get(start.min(tokens.len().saturating_sub(1))).map_or(0, |token| token.line);
    while let Some(token) = tokens.get(at) {
        if token.text == "{" {
            at += 1;
            while let Some(token) = tokens.get(at) {
                match token.text.as_str() {
                    "}" => return at + 1,
                    "," => at += 1,
                    _ => at = read_tree(tokens, at, &path, is_ours, named).max(at + 1),
                }
            }
            return at;
        }
        if !token.is_word() && token.text != "*" {
            break;
        }
        if token.text != "self" && token.text != "*" {
            path.push(token.text.clone());
        }
        at += 1;
        if tokens.get(at).is_some_and(|token| token.text == "as") {
            at += 2;
        }
        if tokens.get(at).is_none_or(|token| token.text != "::") {
            break;
        }
        at += 1;
    }
    named.push(Named { line, path, is_ours });
    at
}
