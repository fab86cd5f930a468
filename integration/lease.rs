//! A lease on a real broker: what its holder notes, that one that has lost it cannot note any more, and that one that is
//! dropped leaves at once, whatever the group does meanwhile.

use std::sync::mpsc::sync_channel;
use std::time::Duration;

use dce::kafka::Deadline;
use dce::kafka::client::ClientSettings;
use dce::kafka::lease::Lease;

use crate::harness::{Bed, WAIT};

const TURN: Duration = Duration::from_millis(50);

/// Who does not leave is waited for so long.
const SESSION_MS: &str = "60000";
/// Far from both: leaving takes milliseconds, and up to 5 s where the group stands in its way.
const SOON: Duration = Duration::from_secs(20);

pub(crate) fn until_held(lease: &mut Lease) {
    let deadline = Deadline::after(WAIT);
    while !lease.is_held(TURN).expect("a broker") {
        assert!(!deadline.passed(), "nobody gives it the lease");
    }
}

/// Until the group has both, the second one without the partition.
pub(crate) fn until_it_stands_by(bed: &Bed, group: &str, holder: &mut Lease, standing_by: &mut Lease) {
    while bed.members(group) != Some(2) {
        assert!(!standing_by.is_held(TURN).expect("a broker"));
        assert!(holder.is_held(TURN).expect("a broker"));
    }
}

/// Drops it, which must be over in time.
pub(crate) fn ends_within(lease: Lease, wait: Duration) {
    let (ended, ends) = sync_channel(1);
    std::thread::spawn(move || {
        drop(lease);
        ended.send(()).expect("room for one");
    });
    ends.recv_timeout(wait).expect("a lease that ends");
}

fn with_long_session(bed: &Bed) -> ClientSettings {
    let mut settings = bed.settings.clone();
    settings.consumer.insert("session.timeout.ms".to_owned(), SESSION_MS.to_owned());
    settings
}

#[test]
fn one_that_ends_makes_room_at_once() {
    let bed = Bed::new("lease-ends");
    let (leased, group, settings) = (bed.topic("leased", 1), bed.name("holders"), with_long_session(&bed));
    let join = || Lease::join(&settings, &group, &leased).expect("a client");
    let mut holder = join();
    until_held(&mut holder);
    for stands_by in [false, true] {
        let mut successor = join();
        if stands_by {
            until_it_stands_by(&bed, &group, &mut holder, &mut successor);
        }
        let soon = Deadline::after(SOON);
        ends_within(holder, SOON);
        until_held(&mut successor);
        assert!(!soon.passed(), "held after {:?}", soon.elapsed());
        holder = successor;
    }
}

#[test]
fn one_that_stands_by_and_ends_is_waited_for_by_nobody() {
    let bed = Bed::new("lease-stands-by");
    let (leased, group, settings) = (bed.topic("leased", 1), bed.name("holders"), with_long_session(&bed));
    let join = || Lease::join(&settings, &group, &leased).expect("a client");
    let mut holder = join();
    until_held(&mut holder);
    let mut standing_by = join();
    until_it_stands_by(&bed, &group, &mut holder, &mut standing_by);
    // As a member without a partition.
    let settled = Deadline::after(Duration::from_secs(2));
    while !settled.passed() {
        assert!(!standing_by.is_held(TURN).expect("a broker"));
        assert!(holder.is_held(TURN).expect("a broker"));
    }
    let soon = Deadline::after(SOON);
    ends_within(standing_by, SOON);
    while bed.members(&group) != Some(1) {
        assert!(holder.is_held(TURN).expect("a broker"));
        assert!(!soon.passed(), "a member after {:?}", soon.elapsed());
    }
}

/// The client asks what it wants to know of its owner while it closes, and some of that must stay unanswered.
#[test]
fn one_that_ends_while_the_group_rebalances_ends_and_is_gone() {
    let bed = Bed::new("lease-closing");
    let (leased, settings) = (bed.topic("leased", 1), with_long_session(&bed));
    let join = |group: &str| Lease::join(&settings, group, &leased).expect("a client");
    // What the group has decided waits to be taken.
    let group = bed.name("unasked");
    let unasked = join(&group);
    while bed.members(&group) != Some(1) {
        std::thread::sleep(TURN);
    }
    ends_within(unasked, SOON);

    // Anywhere in a rebalance; the holder hears of it within 300 ms.
    for moment in 0..6 {
        let group = bed.name(&format!("moment-{moment}"));
        let mut holder = join(&group);
        until_held(&mut holder);
        let mut comes = join(&group);
        let until = Deadline::after(Duration::from_millis(100) * moment);
        while !until.passed() {
            comes.is_held(Duration::from_millis(1)).expect("a broker");
        }
        let in_turn = if moment % 2 == 0 { [holder, comes] } else { [comes, holder] };
        in_turn.into_iter().for_each(|lease| ends_within(lease, SOON));
        let (soon, mut next) = (Deadline::after(SOON), join(&group));
        until_held(&mut next);
        assert!(!soon.passed(), "moment {moment}: held after {:?}", soon.elapsed());
    }
}

#[test]
fn one_that_slept_notes_nothing_over_its_successor() {
    let bed = Bed::new("lease");
    let (leased, read, group) = (bed.topic("leased", 1), bed.topic("read", 1), bed.name("holders"));
    let mut settings = bed.settings.clone();
    // Who does not ask for a second is taken for dead.
    for (key, value) in [("session.timeout.ms", "1000"), ("max.poll.interval.ms", "1000")] {
        settings.consumer.insert(key.to_owned(), value.to_owned());
    }
    let join = || Lease::join(&settings, &group, &leased).expect("a client");
    let mut first = join();
    until_held(&mut first);
    let notes = first.notes(&read);
    assert_eq!(notes.noted(WAIT).expect("a broker"), None);
    notes.note(5).expect("it holds the lease");
    assert_eq!(notes.noted(WAIT).expect("a broker"), Some(5));

    let mut second = join();
    until_held(&mut second);
    let successors = second.notes(&read);
    assert_eq!(successors.noted(WAIT).expect("a broker"), Some(5), "where the first one ended");
    successors.note(9).expect("it holds the lease");
    let refused = notes.note(6).expect_err("it has lost the lease");
    assert!(refused.to_string().contains(&read), "{refused}");
    assert!(second.is_held(TURN).expect("a broker"));
    // It wakes, learns of it, and is a member again without the lease.
    let deadline = Deadline::after(Duration::from_secs(5));
    let mut believes = true;
    while !deadline.passed() {
        believes = first.is_held(TURN).expect("a broker");
        assert!(second.is_held(TURN).expect("a broker"));
        assert!(notes.note(6).is_err(), "it has lost the lease");
    }
    assert!(!believes, "it has learnt of it");
    assert_eq!(successors.noted(WAIT).expect("a broker"), Some(9));
    successors.note(10).expect("it holds it still");
}
