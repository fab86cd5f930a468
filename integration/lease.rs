//! A lease on a real broker: what its holder notes, and that one that has lost it cannot note any more.

use std::time::Duration;

use dce::kafka::Deadline;
use dce::kafka::lease::Lease;

use crate::harness::{Bed, WAIT};

const TURN: Duration = Duration::from_millis(50);

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
    let held = |lease: &mut Lease| {
        let deadline = Deadline::after(WAIT);
        while !lease.is_held(TURN).expect("a broker") {
            assert!(!deadline.passed(), "nobody gives it the lease");
        }
    };
    let mut first = join();
    held(&mut first);
    let notes = first.notes(&read);
    assert_eq!(notes.noted(WAIT).expect("a broker"), None);
    notes.note(5).expect("it holds the lease");
    assert_eq!(notes.noted(WAIT).expect("a broker"), Some(5));

    let mut second = join();
    held(&mut second);
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
