//! `dce config`: every setting in effect, and where it comes from. What it prints for people is a configuration file.

use std::io::Write;

use super::Frame;
use crate::config::Settings;

const EXAMPLES: &str = "Examples:
  dce config                                       all settings, as a configuration file
  dce config --config bank.toml | grep -v 'the defaults'
  dce config --set session.gap=20m --json          each with its origin, for programs";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {}

pub(super) fn run(_arguments: &Arguments, frame: &Frame) -> anyhow::Result<()> {
    // Checked too: what is printed as in effect must be accepted by the commands.
    frame.config(Vec::new())?;
    let settings = Settings::merge(&frame.layers_with(Vec::new()))?;
    let mut out = frame.output.lock();
    if frame.json {
        for setting in settings.iter() {
            let value =
                if setting.is_secret() { serde_json::Value::Null } else { serde_json::to_value(&setting.value)? };
            let row = serde_json::json!({ "key": setting.key, "value": value, "from": setting.origin.to_string() });
            writeln!(out, "{row}")?;
        }
    } else {
        print_as_file(&settings, &mut out)?;
    }
    out.flush()?;
    Ok(())
}

fn print_as_file(settings: &Settings, out: &mut impl Write) -> std::io::Result<()> {
    let mut section = "";
    for setting in settings.iter() {
        let (table, name) = setting.table_and_name();
        if table != section {
            writeln!(out, "\n[{table}]")?;
            section = table;
        }
        // A secret's place is kept, and nobody takes the placeholder for a value.
        let hidden = if setting.is_secret() { "# " } else { "" };
        let line = format!("{hidden}{name} = {}", setting.shown());
        writeln!(out, "{line:<44} # {}", setting.origin)?;
    }
    Ok(())
}
