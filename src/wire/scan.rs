//! A strict JSON scanner over text already known to be UTF-8: tells values apart without building any, borrows every
//! one of them, and refuses exactly what `json.loads` of the rules' reference refuses. Takes text, gives [`Value`]s.
//!
//! serde_json's `RawValue` would do, but it walks every value twice, and the two limits below would be a third walk
//! (`docs/decisions/0004-reading-clicks.md` has the figures).

use std::borrow::Cow;

use super::error::DecodeError;

/// How deep objects and arrays may nest, the outermost included: what the reference can read.
pub(super) const DEPTH_MAX: usize = 991;
/// How many digits an integer may have, its sign aside, wherever it stands; a number with a fraction or an exponent
/// may have more.
pub(super) const INTEGER_DIGITS_MAX: usize = 4_300;

/// What a JSON value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Bool,
    Number,
    /// A string without escapes.
    Text,
    /// A string with escapes, which may be no text.
    Escaped,
    Object,
    Array,
}

/// Where one JSON value stands in the text: a string with its quotes, an object from brace to brace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) kind: Kind,
    start: usize,
    end: usize,
}

impl Value {
    pub(super) fn is_string(self) -> bool {
        matches!(self.kind, Kind::Text | Kind::Escaped)
    }

    /// As it stands in the text that it was found in.
    #[inline(always)]
    pub(super) fn raw(self, text: &str) -> &str {
        &text[self.start..self.end]
    }

    /// What a string says, borrowed where nothing is escaped. `None` for a lone surrogate, which JSON can write and
    /// text cannot hold, and for what is no string.
    #[inline(always)]
    pub(super) fn text(self, text: &str) -> Option<Cow<'_, str>> {
        match self.kind {
            Kind::Text => Some(Cow::Borrowed(&text[self.start + 1..self.end - 1])),
            Kind::Escaped => unescaped(self.raw(text)),
            Kind::Null | Kind::Bool | Kind::Number | Kind::Object | Kind::Array => None,
        }
    }
}

#[cold]
fn unescaped(raw: &str) -> Option<Cow<'_, str>> {
    serde_json::from_str::<String>(raw).ok().map(Cow::Owned)
}

/// The name of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name<K> {
    /// Found by the caller at first sight.
    Known(K),
    Other(Value),
}

/// Calls `member` with the name and the value of each member of the one object that `text` must be, in order, duplicates
/// included. `known` looks at the text from a name's first quote on: the length of a name that it knows, with both quotes,
/// is not walked through again.
#[inline]
pub(super) fn object<K>(
    text: &str,
    known: impl Fn(&[u8]) -> Option<(usize, K)>,
    member: impl FnMut(Name<K>, Value),
) -> Result<(), DecodeError> {
    let bytes = text.as_bytes();
    // Nearly all records have neither: then a string ends at the next quote.
    let is_plain = !bytes.iter().fold(false, |stops, byte| stops | (*byte == b'\\') | (*byte < 32));
    let mut scanner = Scanner { bytes, at: 0, is_plain, fault: None };
    match scanner.members(known, member) {
        Some(()) => Ok(()),
        None => Err(scanner.fault.expect("whoever stops says why")),
    }
}

/// Walks through the text. Its steps give `None` when they have left a fault: answers stay small enough for registers,
/// where a `Result` with the error in it would go through memory at every step.
struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    /// There is no backslash and no control character in all of the text.
    is_plain: bool,
    fault: Option<DecodeError>,
}

const ONES: u64 = u64::MAX / 255;
const HIGHS: u64 = ONES << 7;

/// The high bit of each byte that is this one; what is above the lowest such bit may be wrong.
#[inline(always)]
fn bytes_that_are(byte: u8, chunk: u64) -> u64 {
    let zeros = chunk ^ (ONES * u64::from(byte));
    zeros.wrapping_sub(ONES) & !zeros & HIGHS
}

/// How far the next quote is, in plain text; eight bytes at a time.
#[inline(always)]
fn quote_len(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(chunk) = bytes[at..].first_chunk() {
        let quotes = bytes_that_are(b'"', u64::from_le_bytes(*chunk));
        if quotes != 0 {
            return at + (quotes.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    bytes[at..].iter().position(|byte| *byte == b'"').map_or(bytes.len(), |quote| at + quote)
}

/// How far the next quote, backslash or control character is, which JSON forbids in a string; eight bytes at a time.
fn plain_len(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(chunk) = bytes[at..].first_chunk() {
        let chunk = u64::from_le_bytes(*chunk);
        // Of a control character, the high bit of a byte below 32.
        let control = chunk.wrapping_sub(ONES * 32) & !chunk & HIGHS;
        let stops = bytes_that_are(b'"', chunk) | bytes_that_are(b'\\', chunk) | control;
        if stops != 0 {
            return at + (stops.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let stop = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..32);
    bytes[at..].iter().position(stop).map_or(bytes.len(), |stop| at + stop)
}

impl Scanner<'_> {
    #[inline(always)]
    fn members<K>(
        &mut self,
        known: impl Fn(&[u8]) -> Option<(usize, K)>,
        mut member: impl FnMut(Name<K>, Value),
    ) -> Option<()> {
        self.space();
        self.take(b'{', "'{'")?;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
        } else {
            loop {
                let name = match known(&self.bytes[self.at..]) {
                    Some((len, name)) => {
                        self.at += len;
                        Name::Known(name)
                    }
                    None => {
                        let start = self.at;
                        let kind = self.string("a name in quotes")?;
                        Name::Other(Value { kind, start, end: self.at })
                    }
                };
                self.space();
                self.take(b':', "':'")?;
                self.space();
                let start = self.at;
                let kind = self.value()?;
                member(name, Value { kind, start, end: self.at });
                self.space();
                match self.peek() {
                    Some(b',') => self.at += 1,
                    Some(b'}') => break self.at += 1,
                    _ => return self.not_json("',' or '}'"),
                }
                self.space();
            }
        }
        self.space();
        if self.at == self.bytes.len() { Some(()) } else { self.not_json("the end") }
    }

    #[inline(always)]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline(always)]
    fn space(&mut self) {
        // Nearly always there is none.
        while self.peek().is_some_and(|byte| byte <= b' ') {
            if !matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
                break;
            }
            self.at += 1;
        }
    }

    #[inline(always)]
    fn take(&mut self, byte: u8, expected: &'static str) -> Option<()> {
        if self.peek() != Some(byte) {
            return self.not_json(expected);
        }
        self.at += 1;
        Some(())
    }

    #[cold]
    fn not_json<T>(&mut self, expected: &'static str) -> Option<T> {
        self.fault = Some(DecodeError::NotJson { at: self.at, expected });
        None
    }

    #[inline(always)]
    fn value(&mut self) -> Option<Kind> {
        if self.peek() == Some(b'"') { self.string("a value") } else { self.no_string() }
    }

    fn no_string(&mut self) -> Option<Kind> {
        match self.peek() {
            Some(b'{') => self.nested().map(|()| Kind::Object),
            Some(b'[') => self.nested().map(|()| Kind::Array),
            _ => self.scalar(),
        }
    }

    /// Anything but strings, objects and arrays.
    #[inline]
    fn scalar(&mut self) -> Option<Kind> {
        match self.peek() {
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'n') => self.literal("null", Kind::Null),
            Some(b't') => self.literal("true", Kind::Bool),
            Some(b'f') => self.literal("false", Kind::Bool),
            _ => self.not_json("a value"),
        }
    }

    fn literal(&mut self, literal: &'static str, kind: Kind) -> Option<Kind> {
        if !self.bytes[self.at..].starts_with(literal.as_bytes()) {
            return self.not_json("a value");
        }
        self.at += literal.len();
        Some(kind)
    }

    // In its two places in `members`, where most strings are, it costs half as much as behind a call.
    #[inline(always)]
    fn string(&mut self, expected: &'static str) -> Option<Kind> {
        self.take(b'"', expected)?;
        let mut kind = Kind::Text;
        loop {
            let rest = &self.bytes[self.at..];
            self.at += if self.is_plain { quote_len(rest) } else { plain_len(rest) };
            match self.peek() {
                Some(b'"') => break self.at += 1,
                Some(b'\\') => {
                    kind = Kind::Escaped;
                    self.escape()?;
                }
                _ => return self.not_json("a character or '\"'"),
            }
        }
        Some(kind)
    }

    #[cold]
    fn escape(&mut self) -> Option<()> {
        let known = match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
            Some(b'u') => 6,
            _ => return self.not_json("an escape"),
        };
        let digits = self.bytes.get(self.at + 2..self.at + known);
        if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            return self.not_json("an escape");
        }
        self.at += known;
        Some(())
    }

    #[inline]
    fn digits(&mut self) -> Option<usize> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { self.not_json("a digit") } else { Some(self.at - start) }
    }

    #[inline]
    fn number(&mut self) -> Option<Kind> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let digits = if self.peek() == Some(b'0') {
            self.at += 1;
            1
        } else {
            self.digits()?
        };
        let mut integer = true;
        if self.peek() == Some(b'.') {
            integer = false;
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            integer = false;
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        if integer && digits > INTEGER_DIGITS_MAX {
            self.fault = Some(DecodeError::IntegerTooLong { at: start, digits, limit: INTEGER_DIGITS_MAX });
            return None;
        }
        Some(Kind::Number)
    }

    /// An object or array inside the outermost object, whatever it holds, without recursion.
    fn nested(&mut self) -> Option<()> {
        // Which of the open containers are objects, a bit each; the outermost object of all is not among them.
        let mut objects = [0_u64; DEPTH_MAX.div_ceil(64)];
        let mut depth = 0;
        loop {
            // A value begins here.
            match self.peek() {
                Some(open @ (b'{' | b'[')) => {
                    if depth + 1 == DEPTH_MAX {
                        self.fault = Some(DecodeError::TooDeep { at: self.at, limit: DEPTH_MAX });
                        return None;
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
                }
                Some(b'"') => _ = self.string("a value")?,
                _ => _ = self.scalar()?,
            }
            self.space();
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
                    _ => return self.not_json(if in_object { "',' or '}'" } else { "',' or ']'" }),
                }
                self.at += 1;
                depth -= 1;
                if depth == 0 {
                    return Some(());
                }
                self.space();
            }
        }
    }

    /// The name of a member and its colon.
    fn name(&mut self) -> Option<()> {
        self.string("a name in quotes")?;
        self.space();
        self.take(b':', "':'")?;
        self.space();
        Some(())
    }
}
