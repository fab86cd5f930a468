//! The bank as a whole: the same bytes for ever, order, dirt that changes nothing but the order, labels that fit.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use expect_test::expect;
use sha2::{Digest, Sha256};

use super::*;

fn small(seed: u64) -> Params {
    Params { customers: 100, days: 20.0, ..Params::new(seed) }
}

fn dirty(seed: u64) -> Params {
    let dirt = Dirt { shuffle_ms: 3000, duplicate: 0.05, lag_customers: 0.1, lag_ms: 600_000, ..Dirt::CLEAN };
    Params { dirt, ..small(seed) }
}

fn hash(bank: Bank) -> String {
    let mut bytes = Vec::new();
    for record in bank {
        let partition = partition_of(record.click.customer_id.as_bytes(), 6);
        write_json(&mut bytes, &record.click, Some(record.record_time), Some(partition)).unwrap();
        bytes.push(b'\n');
    }
    hex(&bytes)
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_seed_gives_the_same_bytes_for_ever() {
    // Another hash is another bank: whoever compares models on it must know.
    expect!["9dc4f0f04d789c7eb654b4d4c64fe27f7e9fe3eb42ac912475d350520ccbc503"].assert_eq(&hash(Bank::new(dirty(1))));
    assert_eq!(hash(Bank::new(dirty(1))), hash(Bank::new(dirty(1))));
    assert_ne!(hash(Bank::new(dirty(1))), hash(Bank::new(dirty(2))));
}

#[test]
fn records_come_in_the_order_of_their_arrival() {
    let mut last = 0;
    for record in Bank::new(dirty(3)) {
        assert!(record.record_time >= last);
        assert!(record.record_time > record.click.event_time);
        last = record.record_time;
    }
}

#[test]
fn dirt_changes_the_order_and_not_the_clicks() {
    let clicks = |params: Params| -> BTreeMap<String, String> {
        Bank::new(params).map(|record| (record.click.event_id.clone(), format!("{:?}", record.click))).collect()
    };
    assert_eq!(clicks(small(4)), clicks(dirty(4)));

    let count = |params: Params| Bank::new(params).count();
    let (clean, doubled) = (count(small(4)), count(dirty(4)));
    assert!((doubled * 100).div_ceil(clean).abs_diff(105) <= 1, "{doubled} of {clean}");
}

#[test]
fn logouts_get_lost_at_their_share() {
    let logouts = |drop_logout: f64| {
        let dirt = Dirt { drop_logout, ..Dirt::CLEAN };
        Bank::new(Params { dirt, ..small(5) }).filter(|record| record.click.kind == ClickKind::Logout).count()
    };
    let (all, left) = (logouts(0.0), logouts(0.3));
    assert!((left * 100 / all).abs_diff(70) <= 4, "{left} of {all}");
}

#[test]
fn a_customer_is_the_same_in_a_larger_bank() {
    let of_one = |customers: u32| -> Vec<String> {
        Bank::new(Params { customers, ..small(6) })
            .filter(|record| &*record.click.customer_id == "c000003")
            .map(|record| record.click.event_id)
            .collect()
    };
    let alone = of_one(4);
    assert!(alone.len() > 20);
    assert_eq!(alone, of_one(40));
}

#[test]
fn logins_alone_bring_context_and_ids_are_unique() {
    let mut ids = BTreeSet::new();
    let (mut logins, mut complete) = (0, 0);
    for Record { click, .. } in Bank::new(small(7)) {
        assert!(ids.insert(click.event_id.clone()), "{} twice", click.event_id);
        if click.kind == ClickKind::Login {
            logins += 1;
            complete += i32::from(click.context.iter().any(|(name, _)| *name == "balance"));
            assert!(click.context.iter().all(|(_, value)| value.is_finite()));
        } else {
            assert!(click.context.is_empty());
        }
    }
    assert!(complete < logins && complete * 100 > logins * 95, "{complete} of {logins} with a balance");
}

#[test]
fn labels_speak_of_sessions_that_are_there() {
    let mut bank = Bank::new(Params { takeovers: 0.3, ..small(8) });
    let mut starts: HashMap<(String, Option<String>, i64), usize> = HashMap::new();
    let mut labels = Vec::new();
    while let Some(Record { click, .. }) = bank.next() {
        let session_id = click.session_id.map(|id| id.to_string());
        *starts.entry((click.customer_id.to_string(), session_id, click.event_time)).or_default() += 1;
        labels.extend(bank.take_labels());
    }
    let owners: Vec<&Label> = labels.iter().filter(|label| label.task == "owner").collect();
    assert_eq!(owners.len() as u64, bank.sessions());
    for label in &owners {
        let session_id = label.session_id.as_ref().map(ToString::to_string);
        let key = (label.customer_id.to_string(), session_id, label.event_time);
        assert!(starts.contains_key(&key), "{label:?}");
    }
    let victims: BTreeSet<&str> =
        owners.iter().filter(|label| label.label == "1").map(|label| &*label.customer_id).collect();
    assert!((15..=45).contains(&victims.len()), "{} of 100 customers are robbed", victims.len());
    for split in ["train", "valid", "test"] {
        assert!(owners.iter().any(|label| label.split == split && label.label == "1"), "no takeover in {split}");
    }
    let latest = |split: &str| owners.iter().filter(|label| label.split == split).map(|label| label.event_time).max();
    assert!(latest("train") < latest("valid") && latest("valid") < latest("test"));
    let place = |label: &Label| {
        (label.customer_id.to_string(), label.session_id.as_deref().map(str::to_owned), label.event_time)
    };
    let kinds: Vec<&Label> = labels.iter().filter(|label| label.task == "takeover").collect();
    let stolen = owners.iter().filter(|label| label.is_stolen());
    assert!(stolen.map(|label| place(label)).eq(kinds.iter().map(|label| place(label))), "a kind a stolen session");
    for kind in takeover::TakeoverKind::ALL {
        assert!(kinds.iter().any(|label| label.label == kind.as_str()), "no {kind:?}");
    }
    for task in ["next_session", "label"] {
        assert!(labels.iter().any(|label| label.task == task));
    }
}

#[test]
fn the_stream_ends_with_its_bounds() {
    let take = |events_max, open_end| {
        let records: Vec<Record> = Bank::new(Params { events_max, open_end, days: 5.0, ..small(9) }).collect();
        (records.len(), records.last().map_or(0, |record| record.click.event_time))
    };
    let start = Params::new(9).start;
    assert_eq!(take(Some(500), false).0, 500);
    assert_eq!(take(Some(9000), true).0, 9000);
    let (count, last) = take(Some(9000), false);
    assert!(count < 9000 && last < start + 6 * calendar::DAY_MS);
    assert_eq!(take(Some(0), false).0, 0);
}

#[test]
fn memory_goes_with_open_sessions() {
    let mut bank = Bank::new(Params { customers: 400, ..small(10) });
    let mut most = 0;
    while bank.next().is_some() {
        most = most.max(bank.sessions_open());
    }
    assert!(bank.sessions() > 4000 && most < 40, "{most} open at a time, of {}", bank.sessions());
    assert_eq!(bank.sessions_open(), 0);
}

#[test]
fn a_scenario_changes_the_world_from_its_moment() {
    let at = Params::new(0).start + 10 * calendar::DAY_MS;
    let days = |change: Change, names: [&str; 2]| {
        let params = Params { scenarios: vec![Scenario { change, at }], ..small(11) };
        let mut counts = [[0; 2]; 2];
        for Record { click, .. } in Bank::new(params) {
            let count = &mut counts[usize::from(click.event_time >= at)];
            count[0] += usize::from(click.name == names[0]);
            count[1] += usize::from(click.name == names[1]);
        }
        counts
    };
    let [before, after] = days(Change::PageRename, ["transactions", "activity"]);
    assert!(before[0] > 100 && before[1] == 0 && after[0] == 0 && after[1] > 100);
    let [before, after] = days(Change::LayoutChange, ["payments", "home"]);
    assert!(after[0] * before[1] > before[0] * after[1] * 5 / 4, "{before:?} {after:?}: more payments from home");
    let [before, after] = days(Change::Shock, ["login", "payee_add"]);
    assert!(after[0] > before[0] * 3 / 2 && after[1] > before[1] * 2, "{before:?} {after:?}");
}

#[test]
fn the_live_bank_is_steady_and_shows_every_fault() {
    let start = 1_800_000_000_000;
    let mut live = Live::new(LiveParams { broken: 0.01, takeovers: 0.02, ..LiveParams::new(1, 500.0, start) });
    let records: Vec<LiveRecord> = (0..30_000).map(|_| live.next()).collect();
    let (sessions, open) = live.sessions();
    assert!((2000..6000).contains(&sessions) && (200..2000).contains(&open), "{sessions} sessions, {open} open");
    let mut seen = Vec::new();
    let (mut own, mut stolen, mut delayed) = (0, 0, 0);
    for (record, due) in records.iter().zip((start..).step_by(2)) {
        assert_eq!(record.due_ms, due);
        let fault = match record.truth {
            Truth::Broken(fault) => Some(fault),
            Truth::Own | Truth::Stolen(_) => None,
        };
        seen.extend(fault);
        if fault.is_some() {
            continue;
        }
        let click: serde_json::Value = serde_json::from_slice(&record.value).unwrap();
        assert_eq!(click["customer_id"].as_str().unwrap().as_bytes(), record.key.as_deref().unwrap());
        let delay = due - click["event_time"].as_i64().unwrap();
        assert!((0..5000).contains(&delay), "{delay} ms late");
        delayed += i32::from(delay > 300);
        own += i32::from(record.truth == Truth::Own);
        stolen += i32::from(matches!(record.truth, Truth::Stolen(_)));
    }
    assert!(Fault::ALL.iter().all(|fault| seen.contains(fault)), "{seen:?}");
    assert!((200..400).contains(&seen.len()), "{} broken", seen.len());
    assert!(stolen > 100 && own > 50 * delayed / 10, "{own} own, {stolen} stolen, {delayed} delayed");
    let all: Vec<u8> = records.into_iter().flat_map(|record| record.value).collect();
    expect!["50cc03685327079077a71a066c1c796bd8523a5161f1b23eaef152cefcb07d92"].assert_eq(&hex(&all));
}
