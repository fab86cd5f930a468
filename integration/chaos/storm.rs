//! Workers and a broker to which things happen while they work. Whoever drives it calls [`Storm::tend`] often.

use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand_pcg::Pcg64Mcg;

use super::disk;
use super::plan::{Fault, SLOTS, Step};
use super::undecided::{Stopped, Undecided};
use super::{SETTINGS, Told};
use crate::broker::Broker;
use crate::harness::{Bed, Dce, WAIT};
use crate::pipeline::Outputs;

/// As an orchestrator waits before it starts again what has ended.
const RESTART_AFTER: Duration = Duration::from_millis(500);
/// What a stopped process has sent is with the broker, and answered, by then.
const ON_THE_WAY: Duration = Duration::from_millis(20);
/// Stops until one hits the moment between the offsets and the commit.
const AIMS: u32 = 40;
const SIGTERM: i32 = 15;

enum Slot {
    Absent,
    Running(Dce),
    FrozenUntil(Dce, Instant),
    Stopping { dce: Dce, since: Instant, comes_back: bool },
    StartsAt(Instant),
}

pub(super) struct Storm {
    pub rng: Pcg64Mcg,
    pub broker: Broker,
    pub bed: Bed,
    pub outputs: Outputs,
    pub undecided: Rc<Undecided>,
    pub told: Told,
    /// Of logs and of local state.
    pub dir: PathBuf,
    slots: [Slot; SLOTS],
}

impl Storm {
    /// With two workers.
    pub(super) fn new(rng: Pcg64Mcg, broker: Broker, bed: Bed, outputs: Outputs, dir: PathBuf) -> Self {
        let topics = [&outputs.embeddings, &outputs.live, &outputs.sessions, &outputs.rejected, &outputs.state];
        let topics = topics.map(String::as_str);
        let group = bed.name("storm");
        let undecided = Rc::new(Undecided::new(&bed.settings, &group, &outputs.input, &topics, super::PARTITIONS));
        let now = Instant::now();
        let slots = [Slot::StartsAt(now), Slot::StartsAt(now), Slot::Absent];
        Self { rng, broker, bed, outputs, undecided, told: Told::default(), dir, slots }
    }

    fn disk(&self, slot: usize) -> PathBuf {
        self.dir.join(format!("state-{slot}"))
    }

    fn spawn(&self, slot: usize) -> Dce {
        let mut settings = SETTINGS.map(str::to_owned).to_vec();
        settings.extend([format!("app.instance={slot}"), "epoch.events_max=400".to_owned()]);
        // The last one has all in memory: partitions go to and fro between the two kinds.
        if slot + 1 < SLOTS {
            settings.push(format!("state.dir={}", self.disk(slot).display()));
        }
        self.outputs.run(&self.bed, "storm", &settings.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Keeps its log.
    fn bury(&mut self, slot: usize, dce: &Dce) {
        self.told.buried += 1;
        dce.copy_log(&self.dir.join(format!("worker-{slot}-{}.log", self.told.buried)));
    }

    /// One that ended, though nobody killed it.
    fn mourn(&mut self, slot: usize, dce: &Dce, status: ExitStatus) {
        eprintln!("worker {slot} ended by itself ({status}): {}", dce.last_words());
        self.told.ended += 1;
        // 1 is a fault that it names. Else it panicked (101), or a signal that is not ours ended it.
        if !matches!(status.code(), Some(0 | 1)) {
            self.told.crashed += 1;
        }
    }

    /// Does what is due, and starts again what has ended, as an orchestrator does.
    pub(super) fn tend(&mut self) {
        self.broker.tend();
        for slot in 0..SLOTS {
            let now = Instant::now();
            self.slots[slot] = match std::mem::replace(&mut self.slots[slot], Slot::Absent) {
                Slot::StartsAt(at) if at <= now => Slot::Running(self.spawn(slot)),
                Slot::FrozenUntil(dce, until) if until <= now => {
                    dce.signal("CONT");
                    Slot::Running(dce)
                }
                Slot::Running(mut dce) => match dce.ended() {
                    None => Slot::Running(dce),
                    Some(status) => {
                        self.mourn(slot, &dce, status);
                        self.bury(slot, &dce);
                        Slot::StartsAt(now + RESTART_AFTER)
                    }
                },
                Slot::Stopping { mut dce, since, comes_back } => match dce.ended() {
                    None => {
                        assert!(since.elapsed() < WAIT, "runs {WAIT:?} after SIGTERM: {}", dce.last_words());
                        Slot::Stopping { dce, since, comes_back }
                    }
                    Some(status) => {
                        if !has_drained(status, &dce) {
                            self.mourn(slot, &dce, status);
                        }
                        self.bury(slot, &dce);
                        if comes_back { Slot::StartsAt(now) } else { Slot::Absent }
                    }
                },
                same => same,
            };
        }
    }

    /// Tends until it holds.
    fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let since = Instant::now();
        while !holds(self) {
            assert!(since.elapsed() < WAIT * 2, "{what}: not after {:?}", WAIT * 2);
            self.tend();
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn is_settled(&self, slot: usize) -> bool {
        matches!(self.slots[slot], Slot::Running(_) | Slot::Absent)
    }

    /// Until no fault goes on.
    pub(super) fn calm_down(&mut self) {
        self.until("all workers run again", |storm| {
            storm.broker.is_up() && (0..SLOTS).all(|slot| storm.is_settled(slot))
        });
    }

    /// Through all faults, each at its time.
    pub(super) fn rage(&mut self, steps: &[Step]) {
        let start = Instant::now();
        for step in steps {
            while start.elapsed() < step.at {
                self.tend();
                std::thread::sleep(Duration::from_millis(10));
            }
            eprintln!("{:6.1} s {:?} {} for {:?}", start.elapsed().as_secs_f64(), step.fault, step.slot, step.hold);
            self.fault(step);
            *self.told.faults.entry(format!("{:?}", step.fault)).or_default() += 1;
        }
    }

    fn fault(&mut self, step: &Step) {
        match step.fault {
            Fault::BrokerKill | Fault::BrokerFreeze => {
                self.until("the broker is up", |storm| storm.broker.is_up());
                if step.fault == Fault::BrokerKill {
                    self.broker.kill(step.hold);
                } else {
                    self.broker.freeze(step.hold);
                }
            }
            Fault::KillAll => (0..SLOTS).for_each(|slot| self.kill_whatever(slot)),
            Fault::Scale => {
                self.until("the worker is settled", |storm| storm.is_settled(step.slot));
                self.slots[step.slot] = match std::mem::replace(&mut self.slots[step.slot], Slot::Absent) {
                    Slot::Running(dce) => Self::end(dce, false),
                    _ => Slot::StartsAt(Instant::now()),
                };
            }
            _ => self.worker_fault(step),
        }
    }

    fn worker_fault(&mut self, step: &Step) {
        let slot = step.slot;
        self.until("the worker runs", |storm| matches!(storm.slots[slot], Slot::Running(_)));
        let Slot::Running(dce) = std::mem::replace(&mut self.slots[slot], Slot::Absent) else { return };
        self.slots[slot] = match step.fault {
            Fault::Restart => Self::end(dce, true),
            Fault::Freeze | Fault::Zombie => {
                self.stop(&dce, step.is_aimed);
                Slot::FrozenUntil(dce, Instant::now() + step.hold)
            }
            fault @ (Fault::DiskLost | Fault::DiskTorn | Fault::DiskGarbage | Fault::DiskOld) => {
                // What was killed has little on its disk.
                if self.broker.is_up() && self.rng.random_bool(0.7) {
                    let mut dce = dce;
                    dce.signal("TERM");
                    let status = dce.wait();
                    assert!(has_drained(status, &dce), "SIGTERM drains: {status}\n{}", dce.said());
                    self.bury(slot, &dce);
                } else {
                    self.kill(slot, dce);
                }
                disk::damage(fault, &self.disk(slot), &mut self.rng).expect("a folder of ours");
                Slot::StartsAt(Instant::now() + step.hold)
            }
            _ => {
                if step.is_aimed {
                    self.stop(&dce, true);
                }
                self.kill(slot, dce);
                Slot::StartsAt(Instant::now() + step.hold)
            }
        };
    }

    fn end(dce: Dce, comes_back: bool) -> Slot {
        dce.signal("TERM");
        Slot::Stopping { dce, since: Instant::now(), comes_back }
    }

    fn kill(&mut self, slot: usize, mut dce: Dce) {
        dce.kill();
        self.bury(slot, &dce);
    }

    fn kill_whatever(&mut self, slot: usize) {
        self.slots[slot] = match std::mem::replace(&mut self.slots[slot], Slot::Absent) {
            Slot::Running(dce) | Slot::FrozenUntil(dce, _) | Slot::Stopping { dce, comes_back: true, .. } => {
                self.kill(slot, dce);
                Slot::StartsAt(Instant::now())
            }
            same => same,
        };
    }

    /// Freezes it, and says where in a transaction it was. Aimed: again and again, until it has sent offsets that are not
    /// committed, or so many tries did not hit that.
    fn stop(&mut self, dce: &Dce, is_aimed: bool) {
        let tries = if is_aimed && self.broker.is_up() { AIMS } else { 1 };
        for left in (0..tries).rev() {
            dce.signal("STOP");
            std::thread::sleep(ON_THE_WAY);
            if left == 0 || self.undecided.is_pending() {
                break;
            }
            dce.signal("CONT");
            std::thread::sleep(Duration::from_millis(self.rng.random_range(2..30)));
        }
        let stopped = if self.broker.is_up() { self.undecided.look() } else { Stopped::Outside };
        *self.told.stops.entry(format!("{stopped:?}")).or_default() += 1;
    }

    /// All end by SIGTERM, with success.
    pub(super) fn end_all(&mut self) {
        for slot in 0..SLOTS {
            if let Slot::Running(mut dce) = std::mem::replace(&mut self.slots[slot], Slot::Absent) {
                dce.signal("TERM");
                let status = dce.wait();
                assert!(has_drained(status, &dce), "SIGTERM drains: {status}\n{}", dce.said());
                self.bury(slot, &dce);
            }
        }
    }
}

/// A process that gets the signal before it listens ends by it. It has said nothing by then, and has nothing to drain.
fn has_drained(status: ExitStatus, dce: &Dce) -> bool {
    status.success() || (status.signal() == Some(SIGTERM) && dce.said().is_empty())
}
