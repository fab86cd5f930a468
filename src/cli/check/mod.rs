//! `dce check`: everything that a run stands on, looked at before it runs: settings, model, broker, topics, group. Changes
//! nothing, joins nothing. A check that fails stops no other; what cannot be checked says so instead of guessing.

use std::time::Duration;

use super::{Frame, Told, WrongUse, moments, paint};
use crate::config::Config;
use crate::kafka::client::ClientSettings;

mod report;
mod offline;
mod broker;
mod topics;
mod rights;
mod monitor;
mod transactions;
mod group;

use report::{Report, Row};

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// What needs no broker alone: settings, schemas, library, model, device.
    #[arg(long)]
    offline: bool,
    /// How long each question to the broker may take.
    #[arg(long, value_name = "TIME", default_value = "10s")]
    wait: String,
}

const AFTER_HELP: &str = "\
✔ right, ! works but should be looked at, ✘ wrong, – not checked; beneath what is not right stands what mends it. Nothing is
changed, and no group is joined: it can be run beside a worker. docs/troubleshooting.md has an example of each fault.
Exit code: 0 nothing is wrong, 1 something is.

Examples:
  dce check                            before the first start, and when something is odd
  dce --config bank.toml check --wait 3s
  dce check --offline                  in a build, without a broker
  dce check --json | jq 'select(.verdict == \"wrong\")'";

/// Beyond, nobody waits.
const WAIT_MS: std::ops::RangeInclusive<i64> = 1..=600_000;

pub(super) fn run(arguments: &Arguments, frame: &Frame) -> anyhow::Result<()> {
    let wait = moments::span_ms(&arguments.wait).filter(|ms| WAIT_MS.contains(ms));
    let wait = wait
        .ok_or_else(|| WrongUse(format!("--wait {}: must be a time from 1ms to 10m, such as 10s", arguments.wait)))?;
    let wait = Duration::from_millis(wait.unsigned_abs());
    let mut report = Report::default();
    let config = frame.config(Vec::new());
    report.add(settings_row(&config, frame));
    let config = config.ok();
    let model = offline::check(&mut report, config.as_ref(), frame, arguments.offline);
    if !arguments.offline {
        match &config {
            Some(config) => {
                let settings = ClientSettings::from(&config.kafka);
                broker::check(&mut report, config, &settings, model.as_ref(), wait);
            }
            None => broker::unchecked(&mut report, "the settings are refused"),
        }
    }
    let mut out = frame.output.lock();
    report.print(&mut out, frame.json, paint::colours(frame))?;
    if report.is_wrong() { Err(Told.into()) } else { Ok(()) }
}

fn settings_row(config: &Result<Config, crate::config::ConfigError>, frame: &Frame) -> Row {
    let file = frame.layers.file.as_ref();
    match config {
        Ok(_) => Row::right(
            "settings",
            match file {
                Some(file) => format!("{} over the defaults, environment and --set over both", file.name),
                None => "the defaults, environment and --set over them".to_owned(),
            },
        ),
        Err(error) => {
            let text = super::one_line(&anyhow::anyhow!("{error}"));
            Row::wrong("settings", text, "correct it there; deploy/default.toml has every setting with its rule")
        }
    }
}
