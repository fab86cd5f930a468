//! The wish to stop, shared by everything that runs long: asked for once, seen by loops, waiters and tasks.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// Clones are the same wish. It is never taken back.
#[derive(Debug, Clone)]
pub struct Stop(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    stopped: std::sync::Mutex<bool>,
    changed: std::sync::Condvar,
    /// The same for tasks, which must not block.
    tasks: watch::Sender<bool>,
}

impl Stop {
    #[expect(clippy::new_without_default, reason = "a default wish to stop would be one that nobody can ask for")]
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            stopped: std::sync::Mutex::new(false),
            changed: std::sync::Condvar::new(),
            tasks: watch::Sender::new(false),
        }))
    }

    /// Asks for the stop; once is enough.
    pub fn stop(&self) {
        *self.lock() = true;
        self.0.changed.notify_all();
        self.0.tasks.send_replace(true);
    }

    pub fn is_stopped(&self) -> bool {
        *self.lock()
    }

    /// Waits that long, or until the stop is asked for; says whether it is. For threads.
    #[must_use]
    pub fn wait(&self, at_most: Duration) -> bool {
        let waited = self.0.changed.wait_timeout_while(self.lock(), at_most, |stopped| !*stopped);
        let (stopped, _) = waited.expect("nothing panics under this lock");
        *stopped
    }

    /// Waits until the stop is asked for. For tasks; may be cancelled.
    pub async fn stopped(&self) {
        let mut receiver = self.0.tasks.subscribe();
        receiver.wait_for(|stopped| *stopped).await.expect("the sender lives as long as self");
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, bool> {
        self.0.stopped.lock().expect("nothing panics under this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_clones_see_it() {
        let stop = Stop::new();
        let other = stop.clone();
        assert!(!other.is_stopped());
        assert!(!other.wait(Duration::ZERO));
        stop.stop();
        stop.stop();
        assert!(other.is_stopped());
        assert!(other.wait(Duration::from_secs(3600)), "does not wait any more");
    }

    #[test]
    fn it_wakes_threads_and_tasks_that_wait() {
        let stop = Stop::new();
        let (thread_stop, task_stop) = (stop.clone(), stop.clone());
        let thread = std::thread::spawn(move || thread_stop.wait(Duration::from_secs(3600)));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let task = std::thread::spawn(move || runtime.block_on(task_stop.stopped()));
        stop.stop();
        assert!(thread.join().unwrap());
        task.join().unwrap();
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(stop.stopped());
    }
}
