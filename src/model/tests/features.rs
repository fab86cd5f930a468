//! By values worked out by hand, or by another program where it says so.

use std::borrow::Cow;

use jiff::tz::TimeZone;

use crate::model::features::{Context, FeatureSpec, Field, Number, Scaling, Source, Transform, hours, seconds_since};
use crate::types::{ClickKind, EventTime, fnv1a64};
use crate::wire::click::ClickEvent;

fn click<'a>(name: &'a str, attributes: &[(&'a str, &'a str)]) -> ClickEvent<'a> {
    ClickEvent {
        event_id: "e".into(),
        customer_id: Some("ana".into()),
        event_time: EventTime::parse(0).unwrap(),
        kind: ClickKind::Action,
        name: name.into(),
        channel: None,
        session_id: None,
        device_id: Some("phone".into()),
        context: Vec::new(),
        attributes: attributes.iter().map(|(key, value)| (Cow::from(*key), Cow::from(*value))).collect(),
    }
}

fn fields(fields: Vec<Field>) -> FeatureSpec {
    FeatureSpec::new(fields, Vec::new(), Vec::new(), TimeZone::UTC)
}

fn number(transform: Transform, mean: f64, scale: f64) -> FeatureSpec {
    let scaling = Scaling { transform, mean, scale };
    FeatureSpec::new(Vec::new(), vec![Number { attribute: "amount".into(), scaling }], Vec::new(), TimeZone::UTC)
}

fn zone(name: &str) -> FeatureSpec {
    FeatureSpec::new(Vec::new(), Vec::new(), Vec::new(), TimeZone::get(name).unwrap())
}

#[test]
fn the_hash_is_fnv() {
    // The vectors of the hash's authors.
    assert_eq!(fnv1a64(b""), 0xcbf2_9ce4_8422_2325);
    assert_eq!(fnv1a64(b"a"), 0xaf63_dc4c_8601_ec8c);
    assert_eq!(fnv1a64(b"foobar"), 0x8594_4171_f739_67e8);
}

#[test]
fn known_values_have_their_place_and_others_a_bucket() {
    let spec = fields(vec![Field::new(Source::Name, &["", "home", "pay"], 4)]);
    let id = |name: &str| {
        let features = spec.event(&click(name, &[]));
        (features.fields[0], features.unknown)
    };
    assert_eq!(id(""), (1, false));
    assert_eq!(id("home"), (2, false));
    assert_eq!(id("pay"), (3, false));
    // …8c mod 4 is 0, …e8 mod 4 is 0; V + 1 = 4 is the first bucket.
    assert_eq!(id("a"), (4, true));
    assert_eq!(id("foobar"), (4, true));
    assert_eq!(fnv1a64("größe".as_bytes()), 0xb745_0e1e_f581_40da); // by Python
    assert_eq!(id("größe"), (6, true));
    assert_eq!(spec.ids_len(0), 8);
}

#[test]
fn a_missing_value_is_never_unknown() {
    let spec =
        fields(vec![Field::new(Source::Channel, &["web"], 2), Field::new(Source::Attribute("page".into()), &["a"], 1)]);
    let features = spec.event(&click("home", &[]));
    // FNV-1a64("") is odd: the second of two buckets.
    assert_eq!((features.fields, features.unknown), (vec![3, 2], false));
    assert!(spec.event(&click("home", &[("page", "b")])).unknown);
}

#[test]
fn every_source_is_read() {
    let sources = [Source::Name, Source::Kind, Source::Channel, Source::DeviceId, Source::Attribute("x".into())];
    let values = ["home", "ACTION", "", "phone", "last"];
    let spec = fields(sources.into_iter().zip(values).map(|(source, value)| Field::new(source, &[value], 1)).collect());
    let features = spec.event(&click("home", &[("x", "first"), ("y", "other"), ("x", "last")]));
    assert_eq!(features.fields, [1, 1, 1, 1, 1]);
}

#[test]
fn numbers_are_read_transformed_normalised_and_clipped() {
    let read = |spec: &FeatureSpec, text: &str| spec.event(&click("pay", &[("amount", text)])).numbers[0];
    let identity = number(Transform::Identity, 1.0, 2.0);
    for (text, expected) in [
        ("4", 1.5),
        ("-12.5", -6.75),
        ("+3", 1.0),
        (".5", -0.25),
        ("5.", 2.0),
        ("1e1", 4.5),
        ("5.e0", 2.0),
        ("+.5E+1", 2.0),
        ("-0", -0.5),
        ("1000", 8.0),
        ("-1e300", -8.0),
        ("1", 0.0),
    ] {
        assert_eq!(read(&identity, text), expected, "{text}");
    }
    for text in
        ["", " 4", "4 ", "inf", "-inf", "nan", "NaN", "infinity", "1e999", "1_000", "1,5", "0x10", "٣", "e5", "."]
    {
        assert_eq!(read(&identity, text).to_bits(), 0, "{text}");
    }
    assert_eq!(identity.event(&click("pay", &[])).numbers, [0.0]);
    // ln(1 + |x|), with the sign of x: ln 2 and ln 1025.
    let log = number(Transform::Log1p, 0.0, 1.0);
    assert_eq!(read(&log, "1"), std::f32::consts::LN_2);
    assert_eq!(read(&log, "-1"), -std::f32::consts::LN_2);
    assert_eq!(read(&log, "1024"), 6.932_448);
    assert_eq!(read(&number(Transform::Log1p, 7.0, -0.5), "1024"), 0.135_104_22); // a negative scale turns the sign
}

#[test]
fn the_context_has_values_then_masks() {
    let scaling = |transform, mean, scale| Scaling { transform, mean, scale };
    let context = vec![
        Context { name: "balance".into(), scaling: scaling(Transform::Log1p, 0.0, 1.0) },
        Context { name: "age".into(), scaling: scaling(Transform::Identity, 40.0, 10.0) },
    ];
    let spec = FeatureSpec::new(Vec::new(), Vec::new(), context, TimeZone::UTC);
    let read = |values: &[(&str, f64)]| {
        let values: Vec<_> = values.iter().map(|(name, value)| (Cow::from(*name), *value)).collect();
        spec.context(&values).to_vec()
    };
    assert_eq!(read(&[("age", 55.0), ("shoe size", 44.0), ("balance", 0.0)]), [0.0, 1.5, 1.0, 1.0]);
    assert_eq!(read(&[("age", -1e9)]), [0.0, -8.0, 0.0, 1.0]);
    assert_eq!(read(&[("age", f64::NAN), ("balance", f64::INFINITY)]), [0.0; 4]);
    assert_eq!(read(&[("age", 50.0), ("age", 60.0)]), [0.0, 2.0, 0.0, 1.0]);
    assert_eq!(read(&[]), spec.no_context().to_vec());
    assert_eq!(spec.context_len(), 4);
}

#[test]
fn without_a_model_there_is_nothing_to_read() {
    let spec = FeatureSpec::none();
    let features = spec.event(&click("home", &[("amount", "3")]));
    assert_eq!((features.fields.len(), features.numbers.len(), features.unknown), (0, 0, false));
    assert_eq!((spec.fields_len(), spec.numbers_len(), spec.context_len()), (0, 1, 0));
    assert!(spec.context(&[("balance".into(), 1.0)]).is_empty());
}

#[test]
fn times_are_logarithms() {
    let at = |ms| EventTime::parse(ms).unwrap();
    assert_eq!(seconds_since(at(0), at(1000)), std::f32::consts::LN_2);
    assert_eq!(seconds_since(at(5), at(5)).to_bits(), 0);
    assert_eq!(seconds_since(at(7), at(5)).to_bits(), 0); // never before
    assert_eq!(seconds_since(at(0), at(1)), 0.000_999_500_3); // ln 1.001
    assert_eq!(seconds_since(at(0), at(i64::MAX)), 36.760_517);
    assert_eq!(hours(0).to_bits(), 0);
    assert_eq!(hours(3_600_000), std::f32::consts::LN_2);
    assert_eq!(hours(86_400_000), 3.218_876); // ln 25
    assert_eq!(hours(u64::MAX), 29.264_975);
}

fn close(found: [f32; 4], expected: [f64; 4]) {
    for (found, expected) in found.into_iter().zip(expected) {
        assert!((f64::from(found) - expected).abs() < 1e-7, "{found} is not {expected}");
    }
}

/// Sine and cosine of a part of a turn.
fn turn(part: f64) -> [f64; 2] {
    [(part * std::f64::consts::TAU).sin(), (part * std::f64::consts::TAU).cos()]
}

#[test]
fn the_calendar_is_the_wall_clock() {
    let check = |spec: &FeatureSpec, ms: i64, hour: f64, weekday: f64| {
        let ([a, b], [c, d]) = (turn(hour / 24.0), turn(weekday / 7.0));
        close(spec.calendar(ms), [a, b, c, d]);
    };
    let utc = zone("UTC");
    check(&utc, 0, 0.0, 3.0); // Thursday
    check(&utc, 1_767_571_199_000, 24.0 - 1.0 / 3600.0, 6.0); // Sunday 2026-01-04 23:59:59
    check(&utc, 1_767_571_200_000, 0.0, 0.0);
    check(&utc, 1_767_571_200_250, 0.25 / 3600.0, 0.0);
    check(&utc, -1, 24.0 - 0.001 / 3600.0, 2.0);
    let berlin = zone("Europe/Berlin");
    check(&berlin, 1_774_745_999_999, 2.0 - 0.001 / 3600.0, 6.0); // Sunday 2026-03-29, the clock goes
    check(&berlin, 1_774_746_000_000, 3.0, 6.0); // from 2 to 3
    check(&berlin, 1_792_889_999_000, 3.0 - 1.0 / 3600.0, 6.0); // Sunday 2026-10-25, and from 3
    check(&berlin, 1_792_890_000_000, 2.0, 6.0); // back to 2
    check(&berlin, 1_774_821_600_000, 0.0, 0.0); // Monday begins at 22:00 UTC
    check(&zone("Asia/Kathmandu"), 0, 5.5, 3.0); // 5:45 only since 1986
    check(&zone("Pacific/Kiritimati"), 1_767_571_200_000, 14.0, 0.0);
}

#[test]
fn a_leap_day_is_a_day() {
    // Thursday 2024-02-29 12:00 in New York, winter time.
    let [a, b] = turn(0.5);
    let [c, d] = turn(3.0 / 7.0);
    close(zone("America/New_York").calendar(1_709_226_000_000), [a, b, c, d]);
}

#[test]
fn no_time_is_too_far() {
    let berlin = zone("Europe/Berlin");
    for ms in [i64::MAX, i64::MIN, 253_402_300_800_000, 253_402_207_200_001, -377_705_116_800_001] {
        assert!(berlin.calendar(ms).iter().all(|value| (-1.0..=1.0).contains(value)), "{ms}");
    }
    // Beyond the year 9999 it is UTC's.
    assert_eq!(berlin.calendar(i64::MAX), zone("UTC").calendar(i64::MAX));
}
