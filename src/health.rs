//! What the process says of itself: whether its workers still move, and whether they do their work yet. Each worker tells,
//! the endpoints ask. Time is an argument.

use std::sync::Mutex;

use crate::types::Uptime;

/// How long the worker may say nothing before it counts as stuck: longer than any one step of it may take.
pub const SILENCE_MS_MAX: u64 = 60_000;

/// Of one worker; shared by it and the endpoints.
#[derive(Debug)]
pub struct Health {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When it last said that it moves, and with what it began.
    progress: Uptime,
    doing: &'static str,
    /// Why it does not serve yet, or no more; `None` where it does.
    not_ready: Option<String>,
}

impl Health {
    pub fn new(now: Uptime) -> Self {
        let not_ready = Some("starting".to_owned());
        Self { state: Mutex::new(State { progress: now, doing: "starting", not_ready }) }
    }

    /// The worker moves, and begins with this step. Called every turn of its loop, idle turns too, and within long steps.
    pub fn progress(&self, now: Uptime, doing: &'static str) {
        let mut state = self.lock();
        state.progress = now;
        state.doing = doing;
    }

    /// Partitions are assigned and restored.
    pub fn ready(&self) {
        self.lock().not_ready = None;
    }

    /// The reason ends up before an operator: `restoring 3 of 12 partitions`.
    pub fn not_ready(&self, why: impl Into<String>) {
        self.lock().not_ready = Some(why.into());
    }

    /// Whether the worker moves, or since when and where it does not.
    pub fn live(&self, now: Uptime) -> Result<(), String> {
        let state = self.lock();
        let silent_ms = now.0.saturating_sub(state.progress.0);
        if silent_ms <= SILENCE_MS_MAX {
            return Ok(());
        }
        let (silent, limit) = (silent_ms / 1000, SILENCE_MS_MAX / 1000);
        Err(format!("no progress for {silent} s (limit {limit} s); last step begun: {}", state.doing))
    }

    /// Whether it does its work, or why not.
    pub fn readiness(&self, now: Uptime) -> Result<(), String> {
        self.live(now)?;
        match &self.lock().not_ready {
            Some(why) => Err(why.clone()),
            None => Ok(()),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under this lock")
    }
}

/// Whether all workers of the process move, or what the first says that does not.
pub fn live(workers: &[Health], now: Uptime) -> Result<(), String> {
    all(workers, |worker| worker.live(now))
}

/// Whether all workers do their work, or what the first says that does not.
pub fn readiness(workers: &[Health], now: Uptime) -> Result<(), String> {
    all(workers, |worker| worker.readiness(now))
}

fn all(workers: &[Health], ask: impl Fn(&Health) -> Result<(), String>) -> Result<(), String> {
    workers.iter().enumerate().try_for_each(|(number, worker)| match workers {
        [_] => ask(worker),
        _ => ask(worker).map_err(|why| format!("worker {number}: {why}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_says_nothing_is_stuck_after_the_limit() {
        let health = Health::new(Uptime(1_000));
        assert_eq!(health.live(Uptime(1_000 + SILENCE_MS_MAX)), Ok(()));
        let stuck = "no progress for 60 s (limit 60 s); last step begun: starting".to_owned();
        assert_eq!(health.live(Uptime(1_001 + SILENCE_MS_MAX)), Err(stuck));
        health.progress(Uptime(90_000), "commit");
        assert_eq!(health.live(Uptime(90_000)), Ok(()));
        assert_eq!(
            health.live(Uptime(200_000)).unwrap_err(),
            "no progress for 110 s (limit 60 s); last step begun: commit"
        );
        assert_eq!(health.live(Uptime(0)), Ok(()), "a time before the last progress is no silence");
    }

    #[test]
    fn it_is_ready_when_told_and_only_while_it_lives() {
        let health = Health::new(Uptime(0));
        assert_eq!(health.readiness(Uptime(0)).unwrap_err(), "starting");
        health.not_ready("restoring 3 of 12 partitions");
        assert_eq!(health.readiness(Uptime(0)).unwrap_err(), "restoring 3 of 12 partitions");
        health.ready();
        assert_eq!(health.readiness(Uptime(0)), Ok(()));
        assert!(health.readiness(Uptime(SILENCE_MS_MAX + 1)).unwrap_err().contains("no progress"));
        health.not_ready("draining");
        assert_eq!(health.readiness(Uptime(0)).unwrap_err(), "draining");
    }

    #[test]
    fn a_process_is_what_the_worst_of_its_workers_is() {
        let workers = [Health::new(Uptime(0)), Health::new(Uptime(0)), Health::new(Uptime(90_000))];
        assert_eq!(readiness(&workers[..1], Uptime(0)).unwrap_err(), "starting", "of one alone no number is said");
        workers[0].ready();
        workers[2].ready();
        assert_eq!(readiness(&workers, Uptime(0)).unwrap_err(), "worker 1: starting");
        workers[1].ready();
        assert_eq!(readiness(&workers, Uptime(0)), Ok(()));
        assert_eq!(live(&workers, Uptime(0)), Ok(()));
        workers[0].progress(Uptime(90_000), "collect");
        let stuck = "worker 1: no progress for 90 s (limit 60 s); last step begun: starting";
        assert_eq!(live(&workers, Uptime(90_000)).unwrap_err(), stuck);
        assert_eq!(readiness(&workers, Uptime(90_000)).unwrap_err(), stuck);
    }
}
