//! Avro's primitives, read from a slice: every length is checked against what is left before anything is taken, and
//! nothing is copied. Agrees with apache-avro's reading, except that the end of the bytes is never taken for a null.

use crate::wire::error::DecodeError;

/// How many values of no bytes at all (nulls, records of nothing else) one record may hold in arrays and in the records
/// that are passed over; others are as many as the record has bytes. Without a limit a few lines of schema make a record
/// of no bytes that takes years: R0 of two R1, R1 of two R2, and so on.
pub(super) const EMPTY_ITEMS_MAX: usize = 65_536;

/// What is wrong, before it is known in which field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Truncated,
    Invalid(&'static str),
}

impl Fault {
    pub(super) fn within(self, field: &'static str) -> DecodeError {
        match self {
            Self::Truncated => DecodeError::Truncated { field },
            Self::Invalid(why) => DecodeError::NotAvro { field, why },
        }
    }
}

#[derive(Debug)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
    items_left: usize,
    empty_left: usize,
    /// Strings that are passed over need not be UTF-8.
    is_lenient: bool,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, items_left: bytes.len() + EMPTY_ITEMS_MAX, empty_left: EMPTY_ITEMS_MAX, is_lenient: false }
    }

    /// To find where a record ends, whatever its strings hold.
    pub(super) fn to_cut(bytes: &'a [u8]) -> Self {
        Self { is_lenient: true, ..Self::new(bytes) }
    }

    /// Whether all was read.
    pub(super) fn finished(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::TrailingBytes { count: self.rest.len() }) }
    }

    /// How many bytes are not read yet.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    /// Counts a value that took none of the bytes; `left_before` is what was left in front of it.
    #[inline]
    pub(super) fn count_if_empty(&mut self, left_before: usize) -> Result<(), Fault> {
        if self.rest.len() == left_before {
            self.empty_left = self.empty_left.checked_sub(1).ok_or(Fault::Invalid("too many values of no bytes"))?;
        }
        Ok(())
    }

    #[inline]
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Fault::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Fault::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(super) fn boolean(&mut self) -> Result<bool, Fault> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [_] => Err(Fault::Invalid("a boolean is 0 or 1")),
        }
    }

    /// Zigzag, seven bits a byte, the lowest first, ten bytes at the most.
    #[inline]
    pub(super) fn long(&mut self) -> Result<i64, Fault> {
        // Lengths, branches and symbols are mostly one byte.
        let bits = match *self.rest {
            [byte @ 0..=0x7f, ref rest @ ..] => {
                self.rest = rest;
                u64::from(byte)
            }
            _ => self.varint()?,
        };
        Ok((bits >> 1).cast_signed() ^ -(bits & 1).cast_signed())
    }

    fn varint(&mut self) -> Result<u64, Fault> {
        let mut bits = 0;
        for (index, byte) in self.rest.iter().enumerate() {
            if index == 10 {
                return Err(Fault::Invalid("an integer of more than ten bytes"));
            }
            bits |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[index + 1..];
                return Ok(bits);
            }
        }
        Err(Fault::Truncated)
    }

    #[inline]
    pub(super) fn int(&mut self) -> Result<i32, Fault> {
        i32::try_from(self.long()?).map_err(|_| Fault::Invalid("an int beyond 32 bits"))
    }

    pub(super) fn float(&mut self) -> Result<f32, Fault> {
        self.array().map(f32::from_le_bytes)
    }

    pub(super) fn double(&mut self) -> Result<f64, Fault> {
        self.array().map(f64::from_le_bytes)
    }

    #[inline]
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Fault> {
        let len = usize::try_from(self.long()?).map_err(|_| Fault::Invalid("a negative length"))?;
        self.take(len)
    }

    #[inline]
    pub(super) fn text(&mut self) -> Result<&'a str, Fault> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Fault::Invalid("a string that is not UTF-8"))
    }

    pub(super) fn skip_text(&mut self) -> Result<(), Fault> {
        if self.is_lenient { self.bytes().map(drop) } else { self.text().map(drop) }
    }

    /// The branch of a union or the symbol of an enum.
    #[inline]
    pub(super) fn index(&mut self, choices: usize) -> Result<usize, Fault> {
        let index = usize::try_from(self.long()?).ok().filter(|index| *index < choices);
        index.ok_or(Fault::Invalid("a branch or symbol that its schema does not have"))
    }

    /// How many items follow in the next block of an array or a map; 0 ends it.
    #[inline]
    pub(super) fn block(&mut self) -> Result<usize, Fault> {
        let mut count = self.long()?;
        if count < 0 {
            // The block's size in bytes, for those who skip it unread.
            self.long()?;
            count = count.checked_neg().ok_or(Fault::Invalid("a block of 2^63 items"))?;
        }
        let items = usize::try_from(count).map_err(|_| Fault::Truncated)?;
        self.items_left = self.items_left.checked_sub(items).ok_or(Fault::Truncated)?;
        Ok(items)
    }
}
