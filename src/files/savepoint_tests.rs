//! Savepoints: what was written comes back, and hostile bytes are an error with their place.

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

fn header(partitions: u32) -> Header {
    Header {
        application: "bank".to_owned(),
        input: "clicks".to_owned(),
        state: "bank-state".to_owned(),
        partitions,
        at_ms: 1_800_000_000_000,
    }
}

fn customer(id: &str, is_active: bool, packed: &[u8]) -> Piece {
    let id = CustomerId::parse(id).unwrap();
    Piece::Customer(Customer { id, is_active, through: 41, packed: packed.to_vec() })
}

fn pieces() -> Vec<Piece> {
    vec![
        Piece::Partition(Partition {
            number: 0,
            committed: Some((77, "dce from=0 terms=1 state=3 of=2".to_owned())),
            head: Some(vec![1, 3, 5]),
        }),
        customer("ana", false, &[7; 300]),
        customer("ben", true, &[]),
        Piece::Partition(Partition { number: 1, committed: None, head: None }),
    ]
}

/// In a folder of its own, which goes with it.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("dce-savepoint-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn file(&self) -> PathBuf {
        self.0.join("a.dce")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn write(path: &Path, header: &Header, pieces: &[Piece]) -> Totals {
    let mut writer = Writer::create(path, true, header).unwrap();
    for piece in pieces {
        match piece {
            Piece::Partition(partition) => writer.partition(partition).unwrap(),
            Piece::Customer(customer) => writer.customer(customer).unwrap(),
        }
    }
    writer.finish().unwrap()
}

fn read(mut reader: Reader) -> Result<Vec<Piece>, FileError> {
    let mut pieces = Vec::new();
    while let Some(piece) = reader.piece()? {
        pieces.push(piece);
    }
    assert_eq!(reader.piece().unwrap(), None, "an end is an end");
    Ok(pieces)
}

/// Of bytes as they are after decompression.
fn read_bytes(bytes: &[u8]) -> Result<Vec<Piece>, String> {
    let reader = Reader::of(Box::new(io::Cursor::new(bytes.to_vec())), "a.dce".to_owned());
    reader.and_then(read).map_err(|error| error.to_string())
}

#[test]
fn it_comes_back_as_it_was() {
    let place = Place::new("whole");
    let totals = write(&place.file(), &header(2), &pieces());
    assert_eq!(totals, Totals { partitions: 2, customers: 2 });
    let reader = Reader::open(&place.file()).unwrap();
    assert_eq!(reader.header(), &header(2));
    assert_eq!(read(reader).unwrap(), pieces());
    let taken = Writer::create(&place.file(), false, &header(2)).unwrap_err().to_string();
    assert!(taken.contains("is there already"), "{taken}");
}

#[test]
fn a_file_that_is_none_or_not_whole_is_refused_with_the_reason() {
    let place = Place::new("damaged");
    let path = place.file();
    write(&path, &header(2), &pieces());
    let whole = fs::read(&path).unwrap();
    let bytes = zstd::decode_all(whole.as_slice()).unwrap();
    assert!(read_bytes(&bytes).is_ok());
    let refused = |bytes: &[u8]| read_bytes(bytes).unwrap_err();
    assert!(refused(b"").contains("it is no savepoint of dce"));
    assert!(refused(b"{\"event_id\":1, \"customer_id\":2}").contains("it is no savepoint of dce"));
    let mut other = bytes.clone();
    other[MAGIC.len()] = 9;
    assert!(refused(&other).contains("layout 9, and this dce reads 1"));
    for len in MAGIC.len()..bytes.len() {
        assert!(refused(&bytes[..len]).contains("it ends early"), "{len}");
    }
    assert!(refused(&[&bytes[..], &[0]].concat()).contains("it goes on behind its end"));
    for at in MAGIC.len()..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        refused(&changed);
    }
    // As files: another kind of file, one that is cut, one without a partition.
    fs::write(&path, b"no zstd at all").unwrap();
    assert!(Reader::open(&path).and_then(read).unwrap_err().to_string().contains("it is no savepoint of dce"));
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    Reader::open(&path).and_then(read).unwrap_err();
    write(&path, &header(3), &pieces());
    let said = Reader::open(&path).and_then(read).unwrap_err().to_string();
    assert!(said.contains("not as many partitions"), "{said}");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_take_memory(bytes: Vec<u8>) {
        let begun = [MAGIC.as_slice(), &[VERSION], &bytes].concat();
        prop_assert!(read_bytes(&bytes).is_err());
        prop_assert!(read_bytes(&begun).is_err());
    }

    #[test]
    fn no_payload_does_either(kind in prop::sample::select(b"HPCEx".to_vec()), payload: Vec<u8>) {
        let place = Place::new("payload");
        write(&place.file(), &header(2), &pieces()[..1]);
        let whole = zstd::decode_all(fs::read(place.file()).unwrap().as_slice()).unwrap();
        // Behind the header and a partition, in the place of the end: a kind, a length and 10 bytes.
        let begun = &whole[..whole.len() - 19];
        let record = [&[kind][..], &(payload.len() as u64).to_le_bytes(), &payload].concat();
        prop_assert!(read_bytes(&[begun, &record].concat()).is_err());
    }
}
