//! A savepoint: the state of a whole application as one file, to be put into other topics. [`Header`], [`Partition`]s and
//! their [`Customer`]s ⇄ bytes.
//!
//! ```text
//!   one zstd frame:  MAGIC  version  record*
//!   record:          kind (1 byte)  length (8 bytes, little-endian)  payload
//!     H  application, input, state topic, partitions, when               first, once
//!     P  number, committed offset and metadata or none, head or none     each partition in order, then its customers
//!     C  id, active or at rest, through, sessions and vectors            in the order of their ids
//!     E  partitions, customers, hash                                     last, once
//! ```
//! The hash is FNV-1a, 64 bits, of all bytes between the magic and the payload of `E`: with the counts it shows a file that
//! ends early or was changed. Texts and numbers are those of [`wire::packed`](crate::wire::packed). What metadata, head
//! and a customer's bytes mean is the pipeline's.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use super::{Draft, FileError};
use crate::types::{CustomerId, FNV_OF_NOTHING, fnv1a64_on};
use crate::wire::packed::{Packer, Torn, Unpacker};

const MAGIC: &[u8; 10] = b"dce-state\n";
const VERSION: u8 = 1;
/// A longer record is none.
const RECORD_BYTES_MAX: u64 = 1 << 30;
const BUFFER_BYTES: usize = 256 << 10;
const LEVEL: i32 = 3;

/// What the state is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub application: String,
    /// The topic whose offsets the partitions name.
    pub input: String,
    /// The topic that it was read from.
    pub state: String,
    pub partitions: u32,
    /// When it was written, in milliseconds since the epoch.
    pub at_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    pub number: u32,
    /// What the group has committed: offset and metadata.
    pub committed: Option<(i64, String)>,
    /// The value of the partition's own record in the log.
    pub head: Option<Vec<u8>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Customer {
    pub id: CustomerId,
    pub is_active: bool,
    /// The input offset below which everything is in it.
    pub through: i64,
    /// Sessions and vectors.
    pub packed: Vec<u8>,
}

/// What comes after the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    Partition(Partition),
    /// Of the partition that came last.
    Customer(Customer),
}

/// What a whole file holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub partitions: u64,
    pub customers: u64,
}

/// Writes a savepoint; it has its name when it is whole.
pub struct Writer {
    out: zstd::Encoder<'static, BufWriter<Draft>>,
    named: String,
    hash: u64,
    totals: Totals,
}

impl Writer {
    /// Refuses a name that is taken, unless it `replaces` it.
    pub fn create(path: &Path, replaces: bool, header: &Header) -> Result<Self, FileError> {
        let named = path.display().to_string();
        let draft = BufWriter::with_capacity(BUFFER_BYTES, Draft::create(path, replaces)?);
        let failed = |error: io::Error| FileError::Write { file: named.clone(), why: error.to_string() };
        let mut out = zstd::Encoder::new(draft, LEVEL).map_err(failed)?;
        out.write_all(MAGIC).map_err(failed)?;
        let mut writer = Self { out, named: named.clone(), hash: FNV_OF_NOTHING, totals: Totals::default() };
        writer.bytes(&[VERSION])?;
        let mut into = Packer::default();
        for text in [&header.application, &header.input, &header.state] {
            into.text(text);
        }
        into.number(header.partitions.into());
        into.number(header.at_ms);
        writer.record(b'H', &into.into_bytes())?;
        Ok(writer)
    }

    pub fn partition(&mut self, partition: &Partition) -> Result<(), FileError> {
        self.totals.partitions += 1;
        let mut into = Packer::default();
        into.number(partition.number.into());
        into.option(partition.committed.as_ref(), |into, (offset, metadata)| {
            into.number(offset.unsigned_abs());
            into.text(metadata);
        });
        into.option(partition.head.as_ref(), |into, head| into.bytes(head));
        self.record(b'P', &into.into_bytes())
    }

    pub fn customer(&mut self, customer: &Customer) -> Result<(), FileError> {
        self.totals.customers += 1;
        let mut into = Packer::default();
        into.text(customer.id.as_str());
        into.byte(u8::from(customer.is_active));
        into.number(customer.through.unsigned_abs());
        into.packed(&customer.packed);
        self.record(b'C', &into.into_bytes())
    }

    /// Writes its end, and gives the file its name.
    pub fn finish(mut self) -> Result<Totals, FileError> {
        let Self { totals, .. } = self;
        let mut into = Packer::default();
        into.number(totals.partitions);
        into.number(totals.customers);
        into.fixed(self.hash);
        self.record(b'E', &into.into_bytes())?;
        let named = self.named;
        let failed = |error: io::Error| FileError::Write { file: named.clone(), why: error.to_string() };
        let out = self.out.finish().map_err(failed)?;
        out.into_inner().map_err(|error| failed(error.into_error()))?.publish()?;
        Ok(totals)
    }

    fn record(&mut self, kind: u8, payload: &[u8]) -> Result<(), FileError> {
        let len = payload.len() as u64;
        if len > RECORD_BYTES_MAX {
            let why = format!("a record of {len} bytes is above the limit of {RECORD_BYTES_MAX}");
            return Err(FileError::Write { file: self.named.clone(), why });
        }
        self.bytes(&[kind])?;
        self.bytes(&len.to_le_bytes())?;
        self.bytes(payload)
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        self.hash = fnv1a64_on(self.hash, bytes);
        self.out.write_all(bytes).map_err(|error| FileError::Write { file: self.named.clone(), why: error.to_string() })
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("file", &self.named).field("totals", &self.totals).finish_non_exhaustive()
    }
}

/// Reads a savepoint. That it is whole is known when [`Reader::piece`] has given `None`.
pub struct Reader {
    from: Box<dyn Read>,
    named: String,
    header: Header,
    hash: u64,
    totals: Totals,
    /// The customer before, of this partition.
    last: Option<CustomerId>,
    /// Bytes read, without compression.
    at: u64,
    is_over: bool,
}

impl Reader {
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let named = path.display().to_string();
        let file = File::open(path).map_err(|why| FileError::Open { file: named.clone(), why })?;
        let file = BufReader::with_capacity(BUFFER_BYTES, file);
        let decoder = zstd::Decoder::with_buffer(file).map_err(|why| FileError::Open { file: named.clone(), why })?;
        Self::of(Box::new(decoder.single_frame()), named)
    }

    fn of(from: Box<dyn Read>, named: String) -> Result<Self, FileError> {
        let header =
            Header { application: String::new(), input: String::new(), state: String::new(), partitions: 0, at_ms: 0 };
        let totals = Totals::default();
        let mut reader = Self { from, named, header, hash: FNV_OF_NOTHING, totals, last: None, at: 0, is_over: false };
        let mut magic = [0; MAGIC.len()];
        if reader.fill(&mut magic).is_err() || magic != *MAGIC {
            return Err(reader.damaged(0, "it is no savepoint of dce"));
        }
        reader.hash = FNV_OF_NOTHING;
        let mut version = [0];
        reader.fill(&mut version)?;
        if version != [VERSION] {
            let why = format!("it is a savepoint of layout {}, and this dce reads {VERSION}", version[0]);
            return Err(reader.damaged(reader.at - 1, &why));
        }
        let at = reader.at;
        let (kind, payload) = reader.record()?;
        if kind != b'H' {
            return Err(reader.damaged(at, "it does not begin with a header"));
        }
        reader.header = unpack_header(&payload).map_err(|torn| reader.torn(at, torn))?;
        Ok(reader)
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// So far; of the whole file after the end.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// `None` at the end of a file that is whole.
    pub fn piece(&mut self) -> Result<Option<Piece>, FileError> {
        if self.is_over {
            return Ok(None);
        }
        let (at, hash) = (self.at, self.hash);
        let (kind, payload) = self.record()?;
        let torn = |torn| self.torn(at, torn);
        match kind {
            b'P' => {
                let partition = unpack_partition(&payload).map_err(torn)?;
                if u64::from(partition.number) != self.totals.partitions || partition.number >= self.header.partitions {
                    let why = format!("partition {} stands where it may not", partition.number);
                    return Err(self.damaged(at, &why));
                }
                self.totals.partitions += 1;
                self.last = None;
                Ok(Some(Piece::Partition(partition)))
            }
            b'C' => {
                let customer = unpack_customer(&payload).map_err(torn)?;
                if self.totals.partitions == 0 {
                    return Err(self.damaged(at, "a customer of no partition"));
                }
                if self.last.as_ref().is_some_and(|last| *last >= customer.id) {
                    return Err(self.damaged(at, "customers that are not in the order of their ids"));
                }
                self.last = Some(customer.id.clone());
                self.totals.customers += 1;
                Ok(Some(Piece::Customer(customer)))
            }
            b'E' => {
                let (totals, said) = unpack_end(&payload).map_err(torn)?;
                // That of all before this record.
                if said != hash {
                    return Err(self.damaged(at, "its checksum is another one: the file was changed"));
                }
                if totals != self.totals || totals.partitions != u64::from(self.header.partitions) {
                    return Err(self.damaged(at, "it has not as many partitions or customers as it says"));
                }
                if self.fill(&mut [0]).is_ok() {
                    return Err(self.damaged(self.at, "it goes on behind its end"));
                }
                self.is_over = true;
                Ok(None)
            }
            _ => Err(self.damaged(at, "a record of no such kind")),
        }
    }

    fn record(&mut self) -> Result<(u8, Vec<u8>), FileError> {
        let (at, mut head) = (self.at, [0; 9]);
        self.fill(&mut head)?;
        let [kind, len @ ..] = head;
        let len = u64::from_le_bytes(len);
        if len > RECORD_BYTES_MAX {
            return Err(self.damaged(at, "a record that is too long"));
        }
        // No more memory than bytes come.
        let mut payload = Vec::new();
        let read = self.from.by_ref().take(len).read_to_end(&mut payload);
        read.map_err(|error| self.damaged(self.at, &error.to_string()))?;
        if payload.len() as u64 != len {
            return Err(self.damaged(at, "it ends early"));
        }
        self.took(&payload);
        Ok((kind, payload))
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), FileError> {
        self.from.read_exact(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged(self.at, "it ends early"),
            _ => self.damaged(self.at, &error.to_string()),
        })?;
        self.took(bytes);
        Ok(())
    }

    fn took(&mut self, bytes: &[u8]) {
        self.hash = fnv1a64_on(self.hash, bytes);
        self.at += bytes.len() as u64;
    }

    fn damaged(&self, at: u64, why: &str) -> FileError {
        FileError::Damaged { file: self.named.clone(), place: format!("byte {at}, unpacked"), why: why.to_owned() }
    }

    fn torn(&self, at: u64, torn: Torn) -> FileError {
        self.damaged(at, &format!("its record, {torn}"))
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("file", &self.named).field("at", &self.at).finish_non_exhaustive()
    }
}

fn unpack_header(payload: &[u8]) -> Result<Header, Torn> {
    let mut from = Unpacker::new(payload);
    let header = Header {
        application: from.text()?.to_owned(),
        input: from.text()?.to_owned(),
        state: from.text()?.to_owned(),
        partitions: from.number_u32()?,
        at_ms: from.number()?,
    };
    from.end()?;
    Ok(header)
}

fn unpack_partition(payload: &[u8]) -> Result<Partition, Torn> {
    let mut from = Unpacker::new(payload);
    let partition = Partition {
        number: from.number_u32()?,
        committed: from.option(|from| Ok((offset(from)?, from.text()?.to_owned())))?,
        head: from.option(|from| Ok(from.bytes()?.to_vec()))?,
    };
    from.end()?;
    Ok(partition)
}

fn unpack_customer(payload: &[u8]) -> Result<Customer, Torn> {
    let mut from = Unpacker::new(payload);
    let id = CustomerId::parse(from.text()?).ok_or_else(|| from.torn("no customer's name"))?;
    let is_active = match from.byte()? {
        0 => false,
        1 => true,
        _ => return Err(from.torn("neither active nor at rest")),
    };
    Ok(Customer { id, is_active, through: offset(&mut from)?, packed: from.remainder().to_vec() })
}

fn unpack_end(payload: &[u8]) -> Result<(Totals, u64), Torn> {
    let mut from = Unpacker::new(payload);
    let totals = Totals { partitions: from.number()?, customers: from.number()? };
    let hash = from.fixed()?;
    from.end()?;
    Ok((totals, hash))
}

fn offset(from: &mut Unpacker<'_>) -> Result<i64, Torn> {
    i64::try_from(from.number()?).map_err(|_| from.torn("an offset beyond the range"))
}

#[cfg(test)]
#[path = "savepoint_tests.rs"]
mod tests;
