//! Text for a person: colours where a terminal is, thousands set apart, bytes as text or hex. What comes from records is
//! never let through as it is: control characters would move the cursor or worse.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::IsTerminal as _;

use super::Frame;

/// Standard output is a terminal and colours are wanted.
pub(super) fn colours(frame: &Frame) -> bool {
    std::io::stdout().is_terminal() && frame.variable("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Colour {
    Green,
    Yellow,
    Red,
    Dim,
}

/// The text in a colour, where they are wanted.
pub(super) fn paint(colours: bool, colour: Colour, text: &str) -> Cow<'_, str> {
    if !colours {
        return Cow::Borrowed(text);
    }
    let code = match colour {
        Colour::Green => "32",
        Colour::Yellow => "33",
        Colour::Red => "31",
        Colour::Dim => "2",
    };
    Cow::Owned(format!("\x1b[{code}m{text}\x1b[0m"))
}

/// `1,234,567`.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// One line that cannot move a cursor, of at most so many characters and a sign that there were more.
pub(super) fn line(text: &str, chars_max: usize) -> String {
    let mut shown = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == chars_max {
            shown.push('…');
            break;
        }
        let hidden =
            c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if hidden {
            _ = write!(shown, "{}", c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// The text where it is UTF-8, else the first bytes in hex.
pub(super) fn bytes_line(bytes: &[u8], max: usize) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => line(text, max),
        Err(_) => {
            let shown = max / 2;
            let cut = if bytes.len() > shown { "…" } else { "" };
            format!("0x{}{cut}", hex(&bytes[..bytes.len().min(shown)]))
        }
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    })
}

/// Sixteen bytes a line: offset, hex, and what is printable.
pub(super) fn hex_dump(bytes: &[u8]) -> Vec<String> {
    let line = |(index, chunk): (usize, &[u8])| {
        let hex: Vec<String> = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
        let text: String =
            chunk.iter().map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { '.' }).collect();
        format!("{:08x}  {:<47}  {text}", index * 16, hex.join(" "))
    };
    bytes.chunks(16).enumerate().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_record_holds_cannot_move_the_cursor() {
        assert_eq!(line("a\x1b[2Jb\nc\u{202e}", 99), "a\\u{1b}[2Jb\\u{a}c\\u{202e}");
        assert_eq!(line("äöü", 2), "äö…");
        assert_eq!(line("äö", 2), "äö");
        assert_eq!(bytes_line(b"\xff\x00\x10", 99), "0xff0010");
        assert_eq!(bytes_line(b"\xff\x00\x10", 4), "0xff00…");
    }

    #[test]
    fn numbers_and_bytes() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            hex_dump(b"0123456789abcdef\xff "),
            [
                "00000000  30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 66  0123456789abcdef",
                "00000010  ff 20                                            ..",
            ]
        );
        assert_eq!(paint(false, Colour::Red, "x"), "x");
        assert_eq!(paint(true, Colour::Red, "x"), "\u{1b}[31mx\u{1b}[0m");
    }
}
