//! SIGTERM and SIGINT: the first asks for the stop, the second ends the process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use crate::kafka::raw::exit_at_once;
use crate::stop::Stop;

const NOTHING_BEGUN: &str = "stopped before anything was begun";

/// From here on the two signals ask for the stop; for commands that have something to finish. Once a process.
pub fn stop_on_signals() -> anyhow::Result<Stop> {
    Ok(Signals::listen()?.stop)
}

/// What the signals ask for.
#[derive(Debug)]
pub(super) struct Signals {
    pub(super) stop: Stop,
    /// The first one ends the process, too.
    is_asking: Arc<AtomicBool>,
}

impl Signals {
    pub(super) fn listen() -> anyhow::Result<Self> {
        let (stop, is_asking) = (Stop::new(), Arc::new(AtomicBool::new(false)));
        let (asked, ends) = (stop.clone(), Arc::clone(&is_asking));
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_io().build().context("signals: no runtime")?;
        // Before the thread starts: from the return on no signal may end the process.
        let (mut terminate, mut interrupt) = {
            let _inside = runtime.enter();
            let install = |kind| signal(kind).context("signals: no handler");
            (install(SignalKind::terminate())?, install(SignalKind::interrupt())?)
        };
        let wait = async move {
            let mut next = async || {
                tokio::select! {
                    _ = terminate.recv() => ("SIGTERM", 143),
                    _ = interrupt.recv() => ("SIGINT", 130),
                }
            };
            let (name, _) = next().await;
            asked.stop();
            if ends.load(Ordering::SeqCst) {
                tracing::info!(signal = name, "{NOTHING_BEGUN}");
                exit_at_once(0);
            }
            tracing::info!(signal = name, "stopping; a second signal ends the process at once");
            let (_, code) = next().await;
            exit_at_once(code)
        };
        let thread = std::thread::Builder::new().name("signals".to_owned());
        thread.spawn(move || runtime.block_on(wait)).context("signals: no thread")?;
        Ok(Self { stop, is_asking })
    }

    /// Asks others, before anything is begun: a signal does not wait for their answers, and ends the process well. `None`
    /// where one came before.
    pub(super) fn before_the_start<T>(&self, ask: impl FnOnce() -> T) -> Option<T> {
        // Either the signal sees this, or it is seen here.
        self.is_asking.store(true, Ordering::SeqCst);
        let answer = (!self.stop.is_stopped()).then(ask);
        if answer.is_none() {
            tracing::info!("{NOTHING_BEGUN}");
        }
        self.is_asking.store(false, Ordering::SeqCst);
        answer
    }
}
