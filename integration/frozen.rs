//! A broker that does not answer for a while: who starts meanwhile ends at once when it is told to, and else begins when the
//! broker is back; who holds a lease, or wants it, can end.

use std::time::{Duration, Instant};

use dce::kafka::lease::Lease;
use dce::kafka::topics;

use crate::broker::Broker;
use crate::harness::{Bed, WAIT};
use crate::lease::{ends_within, until_held, until_it_stands_by};
use crate::pipeline::Outputs;

/// Shorter than a start waits for a broker.
const FROZEN: Duration = Duration::from_secs(6);
/// A broker that tells its controller every four seconds that it is there, and is believed for three.
const WITHOUT_A_BROKER: &str = "broker.heartbeat.interval.ms=4000\nbroker.session.timeout.ms=3000";
const QUESTIONS: u32 = 30;
const TLS_STARTS: u32 = 10;
/// A lease waits 5 s for the answer to its farewell, and up to 3 s for what the group decides meanwhile.
const ENDED_MAX: Duration = Duration::from_secs(30);

#[test]
fn who_starts_at_a_frozen_broker_ends_when_told_to_and_begins_when_it_is_back() {
    let mut broker = Broker::start();
    let bed = Bed::at(&broker.bootstrap, "frozen");
    let input = bed.topic_of("clicks", 1, &[("retention.ms", "604800000")]);
    let outputs = Outputs::of(&bed, &input, "outputs", 1);
    broker.freeze(FROZEN);
    let thaws = Instant::now() + FROZEN;

    let mut told = outputs.run(&bed, "told", &["log.level=info"]);
    told.until_said("model loaded");
    told.signal("TERM");
    assert!(told.wait().success(), "{}", told.said());
    assert!(told.said().contains("stopped before anything was begun"), "{}", told.said());
    assert!(Instant::now() < thaws, "nobody waits for the broker");

    let mut begins = outputs.run(&bed, "begins", &["log.level=info"]);
    while !broker.is_up() {
        broker.tend();
        std::thread::sleep(Duration::from_millis(10));
    }
    begins.until_said("partitions restored");
    begins.signal("TERM");
    assert!(begins.wait().success(), "{}", begins.said());
}

/// While the first client is made, which with TLS takes some milliseconds: the broker is not needed.
#[test]
fn who_is_told_to_end_while_a_tls_client_is_made_ends_well() {
    let bed = Bed::at("127.0.0.1:1", "tls");
    let arguments = ["run", "--set", "kafka.properties.security.protocol=ssl", "--set", "http.listen=off"];
    for _ in 0..TLS_STARTS {
        let mut dce = bed.dce(&arguments);
        dce.until_said("model loaded");
        dce.signal("TERM");
        assert!(dce.wait().success(), "{:?}: {}", dce.wait(), dce.said());
        assert!(dce.said().contains("stopped before anything was begun"), "{}", dce.said());
    }
}

#[test]
fn a_lease_ends_at_a_frozen_broker_too() {
    let mut broker = Broker::start();
    let bed = Bed::at(&broker.bootstrap, "frozen-lease");
    let (leased, group) = (bed.topic("leased", 1), bed.name("holders"));
    let join = || Lease::join(&bed.settings, &group, &leased).expect("a client");
    let mut holder = join();
    until_held(&mut holder);
    let mut standing_by = join();
    until_it_stands_by(&bed, &group, &mut holder, &mut standing_by);
    broker.freeze(WAIT);
    let joining = join();
    std::thread::scope(|scope| {
        for lease in [holder, standing_by, joining] {
            scope.spawn(|| ends_within(lease, ENDED_MAX));
        }
    });
}

/// A client that is told of no broker then does not ask again for five minutes.
#[test]
fn a_question_to_the_controller_survives_moments_without_one() {
    let broker = Broker::with(WITHOUT_A_BROKER);
    let bed = Bed::at(&broker.bootstrap, "controller");
    let input = bed.topic_of("clicks", 1, &[("retention.ms", "604800000")]);
    std::thread::scope(|scope| {
        let ask = |number: u32| {
            std::thread::sleep(Duration::from_millis(200) * number);
            topics::check_kept(&bed.settings, &input, WAIT)
        };
        let asked: Vec<_> = (0..QUESTIONS).map(|number| scope.spawn(move || ask(number))).collect();
        for answer in asked {
            let kept = answer.join().expect("a thread").expect("an answer").expect("settings, which a broker tells");
            assert_eq!(kept.text, "retention.ms=604800000");
        }
    });
}
