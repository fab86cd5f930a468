//! Which shared libraries an ELF file asks the loader for: what a provider of ONNX Runtime needs is read from the provider
//! itself, so that a message names what is missing whatever the version. Takes a file, gives names. `[pure]`

use std::io::{Read, Seek, SeekFrom};

/// Segments, entries of the dynamic section and bytes of a name at the most.
const SEGMENTS_MAX: u16 = 256;
const ENTRIES_MAX: u64 = 4096;
const NAME_BYTES_MAX: u64 = 256;

const LOAD: u32 = 1;
const DYNAMIC: u32 = 2;
const NEEDED: u64 = 1;
const STRING_TABLE: u64 = 5;

/// A part of the file and where it lies in memory.
struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    len: u64,
}

/// The needed libraries in the file's order; the error is a sentence about the file. 64 bits, little endian.
pub fn needed(file: &mut (impl Read + Seek)) -> Result<Vec<String>, String> {
    let header: [u8; 64] = read(file, 0)?;
    if &header[..4] != b"\x7fELF" || header[4] != 2 || header[5] != 1 {
        return Err("is no shared library of this kind of machine".to_owned());
    }
    let (table, entry_len, count) = (u64_at(&header, 32), u16_at(&header, 54), u16_at(&header, 56));
    if entry_len != 56 || count > SEGMENTS_MAX {
        return Err(NO_LIBRARY.to_owned());
    }
    let mut segments = Vec::new();
    for place in 0..u64::from(count) {
        let entry: [u8; 56] = read(file, table.saturating_add(place * 56))?;
        segments.push(Segment {
            kind: u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]),
            offset: u64_at(&entry, 8),
            address: u64_at(&entry, 16),
            len: u64_at(&entry, 32),
        });
    }
    let dynamic = segments.iter().find(|segment| segment.kind == DYNAMIC).ok_or(NO_LIBRARY)?;
    let (mut names, mut strings) = (Vec::new(), None);
    for place in 0..(dynamic.len / 16).min(ENTRIES_MAX) {
        let entry: [u8; 16] = read(file, dynamic.offset.saturating_add(place * 16))?;
        match u64_at(&entry, 0) {
            0 => break,
            NEEDED => names.push(u64_at(&entry, 8)),
            STRING_TABLE => strings = Some(u64_at(&entry, 8)),
            _ => {}
        }
    }
    let strings = strings.and_then(|address| offset_of(&segments, address)).ok_or(NO_LIBRARY)?;
    names.into_iter().map(|name| text(file, strings.saturating_add(name))).collect()
}

const NO_LIBRARY: &str = "is no whole shared library";

fn offset_of(segments: &[Segment], address: u64) -> Option<u64> {
    let holds = |segment: &&Segment| {
        segment.kind == LOAD && address.checked_sub(segment.address).is_some_and(|within| within < segment.len)
    };
    segments.iter().find(holds).and_then(|segment| segment.offset.checked_add(address - segment.address))
}

fn read<const N: usize>(file: &mut (impl Read + Seek), offset: u64) -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    let read = file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(&mut bytes));
    read.map(|()| bytes).map_err(|_| NO_LIBRARY.to_owned())
}

fn text(file: &mut (impl Read + Seek), offset: u64) -> Result<String, String> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(offset)).map_err(|_| NO_LIBRARY)?;
    file.take(NAME_BYTES_MAX).read_to_end(&mut bytes).map_err(|_| NO_LIBRARY)?;
    let len = bytes.iter().position(|byte| *byte == 0).ok_or(NO_LIBRARY)?;
    bytes.truncate(len);
    String::from_utf8(bytes).map_err(|_| NO_LIBRARY.to_owned())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    /// The smallest library that needs these.
    pub(crate) fn library(needs: &[&str]) -> Vec<u8> {
        let mut strings = vec![0];
        let mut dynamic: Vec<u64> = Vec::new();
        for need in needs {
            dynamic.extend([NEEDED, strings.len() as u64]);
            strings.extend(need.bytes().chain([0]));
        }
        let strings_at = 64 + 2 * 56 + 16 * (needs.len() as u64 + 2);
        let base = 0x40_0000;
        dynamic.extend([STRING_TABLE, base + strings_at, 0, 0]);
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(64, 0);
        file[32..40].copy_from_slice(&64_u64.to_le_bytes());
        file[54..56].copy_from_slice(&56_u16.to_le_bytes());
        file[56..58].copy_from_slice(&2_u16.to_le_bytes());
        let dynamic_len = 8 * dynamic.len() as u64;
        for (kind, offset, len) in [(LOAD, 0, 1 << 20), (DYNAMIC, 64 + 2 * 56, dynamic_len)] {
            file.extend(kind.to_le_bytes().into_iter().chain([0; 4]));
            for value in [offset, base + offset, 0, len, len, 8] {
                file.extend(u64::to_le_bytes(value));
            }
        }
        file.extend(dynamic.iter().flat_map(|value| value.to_le_bytes()));
        file.extend(strings);
        file
    }

    #[test]
    fn names_come_in_the_files_order() {
        assert_eq!(needed(&mut Cursor::new(library(&["libb.so.2", "liba.so"]))).unwrap(), ["libb.so.2", "liba.so"]);
        assert_eq!(needed(&mut Cursor::new(library(&[]))).unwrap(), [""; 0]);
    }

    #[test]
    fn this_very_program_needs_the_c_library() {
        let mut file = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
        assert!(needed(&mut file).unwrap().iter().any(|name| name.starts_with("libc.")));
    }

    #[test]
    fn what_is_no_library_is_refused() {
        for bytes in [&b""[..], b"hello", &[0; 100], b"\x7fELF\x01\x01\x01"] {
            assert!(needed(&mut Cursor::new(bytes)).unwrap_err().starts_with("is no "), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd(place in 0..400_usize, byte: u8, len in 0..400_usize) {
            let mut file = library(&["libb.so.2", "liba.so"]);
            let place = place % file.len();
            file[place] = byte;
            drop(needed(&mut Cursor::new(&file)));
            file.truncate(len);
            drop(needed(&mut Cursor::new(&file)));
        }
    }
}
