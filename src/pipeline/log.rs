//! The records of the state's log, `dce-state`: keys and values. Pure.
//!
//! ```text
//!   key               value
//!   c CUSTOMER        through, sessions, vectors         a customer at rest
//!   a CUSTOMER        through, parts, sessions, vectors  an active one, where it was written; goes before its c
//!   b PART CUSTOMER   through, the next bytes            of an active one whose record is too long for one
//!   p                 [`Head`]                           the partition, last in each epoch that writes anything
//!   i                 nothing                            an import is under way: what is there is not whole
//! ```
//! A record is of the input partition whose number it has. `through` is the input offset below which everything is in it.

use crate::types::{CustomerRef, Moment};
use crate::wire::packed::{Packer, Torn, Unpacker};

/// Of this layout; a record of another one is not read.
const VERSION: u8 = 1;
/// A client takes 1,000,000 bytes by default.
pub const PART_BYTES: usize = 512 << 10;

/// A record that is none, or that does not go with the others.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the record of key {key}: {torn}")]
pub struct LogError {
    key: String,
    torn: Torn,
}

impl LogError {
    pub fn new(key: &[u8], torn: Torn) -> Self {
        Self { key: format!("\"{}\"", key.escape_ascii()), torn }
    }
}

/// One record on its way to the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateRecord {
    pub partition: i32,
    pub key: Box<[u8]>,
    /// `None` deletes.
    pub value: Option<Box<[u8]>>,
}

/// What the log says of the partition as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Epochs that wrote to the log, this one included.
    pub epoch: u64,
    /// `resume` of the epoch before, so that one that is missing shows.
    pub before: i64,
    /// The input offset that all records of this epoch reach up to.
    pub resume: i64,
    /// The input must be read again from here to have what is not in the log.
    pub redo_from: i64,
    /// Stream time there.
    pub redo_stream_time: Moment,
    /// Customers with a record.
    pub logged: u64,
}

impl Head {
    pub const KEY: &'static [u8] = b"p";

    pub fn pack(&self) -> Vec<u8> {
        let mut into = Packer::default();
        into.byte(VERSION);
        into.number(self.epoch);
        for offset in [self.before, self.resume, self.redo_from] {
            into.number(offset.unsigned_abs());
        }
        into.number(self.redo_stream_time.to_bits());
        into.number(self.logged);
        into.into_bytes()
    }

    pub fn unpack(value: &[u8]) -> Result<Self, LogError> {
        let read = || {
            let mut from = Unpacker::new(value);
            version(&mut from)?;
            let head = Self {
                epoch: from.number()?,
                before: offset(&mut from)?,
                resume: offset(&mut from)?,
                redo_from: offset(&mut from)?,
                redo_stream_time: Moment::from_bits(from.number()?),
                logged: from.number()?,
            };
            from.end()?;
            Ok(head)
        };
        read().map_err(|torn| LogError::new(Self::KEY, torn))
    }
}

/// Whose record a key names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key<'a> {
    Rest(&'a str),
    Active(&'a str),
    /// With the number of the part, from 1 on.
    Part(u16, &'a str),
    Head,
    Import,
}

impl<'a> Key<'a> {
    pub fn parse(key: &'a [u8]) -> Result<Self, LogError> {
        let text = |bytes| std::str::from_utf8(bytes).ok().filter(|id| CustomerRef::parse(id).is_some());
        let parsed = match key {
            Head::KEY => Some(Self::Head),
            Self::IMPORT => Some(Self::Import),
            [b'c', id @ ..] => text(id).map(Self::Rest),
            [b'a', id @ ..] => text(id).map(Self::Active),
            [b'b', high, low, id @ ..] => text(id).map(|id| Self::Part(u16::from_be_bytes([*high, *low]), id)),
            _ => None,
        };
        parsed.ok_or_else(|| LogError::new(key, Torn { at: 0, what: "a key of no such kind" }))
    }

    pub fn pack(self) -> Box<[u8]> {
        match self {
            Self::Rest(id) => [b"c", id.as_bytes()].concat().into(),
            Self::Active(id) => [b"a", id.as_bytes()].concat().into(),
            Self::Part(part, id) => [b"b", &part.to_be_bytes()[..], id.as_bytes()].concat().into(),
            Self::Head => Self::HEAD.into(),
            Self::Import => Self::IMPORT.into(),
        }
    }

    const HEAD: &'static [u8] = Head::KEY;
    const IMPORT: &'static [u8] = b"i";
}

/// Begins a record of a customer at rest.
pub fn begin_rest(through: i64) -> Packer {
    begin_rest_over(Vec::new(), through)
}

/// The same in a buffer that was used before.
pub fn begin_rest_over(buffer: Vec<u8>, through: i64) -> Packer {
    let mut into = Packer::over(buffer);
    into.byte(VERSION);
    into.number(through.unsigned_abs());
    into
}

/// A customer's record: where it reaches, and the rest of it.
pub fn open_rest(value: &[u8]) -> Result<(i64, Unpacker<'_>), Torn> {
    let mut from = Unpacker::new(value);
    version(&mut from)?;
    Ok((offset(&mut from)?, from))
}

/// Cuts what was packed of an active customer into its records: the first one's value, then those of the parts.
pub fn cut_active(through: i64, packed: &[u8]) -> Vec<Vec<u8>> {
    let mut chunks = packed.chunks(PART_BYTES);
    let first = chunks.next().unwrap_or_default();
    let mut into = begin_rest(through);
    into.count(chunks.len() + 1);
    into.bytes(first);
    let mut values = vec![into.into_bytes()];
    values.extend(chunks.map(|chunk| {
        let mut into = begin_rest(through);
        into.bytes(chunk);
        into.into_bytes()
    }));
    values
}

/// The records of a customer of whom all that was packed is known, in their order.
pub fn records(partition: i32, id: &str, is_active: bool, through: i64, packed: &[u8]) -> Vec<StateRecord> {
    let record = |key: Key<'_>, value: Vec<u8>| StateRecord { partition, key: key.pack(), value: Some(value.into()) };
    if !is_active {
        let mut into = begin_rest(through);
        into.packed(packed);
        return vec![record(Key::Rest(id), into.into_bytes())];
    }
    let key = |part| if part == 0 { Key::Active(id) } else { Key::Part(part, id) };
    (0..=u16::MAX).zip(cut_active(through, packed)).map(|(part, value)| record(key(part), value)).collect()
}

/// The first record of an active customer: where it reaches, the number of its records, its first bytes.
pub fn open_active(value: &[u8]) -> Result<(i64, u16, &[u8]), Torn> {
    let (through, mut from) = open_rest(value)?;
    let parts = u16::try_from(from.number()?).ok().filter(|parts| *parts > 0);
    let parts = parts.ok_or_else(|| from.torn("so many parts"))?;
    let bytes = from.bytes()?;
    from.end()?;
    Ok((through, parts, bytes))
}

/// One of the other records: where it reaches, and its bytes.
pub fn open_part(value: &[u8]) -> Result<(i64, &[u8]), Torn> {
    let (through, mut from) = open_rest(value)?;
    let bytes = from.bytes()?;
    from.end()?;
    Ok((through, bytes))
}

fn version(from: &mut Unpacker<'_>) -> Result<(), Torn> {
    match from.byte()? {
        VERSION => Ok(()),
        _ => Err(from.torn("a layout of another version of dce")),
    }
}

fn offset(from: &mut Unpacker<'_>) -> Result<i64, Torn> {
    i64::try_from(from.number()?).map_err(|_| from.torn("an offset beyond the range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_heads_come_back() {
        for key in [Key::Rest("ana"), Key::Active("p"), Key::Part(258, "ä"), Key::Head, Key::Import] {
            assert_eq!(Key::parse(&key.pack()), Ok(key));
        }
        for foreign in [&b""[..], b"x", b"c", b"a\xff", b"b\x00\x01", b"pp"] {
            let said = Key::parse(foreign).unwrap_err().to_string();
            assert!(said.contains("a key of no such kind"), "{said}");
        }
        let stream_time = Moment::from_bits(77);
        let head = Head { epoch: 3, before: 5, resume: 9, redo_from: 7, redo_stream_time: stream_time, logged: 2 };
        assert_eq!(Head::unpack(&head.pack()), Ok(head));
        let said = Head::unpack(&[2]).unwrap_err().to_string();
        assert_eq!(said, "the record of key \"p\": byte 1: a layout of another version of dce");
    }

    #[test]
    fn a_long_record_is_cut_and_put_together() {
        for len in [0, 1, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES] {
            let packed: Vec<u8> = (0..=250).cycle().take(len).collect();
            let values = cut_active(41, &packed);
            let (through, parts, first) = open_active(&values[0]).unwrap();
            assert_eq!((through, usize::from(parts)), (41, values.len()));
            let mut all = first.to_vec();
            for value in &values[1..] {
                let (through, bytes) = open_part(value).unwrap();
                assert_eq!(through, 41);
                all.extend_from_slice(bytes);
            }
            assert_eq!(all, packed);
        }
    }
}
