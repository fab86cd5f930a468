//! Source and sink against a real broker: what is committed together, what an abort leaves, who reads what.

use std::collections::BTreeMap;
use std::time::Duration;

use dce::kafka::Deadline;
use dce::kafka::client::Rebalance;
use dce::kafka::raw::GroupMetadata;
use dce::kafka::reader::Span;
use dce::pipeline::sink::{Epoch, Outcome, Sink};
use dce::pipeline::source::{Rebuild, SourceError};
use dce::stop::Stop;
use dce::types::ResumeAt;

use crate::copier::{Copier, copy, encode};
use crate::harness::{Bed, Click, WAIT};

fn clicks(partitions: i32, each: usize) -> impl Iterator<Item = Click> {
    (0..each).flat_map(move |n| (0..partitions).map(move |p| Click::new(p, &format!("c{p}"), &format!("{p}:{n}"))))
}

/// Steps until so many records are committed.
fn copy_until(copiers: &mut [&mut Copier], committed: u64) {
    let deadline = Deadline::after(WAIT);
    while copiers.iter().map(|copier| copier.committed).sum::<u64>() < committed {
        assert!(!deadline.passed(), "{committed} records are committed in time");
        for copier in &mut *copiers {
            copier.step();
            copier.finish();
        }
    }
}

/// Values by partition, in order.
fn values(bed: &Bed, topic: &str) -> BTreeMap<i32, Vec<String>> {
    let mut values: BTreeMap<i32, Vec<String>> = BTreeMap::new();
    for got in bed.read_all(topic) {
        values.entry(got.partition).or_default().push(got.value.unwrap());
    }
    values
}

fn expected(partitions: i32, each: usize) -> BTreeMap<i32, Vec<String>> {
    (0..partitions).map(|p| (p, (0..each).map(|n| format!("{p}:{n}")).collect())).collect()
}

#[test]
fn every_record_comes_out_once_with_its_offset_committed() {
    let bed = Bed::new("copy");
    let (from, to) = (bed.topic("in", 4), bed.topic("out", 4));
    bed.produce(&from, clicks(4, 2_500));
    let mut copier = Copier::new(&bed.settings, &bed.name("app"), "0", &from, &to);
    copier.limits.events_max = 700;
    copy_until(&mut [&mut copier], 10_000);

    assert_eq!(values(&bed, &to), expected(4, 2_500), "in the order and to the partition of their causes");
    let committed = copier.source.committed(&[0, 1, 2, 3], WAIT).unwrap();
    let committed: Vec<_> = committed.into_iter().map(|(p, c)| (p, c.unwrap().resume)).collect();
    assert_eq!(committed, (0..4).map(|p| (p, ResumeAt(2_500))).collect::<Vec<_>>());
    assert!(copier.receipts.len() >= 15, "epochs of 700 at the most: {}", copier.receipts.len());
    drop(copier);

    // A restart goes on where the last one ended.
    bed.produce(&from, [Click::new(2, "c2", "2:2500")]);
    let mut copier = Copier::new(&bed.settings, &bed.name("app"), "0", &from, &to);
    copy_until(&mut [&mut copier], 1);
    let mut all = expected(4, 2_500);
    all.get_mut(&2).unwrap().push("2:2500".to_owned());
    assert_eq!(values(&bed, &to), all);
}

#[test]
fn the_trace_and_the_time_of_a_record_are_seen() {
    let bed = Bed::new("trace");
    let (from, to) = (bed.topic("in", 1), bed.topic("out", 1));
    let mut traced = Click::new(0, "ana", "traced");
    traced.timestamp_ms = Some(1_600_000_000_000);
    traced.headers = vec![("traceparent".to_owned(), "00-aa-bb-01".to_owned()), ("other".to_owned(), "x".to_owned())];
    bed.produce(&from, [Click::new(0, "ana", "plain"), traced]);
    let mut copier = Copier::new(&bed.settings, &bed.name("app"), "0", &from, &to);
    copy_until(&mut [&mut copier], 2);
    let mut collector = bed.collector(&to);
    let got = collector.until(2);
    assert!(got[0].headers.is_empty());
    assert_eq!(got[1].headers, [("traceparent".to_owned(), "00-aa-bb-01".to_owned())].into());
}

/// Collects until there is a batch, answering rebalances on the way.
fn first_batch(copier: &mut Copier) -> Epoch {
    let deadline = Deadline::after(WAIT);
    loop {
        assert!(!deadline.passed(), "a batch in time");
        let collected = copier.source.collect(&copier.limits).unwrap();
        if !collected.batch.is_empty() {
            return Epoch {
                result: copy(&collected.batch),
                group: copier.source.group_metadata().unwrap(),
                histories: BTreeMap::new(),
            };
        }
        for rebalance in collected.rebalances {
            let Rebalance::Assigned(partitions) = rebalance else { panic!("{rebalance:?}") };
            let starts = copier.source.committed(&partitions, WAIT).unwrap();
            let starts: Vec<_> = starts.into_iter().map(|(p, c)| (p, c.map_or(ResumeAt(0), |c| c.resume))).collect();
            copier.source.assign(&starts).unwrap();
        }
    }
}

#[test]
fn an_aborted_epoch_leaves_nothing_and_is_read_again() {
    let bed = Bed::new("abort");
    // No record over 1,000 bytes is taken: its transaction fails after others of it are written.
    let from = bed.topic("in", 2);
    let to = bed.topic_of("out", 2, &[("max.message.bytes", "1000")]);
    bed.produce(&from, clicks(2, 100));
    let noise: String =
        (0..20_000u32).map(|n| char::from(b'a' + (n.wrapping_mul(2_654_435_761) >> 27) as u8 % 26)).collect();
    let mut copier = Copier::new(&bed.settings, &bed.name("app"), "0", &from, &to);

    let mut epoch = first_batch(&mut copier);
    let good = epoch.result.outputs.len();
    let mut last = copy_of(&epoch, &noise);
    epoch.result.outputs.append(&mut last);
    copier.sink.submit(epoch);
    let outcome = copier.sink.outcome(WAIT).unwrap();
    assert!(matches!(&outcome, Outcome::Aborted { why } if why.contains("too large")), "{good}: {outcome:?}");
    assert_eq!(values(&bed, &to), BTreeMap::new(), "nothing is visible");
    let committed = copier.source.committed(&[0, 1], WAIT).unwrap();
    assert_eq!(committed, [(0, None), (1, None)], "and no offset is committed");

    // Back to where the group stands; then the same records come again, and the same sink commits them.
    copier.source.seek(&[(0, ResumeAt(0)), (1, ResumeAt(0))], WAIT).unwrap();
    copy_until(&mut [&mut copier], 200);
    assert_eq!(values(&bed, &to), expected(2, 100));
}

/// One output more, of that value.
fn copy_of(epoch: &Epoch, value: &str) -> Vec<dce::pipeline::epoch::Output> {
    use dce::pipeline::epoch::{Body, Output};
    let output = epoch.result.outputs.last().unwrap();
    let Body::Session(session) = &output.body else { panic!("only sessions are copied") };
    let mut session = session.clone();
    session.session_key = value.into();
    vec![Output { cause: output.cause, timestamp_ms: None, traceparent: None, body: Body::Session(session) }]
}

#[test]
fn without_a_membership_nothing_is_committed() {
    let bed = Bed::new("generation");
    let (from, to) = (bed.topic("in", 1), bed.topic("out", 1));
    bed.produce(&from, clicks(1, 3));
    let mut copier = Copier::new(&bed.settings, &bed.name("app"), "0", &from, &to);
    let epoch = first_batch(&mut copier);
    let group = GroupMetadata::without_membership(&bed.name("app")).unwrap();
    assert_eq!(group.generation(), -1);
    copier.sink.submit(Epoch { group, ..epoch });
    let outcome = copier.sink.outcome(WAIT).unwrap();
    assert!(matches!(outcome, Outcome::Aborted { .. }), "{outcome:?}");
    assert_eq!(values(&bed, &to), BTreeMap::new());
    assert_eq!(copier.source.committed(&[0], WAIT).unwrap(), [(0, None)]);
}

#[test]
fn two_members_share_the_partitions_and_lose_nothing() {
    let bed = Bed::new("share");
    let (from, to) = (bed.topic("in", 4), bed.topic("out", 4));
    let application = bed.name("app");
    bed.produce(&from, clicks(4, 50));
    let mut first = Copier::new(&bed.settings, &application, "0", &from, &to);
    copy_until(&mut [&mut first], 200);
    assert_eq!(first.rebalances, [Rebalance::Assigned(vec![0, 1, 2, 3])]);

    let mut second = Copier::new(&bed.settings, &application, "1", &from, &to);
    let deadline = Deadline::after(WAIT);
    while second.owned.len() < 2 {
        assert!(!deadline.passed(), "the second member gets partitions in time");
        first.step();
        second.step();
    }
    let Some(Rebalance::Revoked { partitions, lost: false }) = first.rebalances.get(1) else {
        panic!("only what moves is revoked: {:?}", first.rebalances)
    };
    assert_eq!(partitions.len(), 2, "{partitions:?}");
    assert_eq!(second.rebalances, [Rebalance::Assigned(partitions.clone())]);
    assert_eq!(first.owned.union(&second.owned).copied().collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(first.rebalances.len(), 2, "what stays is neither revoked nor assigned again");

    bed.produce(&from, clicks(4, 50));
    let committed = first.committed + second.committed;
    copy_until(&mut [&mut first, &mut second], 400 - committed + committed);
    let twice: BTreeMap<i32, Vec<String>> =
        expected(4, 50).into_iter().map(|(p, values)| (p, [values.clone(), values].concat())).collect();
    assert_eq!(values(&bed, &to), twice);
}

#[test]
fn a_second_holder_of_the_slot_fences_the_first() {
    let bed = Bed::new("fence");
    let (from, to) = (bed.topic("in", 1), bed.topic("out", 1));
    let application = bed.name("app");
    bed.produce(&from, clicks(1, 5));
    let mut first = Copier::new(&bed.settings, &application, "0", &from, &to);
    copy_until(&mut [&mut first], 5);
    bed.produce(&from, [Click::new(0, "c0", "0:5")]);
    let epoch = first_batch(&mut first);

    let settings = Copier::sink_settings(&bed.settings, &format!("{application}-0"), &from, &to);
    let _second = Sink::spawn(settings, Box::new(encode), &Stop::new()).unwrap();
    first.sink.submit(epoch);
    let outcome = first.sink.outcome(WAIT).unwrap();
    assert!(matches!(outcome, Outcome::Fatal { .. } | Outcome::UnknownOutcome { .. }), "{outcome:?}");
    assert_eq!(values(&bed, &to), expected(1, 5));

    // The same with the group: its newcomer takes the place of the old member, who hears of it.
    let mut newcomer = Copier::new(&bed.settings, &application, "0", &from, &to);
    copy_until(&mut [&mut newcomer], 1);
    let deadline = Deadline::after(WAIT);
    let error = loop {
        assert!(!deadline.passed(), "the old member hears of it in time");
        match first.source.collect(&first.limits) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(error, SourceError::Fatal { .. }), "{error}");
}

#[test]
fn a_span_is_read_to_its_end_over_markers_and_aborted_records() {
    let bed = Bed::new("rebuild");
    let (from, to) = (bed.topic("in", 2), bed.topic("out", 2));
    bed.produce(&from, clicks(2, 10));
    let mut copier = Copier::new(&bed.settings, &bed.name("app"), "0", &from, &to);
    copier.limits.events_max = 4;
    copy_until(&mut [&mut copier], 20);

    // `to` has a marker after each epoch's records, and ends with one.
    let mut settings = Copier::source_settings(&bed.settings, &bed.name("app"), "0", &to);
    let end = copier.source_end(&bed, &to, 0);
    assert!(end > 10, "markers take offsets: {end}");
    let span = Span { partition: 0, from: ResumeAt(1), until: ResumeAt(end) };
    let mut rebuild = Rebuild::start(&settings, &settings.topic, &[span], WAIT).unwrap();
    let mut got = Vec::new();
    while let Some(batch) = rebuild.next(3, || false).unwrap() {
        got.extend(batch.records().map(|record| String::from_utf8(record.value.unwrap().to_vec()).unwrap()));
    }
    assert_eq!(got, expected(1, 10)[&0][1..]);
    let progress = rebuild.progress();
    assert_eq!(progress.done, progress.total);

    // In the middle: up to the offset, and not including it.
    settings.topic = from.clone();
    let spans = [0, 1].map(|partition| Span { partition, from: ResumeAt(2), until: ResumeAt(5) });
    let mut rebuild = Rebuild::start(&settings, &settings.topic, &spans, WAIT).unwrap();
    let mut got = Vec::new();
    while let Some(batch) = rebuild.next(100, || false).unwrap() {
        got.extend(batch.records().map(|record| (record.position.partition, record.position.offset)));
    }
    got.sort_unstable();
    assert_eq!(got, [(0, 2), (0, 3), (0, 4), (1, 2), (1, 3), (1, 4)]);

    // Beyond the end: says so.
    let span = Span { partition: 0, from: ResumeAt(8), until: ResumeAt(99) };
    let mut rebuild = Rebuild::start(&settings, &settings.topic, &[span], Duration::from_secs(2)).unwrap();
    let error = loop {
        match rebuild.next(100, || false) {
            Ok(batch) => assert!(batch.is_some(), "it cannot be done"),
            Err(error) => break error.to_string(),
        }
    };
    assert!(error.contains("read up to offset 10 of 99") && error.contains("ends at offset 10"), "{error}");
}

impl Copier {
    fn source_end(&self, bed: &Bed, topic: &str, partition: i32) -> i64 {
        let inspector = dce::kafka::topics::Inspector::new(&bed.settings).unwrap();
        inspector.watermarks(topic, partition, WAIT).unwrap().1
    }
}
