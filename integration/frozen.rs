//! A broker that does not answer for a while: who starts meanwhile ends at once when it is told to, and else begins when the
//! broker is back.

use std::time::{Duration, Instant};

use dce::kafka::topics;

use crate::broker::Broker;
use crate::harness::{Bed, WAIT};
use crate::pipeline::Outputs;

/// Shorter than a start waits for a broker.
const FROZEN: Duration = Duration::from_secs(6);
/// A broker that tells its controller every four seconds that it is there, and is believed for three.
const WITHOUT_A_BROKER: &str = "broker.heartbeat.interval.ms=4000\nbroker.session.timeout.ms=3000";
const QUESTIONS: u32 = 30;

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
