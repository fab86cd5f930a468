//! Avro object container files. Reading: the blocks of records, whatever ClickEvents' schema wrote them, cut into single
//! records whose bytes stay as they are. Writing: the bodies that `wire` writes, in blocks.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::Path;
use std::sync::Arc;

use apache_avro::{Codec, DeflateSettings};
use miniz_oxide::inflate::{self, TINFLStatus};
use sha2::{Digest as _, Sha256};

use crate::wire::avro::{Rows, Schemas};
use crate::wire::error::EncodeError;
use crate::wire::write::{self, Framing, Written};

use super::FileError;
use super::chunk::{Chunk, Numbering, Record};
use super::clicks::Limits;

const MAGIC: [u8; 4] = *b"Obj\x01";
type Sync = [u8; 16];
/// Of single-object encoding: the marker and the writer's fingerprint.
const FRAME_BYTES: usize = 10;
/// The limits of what is read, so that a damaged length asks for no memory.
const HEADER_BYTES_MAX: u64 = 16 << 20;
/// Of a block, packed or not: a few bytes can unpack to a thousand times as many.
const BLOCK_BYTES_MAX: usize = 256 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    Null,
    Deflate,
    Zstandard,
}

/// Reads a container file of clicks.
pub(super) struct Blocks {
    file: String,
    input: BufReader<File>,
    packing: Packing,
    sync: Sync,
    rows: Rows,
    frame: [u8; FRAME_BYTES],
    numbering: Numbering,
    /// The block that is being cut, and how much of it is.
    block: Arc<[u8]>,
    cut: usize,
    left: u64,
    /// Blocks and records before.
    blocks: u64,
    records: u64,
    /// Bytes of the file.
    read: u64,
    value: Vec<u8>,
}

impl std::fmt::Debug for Blocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blocks").field("file", &self.file).field("blocks", &self.blocks).finish_non_exhaustive()
    }
}

impl Blocks {
    pub(super) fn open(path: &Path, schemas: &mut Schemas) -> Result<Self, FileError> {
        let file = path.display().to_string();
        let input = File::open(path).map_err(|why| FileError::Open { file: file.clone(), why })?;
        let mut head = Head { input: BufReader::with_capacity(1 << 20, input), read: 0 };
        let damaged = |why: String| FileError::Damaged { file: file.clone(), place: "its header".to_owned(), why };
        let Header { schema, codec, sync } = head.header().map_err(damaged)?;
        let Head { input, read } = head;
        let packing = match codec.as_str() {
            "" | "null" => Packing::Null,
            "deflate" => Packing::Deflate,
            "zstandard" => Packing::Zstandard,
            other => {
                let why = format!("compressed by {other}, which is not read; null, deflate and zstandard are");
                return Err(FileError::Schema { file, why });
            }
        };
        let schema_error =
            |why: crate::wire::error::SchemaError| FileError::Schema { file: file.clone(), why: why.to_string() };
        let rows = Rows::of(&schema).map_err(schema_error)?;
        let fingerprint = schemas.register_click(&schema).map_err(schema_error)?;
        let mut frame = [0; FRAME_BYTES];
        frame[..2].copy_from_slice(&crate::wire::avro::MARKER);
        frame[2..].copy_from_slice(&fingerprint.0);
        Ok(Self {
            file,
            input,
            packing,
            sync,
            rows,
            frame,
            numbering: Numbering::default(),
            block: Arc::new([]),
            cut: 0,
            left: 0,
            blocks: 0,
            records: 0,
            read,
            value: Vec::new(),
        })
    }

    pub(super) fn fill(&mut self, chunk: &mut Chunk, limits: Limits) -> Result<bool, FileError> {
        while !limits.reached(chunk) {
            if self.left == 0 && !self.next_block()? {
                chunk.done = self.read;
                return Ok(false);
            }
            if self.left > 0 {
                self.next_record(chunk)?;
            }
        }
        chunk.done = self.read;
        Ok(true)
    }

    fn next_record(&mut self, chunk: &mut Chunk) -> Result<(), FileError> {
        let block = Arc::clone(&self.block);
        let mut rest = &block[self.cut..];
        let before = rest.len();
        let (bytes, envelope) = self.rows.next(&mut rest).map_err(|why| self.damaged(why.to_string()))?;
        self.cut += before - rest.len();
        self.left -= 1;
        self.records += 1;
        self.value.clear();
        self.value.extend_from_slice(&self.frame);
        self.value.extend_from_slice(bytes);
        match envelope {
            Ok(envelope) => {
                let position = self.numbering.place(envelope.partition, envelope.offset).map_err(|why| {
                    FileError::Order { file: self.file.clone(), row: format!("record {}", self.records), why }
                })?;
                chunk.push(&Record::of(position, &envelope, &self.value));
            }
            Err(why) => {
                let position = self.numbering.place_broken();
                chunk.push(&Record::broken(position, &self.value, &format!("record {}: {why}", self.records)));
            }
        }
        if self.left == 0 && self.cut < self.block.len() {
            let left = self.block.len() - self.cut;
            return Err(self.damaged(format!("{left} bytes after the block's last record")));
        }
        Ok(())
    }

    /// Reads the next block; `false` at the file's end.
    fn next_block(&mut self) -> Result<bool, FileError> {
        use std::io::BufRead as _;
        match self.input.fill_buf() {
            Ok([]) => return Ok(false),
            Ok(_) => {}
            Err(why) => return Err(self.damaged(why.to_string())),
        }
        self.blocks += 1;
        let mut head = Head { input: &mut self.input, read: 0 };
        let block = head.block(self.packing, &self.sync);
        self.read += head.read;
        let (count, block) = block.map_err(|why| self.damaged(why))?;
        self.block = block.into();
        self.cut = 0;
        self.left = count;
        if count == 0 && !self.block.is_empty() {
            return Err(self.damaged(format!("a block of no records and {} bytes", self.block.len())));
        }
        Ok(true)
    }

    fn damaged(&self, why: String) -> FileError {
        let place = format!(
            "block {} (byte {} of the file at the latest), after record {}",
            self.blocks, self.read, self.records
        );
        FileError::Damaged { file: self.file.clone(), place, why }
    }
}

struct Header {
    schema: String,
    codec: String,
    sync: Sync,
}

/// The file's own structure: what stands between the records.
struct Head<R> {
    input: R,
    read: u64,
}

impl<R: Read> Head<R> {
    fn header(&mut self) -> Result<Header, String> {
        if self.array::<4>()? != MAGIC {
            return Err("it is no Avro container file".to_owned());
        }
        let mut header = Header { schema: String::new(), codec: String::new(), sync: [0; 16] };
        let mut left = HEADER_BYTES_MAX;
        loop {
            let mut count = self.long()?;
            if count == 0 {
                break;
            }
            if count < 0 {
                self.long()?;
                count = count.checked_neg().ok_or("a block of 2^63 items")?;
            }
            for _ in 0..count {
                let name = self.bytes(left)?;
                let value = self.bytes(left)?;
                left = left.saturating_sub((name.len() + value.len()) as u64);
                let kept = match name.as_slice() {
                    b"avro.schema" => &mut header.schema,
                    b"avro.codec" => &mut header.codec,
                    _ => continue,
                };
                *kept = String::from_utf8(value).map_err(|_| "its schema or codec is not UTF-8".to_owned())?;
            }
        }
        header.sync = self.array()?;
        if header.schema.is_empty() { Err("it has no schema".to_owned()) } else { Ok(header) }
    }

    fn block(&mut self, packing: Packing, sync: &Sync) -> Result<(u64, Vec<u8>), String> {
        let count = u64::try_from(self.long()?).map_err(|_| "a negative number of records".to_owned())?;
        let packed = self.bytes(BLOCK_BYTES_MAX as u64)?;
        if self.array::<16>()? != *sync {
            return Err("the mark at the block's end is another one".to_owned());
        }
        let unpacked = unpacked(packed, packing, BLOCK_BYTES_MAX)?;
        Ok((count, unpacked))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(|why| ended(&why))?;
        self.read += N as u64;
        Ok(bytes)
    }

    fn bytes(&mut self, limit: u64) -> Result<Vec<u8>, String> {
        let len = u64::try_from(self.long()?).ok().filter(|len| *len <= limit);
        let len = len.ok_or_else(|| format!("a length that is negative or beyond {limit}"))?;
        let mut bytes = Vec::new();
        let read = (&mut self.input).take(len).read_to_end(&mut bytes).map_err(|why| why.to_string())?;
        self.read += read as u64;
        if (read as u64) < len { Err("the file ends here".to_owned()) } else { Ok(bytes) }
    }

    fn long(&mut self) -> Result<i64, String> {
        let mut bits = 0_u64;
        for index in 0..10 {
            let [byte] = self.array()?;
            bits |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                return Ok((bits >> 1).cast_signed() ^ -(bits & 1).cast_signed());
            }
        }
        Err("an integer of more than ten bytes".to_owned())
    }
}

/// No more than `max` bytes of it are ever made.
fn unpacked(packed: Vec<u8>, packing: Packing, max: usize) -> Result<Vec<u8>, String> {
    let too_large = || format!("a block of more than {max} bytes, unpacked");
    match packing {
        Packing::Null => Ok(packed),
        Packing::Deflate => inflate::decompress_to_vec_with_limit(&packed, max).map_err(|why| match why.status {
            TINFLStatus::HasMoreOutput => too_large(),
            _ => format!("no deflate: {why}"),
        }),
        Packing::Zstandard => {
            let mut bytes = Vec::new();
            let decoder = zstd::Decoder::new(packed.as_slice()).map_err(|why| why.to_string())?;
            decoder.take(max as u64 + 1).read_to_end(&mut bytes).map_err(|why| why.to_string())?;
            if bytes.len() > max { Err(too_large()) } else { Ok(bytes) }
        }
    }
}

fn ended(why: &std::io::Error) -> String {
    match why.kind() {
        std::io::ErrorKind::UnexpectedEof => "the file ends here".to_owned(),
        _ => why.to_string(),
    }
}

/// A block is written when it has so many bytes.
const BLOCK_BYTES: usize = 256 << 10;

/// Writes a container file, in blocks packed by deflate: the one codec that every reader has without an extra.
#[derive(Debug)]
pub(super) struct BlockWriter {
    sync: Sync,
    header: Vec<u8>,
    scratch: Vec<u8>,
    block: Vec<u8>,
    count: u64,
}

impl BlockWriter {
    pub(super) fn new(schema: &str) -> Self {
        // Two files of the same records are the same, so the mark comes from the schema.
        let hash = Sha256::digest(schema.as_bytes());
        let sync = *hash.first_chunk().expect("a hash of 32 bytes");
        let mut header = MAGIC.to_vec();
        put_long(2, &mut header);
        for (name, value) in [("avro.schema", schema), ("avro.codec", "deflate")] {
            put_bytes(name.as_bytes(), &mut header);
            put_bytes(value.as_bytes(), &mut header);
        }
        put_long(0, &mut header);
        header.extend_from_slice(&sync);
        Self { sync, header, scratch: Vec::new(), block: Vec::new(), count: 0 }
    }

    pub(super) fn push<R: Written>(&mut self, record: &R) -> Result<(), EncodeError> {
        self.scratch.clear();
        write::record(record, Framing::SingleObject, &mut self.scratch)?;
        self.block.extend_from_slice(&self.scratch[FRAME_BYTES..]);
        self.count += 1;
        Ok(())
    }

    pub(super) fn is_full(&self) -> bool {
        self.block.len() >= BLOCK_BYTES
    }

    /// Writes what has come since.
    pub(super) fn flush(&mut self, out: &mut impl Write) -> std::io::Result<()> {
        out.write_all(&std::mem::take(&mut self.header))?;
        if self.count == 0 {
            return Ok(());
        }
        let mut packed = std::mem::take(&mut self.block);
        Codec::Deflate(DeflateSettings::default()).compress(&mut packed).map_err(std::io::Error::other)?;
        let mut head = Vec::new();
        put_long(i64::try_from(self.count).expect("a block's records have bytes"), &mut head);
        put_bytes(&packed, &mut head);
        head.extend_from_slice(&self.sync);
        out.write_all(&head)?;
        self.count = 0;
        Ok(())
    }
}

fn put_long(number: i64, out: &mut Vec<u8>) {
    #[expect(clippy::cast_sign_loss, reason = "the encoding is of the bits")]
    let mut bits = ((number << 1) ^ (number >> 63)) as u64;
    while bits > 0x7f {
        out.push((bits & 0x7f) as u8 | 0x80);
        bits >>= 7;
    }
    out.push((bits & 0x7f) as u8);
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_long(i64::try_from(bytes.len()).expect("no memory holds 2^63 bytes"), out);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpacking_ends_at_the_limit() {
        let bytes = vec![7; 100_000];
        let deflated = miniz_oxide::deflate::compress_to_vec(&bytes, 6);
        let zstandard = zstd::encode_all(bytes.as_slice(), 3).unwrap();
        for (packed, packing) in [(deflated, Packing::Deflate), (zstandard, Packing::Zstandard)] {
            assert!(packed.len() < 1_000, "a bomb: {packing:?}");
            assert_eq!(unpacked(packed.clone(), packing, bytes.len()), Ok(bytes.clone()), "{packing:?}");
            let less = unpacked(packed.clone(), packing, bytes.len() - 1);
            assert_eq!(less, Err("a block of more than 99999 bytes, unpacked".to_owned()), "{packing:?}");
            assert!(unpacked(packed[..packed.len() / 2].to_vec(), packing, bytes.len()).is_err(), "cut: {packing:?}");
        }
    }
}
