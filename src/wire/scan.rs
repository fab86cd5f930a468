//! A strict JSON scanner over text already known to be UTF-8: tells values apart without building any, borrows every
//! one of them, and refuses exactly what `json.loads` of the rules' reference refuses. Takes text, gives [`Value`]s.
//!
//! serde_json's `RawValue` would do, but it walks every value twice, and the two limits below would be a third walk
//! (`docs/decisions/json-scanner.md` has the figures).

use std::borrow::Cow;

use super::error::DecodeError;

/// How deep objects and arrays may nest, the outermost included: what the reference can read.
pub(super) const DEPTH_MAX: usize = 991;
/// How many digits an integer may have, its sign aside, wherever it stands; a number with a fraction or an exponent
/// may have more.
pub(super) const INTEGER_DIGITS_MAX: usize = 4_300;

/// One JSON value, as it stands in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    /// The literal.
    Number(&'a str),
    Text(Quoted<'a>),
    /// From its brace to its brace.
    Object(&'a str),
    Array(&'a str),
}

impl<'a> Value<'a> {
    /// The value's text, for messages.
    pub(super) fn raw(self) -> &'a str {
        match self {
            Self::Null => "null",
            Self::Bool(true) => "true",
            Self::Bool(false) => "false",
            Self::Number(raw) | Self::Object(raw) | Self::Array(raw) => raw,
            Self::Text(quoted) => quoted.raw,
        }
    }
}

/// A JSON string with its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quoted<'a> {
    raw: &'a str,
    escaped: bool,
}

impl<'a> Quoted<'a> {
    /// What it says, borrowed where nothing is escaped. `None` for a lone surrogate, which JSON can write and text
    /// cannot hold.
    #[inline]
    pub(super) fn text(self) -> Option<Cow<'a, str>> {
        if self.escaped {
            serde_json::from_str::<String>(self.raw).ok().map(Cow::Owned)
        } else {
            Some(Cow::Borrowed(&self.raw[1..self.raw.len() - 1]))
        }
    }
}

/// Calls `member` with each member of the one object that `text` must be, in order, duplicates included.
#[inline]
pub(super) fn object<'a>(text: &'a str, mut member: impl FnMut(Quoted<'a>, Value<'a>)) -> Result<(), DecodeError> {
    let mut scanner = Scanner { text, bytes: text.as_bytes(), at: 0 };
    scanner.space();
    scanner.take(b'{', "'{'")?;
    scanner.space();
    if scanner.peek() == Some(b'}') {
        scanner.at += 1;
    } else {
        loop {
            let key = scanner.quoted("a name in quotes")?;
            scanner.space();
            scanner.take(b':', "':'")?;
            scanner.space();
            let value = scanner.value()?;
            member(key, value);
            scanner.space();
            match scanner.peek() {
                Some(b',') => scanner.at += 1,
                Some(b'}') => break scanner.at += 1,
                _ => return Err(scanner.not_json("',' or '}'")),
            }
            scanner.space();
        }
    }
    scanner.space();
    if scanner.at == text.len() { Ok(()) } else { Err(scanner.not_json("the end")) }
}

struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

/// What ends the quick walk through a string: its quote, an escape, and control characters, which JSON forbids.
const STOPS: [bool; 256] = {
    let mut stops = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        stops[byte] = true;
        byte += 1;
    }
    stops[b'"' as usize] = true;
    stops[b'\\' as usize] = true;
    stops
};

impl<'a> Scanner<'a> {
    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    #[inline]
    fn take(&mut self, byte: u8, expected: &'static str) -> Result<(), DecodeError> {
        if self.peek() != Some(byte) {
            return Err(self.not_json(expected));
        }
        self.at += 1;
        Ok(())
    }

    #[cold]
    fn not_json(&self, expected: &'static str) -> DecodeError {
        DecodeError::NotJson { at: self.at, expected }
    }

    #[inline]
    fn value(&mut self) -> Result<Value<'a>, DecodeError> {
        match self.peek() {
            Some(b'"') => self.quoted("a value").map(Value::Text),
            Some(b'-' | b'0'..=b'9') => self.number().map(Value::Number),
            Some(b'n') => self.literal("null").map(|()| Value::Null),
            Some(b't') => self.literal("true").map(|()| Value::Bool(true)),
            Some(b'f') => self.literal("false").map(|()| Value::Bool(false)),
            Some(b'{') => self.nested().map(Value::Object),
            Some(b'[') => self.nested().map(Value::Array),
            _ => Err(self.not_json("a value")),
        }
    }

    fn literal(&mut self, literal: &'static str) -> Result<(), DecodeError> {
        if !self.bytes[self.at..].starts_with(literal.as_bytes()) {
            return Err(self.not_json("a value"));
        }
        self.at += literal.len();
        Ok(())
    }

    #[inline]
    fn quoted(&mut self, expected: &'static str) -> Result<Quoted<'a>, DecodeError> {
        let start = self.at;
        self.take(b'"', expected)?;
        let mut escaped = false;
        loop {
            while self.peek().is_some_and(|byte| !STOPS[usize::from(byte)]) {
                self.at += 1;
            }
            match self.peek() {
                Some(b'"') => break self.at += 1,
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                _ => return Err(self.not_json("a character or '\"'")),
            }
        }
        Ok(Quoted { raw: &self.text[start..self.at], escaped })
    }

    fn escape(&mut self) -> Result<(), DecodeError> {
        let known = match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
            Some(b'u') => 6,
            _ => return Err(self.not_json("an escape")),
        };
        let digits = self.bytes.get(self.at + 2..self.at + known);
        if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            return Err(self.not_json("an escape"));
        }
        self.at += known;
        Ok(())
    }

    #[inline]
    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        self.at - start
    }

    #[inline]
    fn number(&mut self) -> Result<&'a str, DecodeError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let digits = if self.peek() == Some(b'0') {
            self.at += 1;
            1
        } else {
            self.digits()
        };
        if digits == 0 {
            return Err(self.not_json("a digit"));
        }
        let mut integer = true;
        if self.peek() == Some(b'.') {
            integer = false;
            self.at += 1;
            if self.digits() == 0 {
                return Err(self.not_json("a digit"));
            }
        }
        if let Some(b'e' | b'E') = self.peek() {
            integer = false;
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            if self.digits() == 0 {
                return Err(self.not_json("a digit"));
            }
        }
        if integer && digits > INTEGER_DIGITS_MAX {
            return Err(DecodeError::IntegerTooLong { at: start, digits, limit: INTEGER_DIGITS_MAX });
        }
        Ok(&self.text[start..self.at])
    }

    /// An object or array inside the outermost object, whatever it holds, without recursion.
    fn nested(&mut self) -> Result<&'a str, DecodeError> {
        let start = self.at;
        // Which of the open containers are objects, a bit each; the outermost object of all is not among them.
        let mut objects = [0_u64; DEPTH_MAX.div_ceil(64)];
        let mut depth = 0;
        loop {
            // A value begins here.
            if let Some(open @ (b'{' | b'[')) = self.peek() {
                if depth + 1 == DEPTH_MAX {
                    return Err(DecodeError::TooDeep { at: self.at, limit: DEPTH_MAX });
                }
                let (word, bit) = (depth / 64, 1 << (depth % 64));
                objects[word] = if open == b'{' { objects[word] | bit } else { objects[word] & !bit };
                depth += 1;
                self.at += 1;
                self.space();
                if self.peek() != Some(if open == b'{' { b'}' } else { b']' }) {
                    if open == b'{' {
                        self.name()?;
                    }
                    continue;
                }
            } else {
                self.scalar()?;
                self.space();
            }
            // A value has ended, or a container is about to.
            loop {
                let in_object = objects[(depth - 1) / 64] & (1 << ((depth - 1) % 64)) != 0;
                match self.peek() {
                    Some(b'}') if in_object => {}
                    Some(b']') if !in_object => {}
                    Some(b',') => {
                        self.at += 1;
                        self.space();
                        if in_object {
                            self.name()?;
                        }
                        break;
                    }
                    _ => return Err(self.not_json(if in_object { "',' or '}'" } else { "',' or ']'" })),
                }
                self.at += 1;
                depth -= 1;
                if depth == 0 {
                    return Ok(&self.text[start..self.at]);
                }
                self.space();
            }
        }
    }

    fn name(&mut self) -> Result<(), DecodeError> {
        self.quoted("a name in quotes")?;
        self.space();
        self.take(b':', "':'")?;
        self.space();
        Ok(())
    }

    fn scalar(&mut self) -> Result<(), DecodeError> {
        match self.peek() {
            Some(b'"') => self.quoted("a value").map(|_| ()),
            Some(b'-' | b'0'..=b'9') => self.number().map(|_| ()),
            Some(b'n') => self.literal("null"),
            Some(b't') => self.literal("true"),
            Some(b'f') => self.literal("false"),
            _ => Err(self.not_json("a value")),
        }
    }
}
