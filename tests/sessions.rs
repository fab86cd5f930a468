//! The sessionizer against sessions in ten lines: a plain cut of each key's sorted events.

use std::collections::{BTreeMap, HashMap};

use dce::config::SessionRules;
use dce::model::features::FeatureSpec;
use dce::pipeline::session::{Arrival, Change, Partition, Slot};
use dce::types::{ClickKind, CustomerId, Moment, RejectReason};
use rand::RngExt;

use crate::streams::{Click, has_silence_near_the_gap, pauses, rng, shuffled, stream, wide_rules};

/// (opened by, close reason, event ids); no reason: still open.
type Cut = (String, String, Vec<String>);

/// Sessions by customer and channel.
type Cuts = BTreeMap<(String, String), Vec<Cut>>;

/// Sessions of the sorted clicks of one key.
fn cut(clicks: &[&Click], rules: &SessionRules) -> Vec<Cut> {
    let (mut sessions, mut now): (Vec<Cut>, Vec<&Click>) = Default::default();
    let mut opened_by = "";
    let mut last: Option<(i64, &str)> = None;
    let mut close = |now: &mut Vec<&Click>, opened_by: &str, reason: &'static str| {
        let end = now.last().unwrap().time;
        if now.iter().any(|c| c.kind != ClickKind::Logout) {
            sessions.push((opened_by.into(), reason.into(), now.iter().map(|c| c.id.clone()).collect()));
        }
        now.clear();
        Some((end, reason))
    };
    for click in clicks {
        if let (Some(first), Some(previous)) = (now.first(), now.last()) {
            if click.time - previous.time > rules.gap_ms as i64 {
                last = close(&mut now, opened_by, "GAP");
            } else if click.kind == ClickKind::Login {
                last = close(&mut now, opened_by, "RELOGIN");
            } else if click.time - first.time > rules.duration_max_ms as i64 {
                last = close(&mut now, opened_by, "DURATION_MAX");
            }
        }
        if now.is_empty() {
            let is_limit = |reason: &str| matches!(reason, "DURATION_MAX" | "EVENTS_MAX");
            let continues =
                last.is_some_and(|(end, reason)| is_limit(reason) && click.time - end <= rules.gap_ms as i64);
            opened_by = match click.kind {
                ClickKind::Login => "LOGIN",
                _ if continues => "CONTINUED",
                _ => "IMPLICIT",
            };
        }
        now.push(click);
        if click.kind == ClickKind::Logout {
            last = close(&mut now, opened_by, "LOGOUT");
        } else if now.len() >= rules.events_max {
            last = close(&mut now, opened_by, "EVENTS_MAX");
        }
    }
    if !now.is_empty() {
        close(&mut now, opened_by, "");
    }
    sessions
}

/// The naive answer for a whole stream: by customer and channel.
fn naive(clicks: &[Click], rules: &SessionRules) -> Cuts {
    let mut by_key: BTreeMap<_, Vec<&Click>> = BTreeMap::new();
    for click in clicks {
        by_key.entry((click.customer.clone(), click.channel.to_string())).or_default().push(click);
    }
    by_key.into_iter().map(|(key, clicks)| (key, cut(&clicks, rules))).collect()
}

/// What the sessionizer's steps leave: by customer and channel the sessions in fold order, as last published.
fn run(clicks: &[Click], rules: &SessionRules) -> (Cuts, Vec<RejectReason>) {
    let mut partition = Partition::new(rules.clone());
    let (mut steps, mut rejects) = (Vec::new(), Vec::new());
    let mut lists: HashMap<Slot, (Vec<_>, Vec<_>)> = HashMap::new();
    let spec = FeatureSpec::none();
    for click in clicks {
        let customer = CustomerId::parse(&click.customer).unwrap();
        let event = click.event();
        rejects.extend(partition.push(Arrival::new(customer.by_ref(), &event, &spec, &[]), &mut steps).err());
        for step in steps.drain(..) {
            let (frozen, folded) = lists.entry(step.slot).or_default();
            match step.what {
                Change::Fold { place, session } => folded.insert(place, session),
                Change::Unfold { place } => _ = folded.remove(place),
                Change::Freeze { count } => frozen.extend(folded.drain(..count)),
                Change::Provisional { .. } | Change::Forget { .. } | Change::Erase { .. } => {}
            }
        }
    }
    partition.tick(Moment::INFINITY, &mut steps);
    let mut left_open: Vec<_> = Vec::new();
    for step in steps {
        if let Change::Fold { session, .. } = step.what {
            left_open.push((step.slot, session));
        }
    }
    let mut found: BTreeMap<_, Vec<Cut>> = BTreeMap::new();
    let closed = lists.into_values().flat_map(|(frozen, folded)| frozen.into_iter().chain(folded)).map(|s| (s, false));
    for (session, is_open) in closed.chain(left_open.into_iter().map(|(_, s)| (s, true))) {
        let key = (session.customer.to_string(), session.cause.channel.as_deref().unwrap().to_string());
        let reason = if is_open { "" } else { session.cause.close_reason.unwrap().as_str() };
        if session.sequence.is_some() {
            let ids = session.event_ids.iter().map(ToString::to_string).collect();
            found.entry(key).or_default().push((session.cause.opened_by.as_str().into(), reason.into(), ids));
        }
    }
    (found, rejects)
}

/// Equal as sets; a session that the naive answer leaves open may have been closed by silence.
fn assert_same(seed: u64, found: &Cuts, want: &Cuts) {
    for (key, want) in want {
        let mut found = found.get(key).cloned().unwrap_or_default();
        found.sort_by(|a, b| a.2.cmp(&b.2));
        let mut want = want.clone();
        want.sort_by(|a, b| a.2.cmp(&b.2));
        assert_eq!(found.len(), want.len(), "seed {seed}, {key:?}: {found:#?} {want:#?}");
        for (found, want) in found.iter().zip(&want) {
            let is_same_reason = found.1 == want.1 || (want.1.is_empty() && found.1 == "GAP");
            assert!(
                found.0 == want.0 && found.2 == want.2 && is_same_reason,
                "seed {seed}, {key:?}: {found:?} {want:?}"
            );
        }
    }
}

#[test]
fn a_stream_in_order_gives_the_plain_cut() {
    for seed in 0..1_500 {
        let mut rng = rng(seed);
        let rules = SessionRules {
            duration_max_ms: 300_000,
            events_max: 7,
            revisable_max: 8,
            revisions_max: 64,
            ..wide_rules()
        };
        let clicks = stream(&mut rng, 60, |rng| match rng.random_range(0..3) {
            0 => 0,
            1 => rng.random_range(1..5_000),
            _ => rng.random_range(1..400_000),
        });
        let (found, rejects) = run(&clicks, &rules);
        assert!(rejects.is_empty(), "seed {seed}: {rejects:?}");
        assert_same(seed, &found, &naive(&clicks, &rules));
    }
}

#[test]
fn disorder_within_the_lateness_and_duplicates_give_the_plain_cut() {
    let mut tested = 0;
    for seed in 0..1_500 {
        let mut rng = rng(seed);
        let rules = wide_rules();
        let clicks = stream(&mut rng, 60, pauses);
        if has_silence_near_the_gap(&clicks, &rules) {
            continue;
        }
        tested += 1;
        let dirty = shuffled(&mut rng, &clicks, 10_000);
        let (found, rejects) = run(&dirty, &rules);
        assert_eq!(rejects.len(), dirty.len() - clicks.len(), "seed {seed}: only duplicates are rejected");
        assert_same(seed, &found, &naive(&clicks, &rules));
    }
    assert!(tested > 300, "too few streams without a silence near the gap: {tested}");
}

#[test]
fn no_flood_costs_more_than_its_limits() {
    let rules = SessionRules { events_max: 50, revisable_max: 4, revisions_max: 6, open_max: 3, ..wide_rules() };
    let mut partition = Partition::new(rules.clone());
    let (mut steps, spec) = (Vec::new(), FeatureSpec::none());
    let mut rows = 0;
    let count = 20_000;
    for n in 0..count {
        let click = Click {
            id: format!("e{n}"),
            customer: "flood".into(),
            time: 1_000 - n % 7,
            kind: if n % 11 == 0 { ClickKind::Logout } else { ClickKind::PageView },
            channel: ["web", "app", "atm", "tv"][(n % 4) as usize],
            balance: 0.0,
        };
        let customer = CustomerId::parse("flood").unwrap();
        let outcome = partition.push(Arrival::new(customer.by_ref(), &click.event(), &spec, &[]), &mut steps);
        assert!(matches!(outcome, Ok(()) | Err(RejectReason::Full | RejectReason::Late)), "{outcome:?}");
        for step in steps.drain(..) {
            if let Change::Fold { session, .. } = step.what {
                rows += session.input.length;
                assert!(session.input.length <= 50);
            }
        }
        assert!(partition.open_sessions() <= 3);
    }
    let bound = i64::from(rules.revisions_max + 1) * count;
    assert!((rows as i64) <= bound, "{rows} events were published in revisions, the bound is {bound}");
}

/// Time alone, moved from one due moment to the next, ends all there is; between them it does nothing.
#[test]
fn what_is_due_is_due_at_the_moment_that_is_named_and_not_before() {
    let spec = FeatureSpec::none();
    let mut most = 0;
    for seed in 0..300 {
        let mut rng = rng(seed);
        let rules = SessionRules { events_max: 7, open_max: 2, duration_max_ms: 60_000, ..wide_rules() };
        let clicks = stream(&mut rng, 40, pauses);
        let clicks = shuffled(&mut rng, &clicks, 20_000);
        let (mut partition, mut steps) = (Partition::new(rules), Vec::new());
        for click in &clicks {
            let customer = CustomerId::parse(&click.customer).unwrap();
            _ = partition.push(Arrival::new(customer.by_ref(), &click.event(), &spec, &[]), &mut steps);
            if rng.random_bool(0.1)
                && let Some(due) = partition.next_due()
            {
                assert!(due > partition.stream_time(), "seed {seed}");
                steps.clear();
                partition.tick(due.just_before(), &mut steps);
                assert!(steps.is_empty(), "seed {seed}: {steps:?}");
            }
        }
        let mut moments = 0;
        while let Some(due) = partition.next_due() {
            steps.clear();
            partition.tick(due.just_before(), &mut steps);
            assert!(steps.is_empty(), "seed {seed}: {steps:?}");
            partition.tick(due, &mut steps);
            moments += 1;
        }
        most = most.max(moments);
        assert_eq!(partition.open_sessions(), 0, "seed {seed}");
        steps.clear();
        partition.tick(Moment::INFINITY, &mut steps);
        assert!(steps.is_empty(), "seed {seed}: {steps:?}");
    }
    assert!((4..100).contains(&most), "{most}");
}

#[test]
fn erasure_forgets_and_begins_at_one() {
    let mut partition = Partition::new(wide_rules());
    let (mut steps, spec) = (Vec::new(), FeatureSpec::none());
    let customer = CustomerId::parse("ana").unwrap();
    let mut sequences = Vec::new();
    for round in 0..2 {
        for (n, kind) in
            [ClickKind::Login, ClickKind::Logout, ClickKind::Login, ClickKind::Logout].into_iter().enumerate()
        {
            let id = format!("{round}-{n}");
            let click = Click { id, customer: "ana".into(), time: 10 + n as i64, kind, channel: "web", balance: 1.0 };
            partition.push(Arrival::new(customer.by_ref(), &click.event(), &spec, &[]), &mut steps).unwrap();
        }
        partition.erase(customer.by_ref(), &mut steps);
        assert_eq!(partition.customers(), 0);
    }
    for step in steps {
        if let Change::Fold { session, .. } = step.what {
            sequences.extend(session.sequence);
        }
    }
    assert_eq!(sequences, [1, 2, 1, 2]);
}
