//! Workers beside each other in one process, each on a thread of its own. They share nothing but the wish to stop: where one
//! ends, whatever for, the others finish what they have begun and end too, and the process with the first error.

use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, anyhow};

use crate::stop::Stop;

/// Runs all until they have ended. `work` gets a worker with its number, counted from 0.
pub(super) fn side_by_side<W: Send>(
    workers: Vec<W>,
    stop: &Stop,
    work: impl Fn(usize, W) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<()> {
    let is_alone = workers.len() == 1;
    let first = Mutex::new(None);
    let fail = |number: usize, error: anyhow::Error| {
        let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
        if is_alone {
            *first = Some(error);
            return;
        }
        // At once: the others may take long, and whoever waits for the process may lose patience.
        let why = format!("{error:#}");
        tracing::error!(worker = number, why, "a worker has failed: the others finish, and the process ends");
        first.get_or_insert(error.context(format!("worker {number}")));
    };
    std::thread::scope(|scope| {
        let mut threads = Vec::with_capacity(workers.len());
        for (number, worker) in workers.into_iter().enumerate() {
            let (work, fail) = (&work, &fail);
            let thread = std::thread::Builder::new().name(format!("worker-{number}")).spawn_scoped(scope, move || {
                let _others = StopOthers(stop);
                let _said_by = (!is_alone).then(|| tracing::error_span!("worker", number).entered());
                if let Err(error) = work(number, worker) {
                    fail(number, error);
                }
            });
            match thread.context("a worker's thread could not start") {
                Ok(thread) => threads.push((number, thread)),
                Err(error) => {
                    fail(number, error);
                    stop.stop();
                    break;
                }
            }
        }
        for (number, thread) in threads {
            if thread.join().is_err() {
                fail(number, anyhow!("the worker's thread panicked"));
            }
        }
    });
    first.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// Also where its thread panics.
struct StopOthers<'s>(&'s Stop);

impl Drop for StopOthers<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    const WAIT: Duration = Duration::from_secs(60);

    /// What three workers end with, the second of which ends so; the others end well.
    fn ended(second: impl Fn() -> anyhow::Result<()> + Sync) -> Result<(), String> {
        let (stop, finished) = (Stop::new(), AtomicUsize::new(0));
        let outcome = side_by_side(vec!["a", "b", "c"], &stop, |number, name| {
            assert_eq!(["a", "b", "c"][number], name);
            if number == 1 {
                return second();
            }
            assert!(stop.wait(WAIT), "it is asked to stop");
            finished.fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
        assert_eq!(finished.into_inner(), 2, "the others finish");
        outcome.map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn where_one_ends_the_others_finish_and_its_error_counts() {
        assert_eq!(ended(|| Ok(())), Ok(()));
        assert_eq!(ended(|| Err(anyhow!("no epoch").context("broken"))).unwrap_err(), "worker 1: broken: no epoch");
        assert_eq!(ended(|| panic!("on purpose")).unwrap_err(), "worker 1: the worker's thread panicked");
    }

    #[test]
    fn one_alone_needs_no_number() {
        let outcome = side_by_side(vec![()], &Stop::new(), |_, ()| Err(anyhow!("broken")));
        assert_eq!(format!("{:#}", outcome.unwrap_err()), "broken");
    }

    #[test]
    fn of_several_errors_the_first_counts() {
        let stop = Stop::new();
        let outcome = side_by_side(vec![(), ()], &stop, |number, ()| {
            if number == 0 {
                assert!(stop.wait(WAIT));
            }
            Err(anyhow!("broken"))
        });
        assert_eq!(format!("{:#}", outcome.unwrap_err()), "worker 1: broken");
    }
}
