//! SIGTERM and SIGINT: the first asks for the stop, the second ends the process at once.

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use crate::stop::Stop;

/// From here on the two signals ask for the stop; for commands that have something to finish. Once a process.
pub fn stop_on_signals() -> anyhow::Result<Stop> {
    let stop = Stop::new();
    let asked = stop.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().context("signals: no runtime")?;
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
        tracing::info!(signal = name, "stopping; a second signal ends the process at once");
        asked.stop();
        let (_, code) = next().await;
        end(code)
    };
    let thread = std::thread::Builder::new().name("signals".to_owned());
    thread.spawn(move || runtime.block_on(wait)).context("signals: no thread")?;
    Ok(stop)
}

#[expect(clippy::disallowed_methods, reason = "whoever signals twice does not want to wait for anything to be dropped")]
fn end(code: i32) {
    std::process::exit(code)
}
