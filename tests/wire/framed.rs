//! Records framed by a schema registry's ids: the same bytes and the same answers as by fingerprints, and what is hostile.

use dce::config::Encoding;
use dce::wire::avro::{CUSTOMER_EMBEDDING_AVSC, ID_MAX, IDS_MAX, SESSION_SUMMARY_AVSC, Schemas, framing_id};
use dce::wire::embedding::CustomerEmbedding;
use dce::wire::error::{DecodeError, EncodeError};
use proptest::prelude::*;

use super::avro::an_input;

const CLICK_EVENT: &str = include_str!("../../schemas/ClickEvent.avsc");

fn schemas(id: u32) -> Schemas {
    let mut schemas = Schemas::released();
    schemas.register_id(id, CLICK_EVENT, &[]).unwrap();
    schemas
}

proptest! {
    #[test]
    fn an_id_says_the_same_as_a_fingerprint(input in an_input(), id in 0..=ID_MAX) {
        let schemas = schemas(id);
        let (mut framed, mut single) = (b"before".to_vec(), Vec::new());
        input.encode_by_id(id, &mut framed).unwrap();
        input.encode_into(Encoding::Avro, &mut single).unwrap();
        let framed = &framed[6..];
        prop_assert_eq!(&framed[..5], &[&[0][..], &id.to_be_bytes()].concat()[..]);
        prop_assert_eq!(&framed[5..], &single[10..], "the same body");
        prop_assert_eq!(dce::wire::decode(framed, &schemas), dce::wire::decode(&single, &schemas));
    }

    #[test]
    fn no_bytes_behind_a_zero_do_harm(mut bytes in proptest::collection::vec(any::<u8>(), 0..60), known in any::<bool>()) {
        bytes.insert(0, 0);
        let id = framing_id(&bytes);
        let schemas = schemas(id.filter(|id| known && *id <= ID_MAX).unwrap_or(7));
        let single = id.map(|_| {
            let fingerprint = &dce::wire::avro::CLICK_EVENT.0[..];
            [&[0xc3, 1][..], fingerprint, &bytes[5..]].concat()
        });
        match (dce::wire::decode(&bytes, &schemas), id) {
            (Err(why), None) => prop_assert_eq!(why, DecodeError::Truncated { field: "the schema registry's header" }),
            (Err(DecodeError::NoSuchId { id: said }), Some(id)) => prop_assert!(id == said && id > ID_MAX),
            (Err(DecodeError::IdNotAsked { id: said }), Some(id)) => prop_assert!(id == said && schemas.missing(&bytes) == Some(id)),
            (said, _) => {
                let single = single.unwrap();
                prop_assert_eq!(said, dce::wire::decode(&single, &schemas));
            }
        }
    }
}

#[test]
fn hostile_frames() {
    let schemas = schemas(7);
    let said = |bytes: &[u8]| dce::wire::decode(bytes, &schemas).unwrap_err().to_string();
    for short in 1..5 {
        assert_eq!(said(&[0; 5][..short]), "the bytes end within the schema registry's header");
        assert_eq!(schemas.missing(&[0; 5][..short]), None);
    }
    assert_eq!(said(&[0, 0, 0, 0, 7]), "the bytes end within event_id");
    assert_eq!(said(&[0; 5]), "the schema registry was not asked for the id 0");
    assert_eq!(schemas.missing(&[0; 5]), Some(0));
    assert_eq!(
        said(&[0, 255, 255, 255, 255, 1]),
        format!("the schema registry knows no schema by the id {}", u32::MAX)
    );
    assert_eq!(schemas.missing(&[0, 255, 255, 255, 255, 1]), None, "nobody needs to be asked");
    for other in [&b"{}"[..], b"", b"\xc3\x01", b"\x01\0\0\0\x07"] {
        assert_eq!(schemas.missing(other), None);
    }
}

/// Whether a state that is rebuilt later might read it.
#[test]
fn what_nobody_has_a_schema_for() {
    let framed = [0, 0, 0, 0, 9, 1];
    let mut schemas = Schemas::released();
    assert_eq!((schemas.missing(&framed), schemas.unknown(&framed)), (None, Some(9)), "no registry");
    schemas.no_such_id(9);
    assert_eq!((schemas.missing(&framed), schemas.unknown(&framed)), (None, Some(9)));
    schemas.refuse_id(9, "is no schema");
    assert_eq!(schemas.unknown(&framed), None, "an id's schema never changes");
    schemas.forget_id(9);
    assert_eq!(schemas.missing(&framed), Some(9));
    schemas.register_id(9, CLICK_EVENT, &[]).unwrap();
    assert_eq!((schemas.missing(&framed), schemas.unknown(&framed)), (None, None));
}

#[test]
fn outputs_are_read_back_by_their_ids() {
    let mut schemas = Schemas::released();
    schemas.register_id(3, CUSTOMER_EMBEDDING_AVSC, &[]).unwrap();
    schemas.register_id(4, SESSION_SUMMARY_AVSC, &[]).unwrap();
    let record = super::outputs::an_example();
    let mut bytes = Vec::new();
    record.encode_by_id(3, &mut bytes).unwrap();
    assert_eq!(CustomerEmbedding::decode(&bytes, &schemas).unwrap(), record);
    bytes[4] = 4;
    assert!(CustomerEmbedding::decode(&bytes, &schemas).is_err(), "a session's schema");
    let why = dce::wire::decode(&bytes, &schemas).unwrap_err().to_string();
    assert!(why.starts_with("the schema registry's id 4: cannot be read as a ClickEvent: "), "{why}");
    // Without an id there is nothing to frame by, and the buffer stays as it was.
    let mut out = b"before".to_vec();
    assert_eq!(record.encode_into(Encoding::Confluent, &mut out), Err(EncodeError::NoId));
    assert_eq!(out, b"before");
}

#[test]
fn the_oldest_ids_are_forgotten_beyond_the_limit() {
    let mut schemas = Schemas::released();
    let count = u32::try_from(IDS_MAX).unwrap() + 5;
    (0..count).for_each(|id| schemas.no_such_id(id));
    let known = |schemas: &Schemas| (0..count).filter(|id| schemas.knows_id(*id)).count();
    assert_eq!(known(&schemas), IDS_MAX + 5, "not in the middle of a batch");
    schemas.forget_oldest_ids();
    assert_eq!(known(&schemas), IDS_MAX);
    assert!(!schemas.knows_id(4) && schemas.knows_id(5));
    let large = CLICK_EVENT.replace("\"namespace\"", &format!("\"doc2\":\"{}\",\"namespace\"", "x".repeat(30 << 20)));
    (0..4).for_each(|id| schemas.register_id(id, &large, &[]).unwrap());
    schemas.forget_oldest_ids();
    assert_eq!((0..4).filter(|id| schemas.knows_id(*id)).count(), 2, "64 MiB of schemas");
}
