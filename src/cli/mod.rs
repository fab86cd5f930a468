//! The command line: one file a command, and the one place that prints. Takes arguments and environment, gives an exit
//! code: 0 for success, 1 for failure, 2 for wrong use. A new command is one variant of `Command` and one file.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{self, Config, ConfigError, ConfigFile, FlagSetting, Layers};
use crate::telemetry::logs;

mod output;
mod signals;
mod demo;
mod run;
mod sessions;
mod replay;
mod generate;
mod config_command;

pub use output::Output;
pub use signals::stop_on_signals;

/// Dynamic customer embeddings, live: clicks to sessions to embeddings, exactly once.
#[derive(Debug, Parser)]
#[command(name = "dce", version, arg_required_else_help = true, after_help = AFTER_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Settings from this file, over the defaults.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting, over file and environment; may be repeated. Example: session.gap=20m.
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print for programs: JSON, one object a line.
    #[arg(long, global = true)]
    json: bool,
}

const AFTER_HELP: &str = "Settings come from the defaults, then --config FILE, then variables such as DCE_SESSION__GAP=20m, \
then --set; the last one wins.\nExit code: 0 success, 1 failure, 2 wrong use.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the pipeline at work: a broker inside, a generated bank, a live view. Needs no Kafka.
    Demo(demo::Arguments),
    /// Run the pipeline: read clicks, publish embeddings, until SIGTERM.
    Run(run::Arguments),
    /// Cut clicks into sessions by the session rules, without Kafka.
    Sessions(sessions::Arguments),
    /// Run a span of clicks through the pipeline: a file or a topic to a file or a topic.
    Replay(replay::Arguments),
    /// A synthetic bank's clicks, by a seed, with labels apart.
    Generate(generate::Args),
    /// Print all settings in effect and where each comes from.
    Config(config_command::Arguments),
}

/// What every command gets beside its own arguments.
#[derive(Debug)]
pub struct Frame {
    layers: Layers,
    /// Print for programs.
    pub json: bool,
    pub output: Output,
    /// Colours on standard error are wanted.
    pub colours: bool,
}

impl Frame {
    /// The settings, with a command's own flags that stand for settings on top.
    pub fn config(&self, flags: Vec<FlagSetting>) -> Result<Config, ConfigError> {
        Config::load(&self.layers_with(flags))
    }

    fn layers_with(&self, flags: Vec<FlagSetting>) -> Layers {
        Layers { flags, ..self.layers.clone() }
    }

    /// A variable of the environment, for what is not a setting.
    pub fn variable(&self, name: &str) -> Option<String> {
        self.layers.environment.get(name).cloned()
    }

    /// From here on the process logs to standard error: for commands that run long.
    pub fn start_logs(&self, config: &Config) -> anyhow::Result<()> {
        Ok(logs::start(&config.log, self.colours)?)
    }
}

/// An error that is the user's to fix on the command line: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct WrongUse(pub String);

/// The whole program. `variables` is the environment.
pub fn main(
    arguments: impl IntoIterator<Item = OsString>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> ExitCode {
    let output = Output::new();
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help goes to standard output and is a success. A reader that went away needs no word.
            _ = error.print();
            return if error.use_stderr() { ExitCode::from(WRONG_USE) } else { ExitCode::SUCCESS };
        }
    };
    match run(arguments, variables, &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if output.is_closed() => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be closed too; the exit code says it then.
            _ = writeln!(std::io::stderr(), "dce: {}", one_line(&error));
            ExitCode::from(exit_code(&error))
        }
    }
}

const FAILURE: u8 = 1;
const WRONG_USE: u8 = 2;

fn exit_code(error: &anyhow::Error) -> u8 {
    let wrong_use = error.chain().any(|cause| cause.is::<ConfigError>() || cause.is::<WrongUse>());
    if wrong_use { WRONG_USE } else { FAILURE }
}

/// The chain of causes in one line.
fn one_line(error: &anyhow::Error) -> String {
    format!("{error:#}").lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

fn run(
    arguments: Arguments,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    output: &Output,
) -> anyhow::Result<()> {
    let environment = config::environment(variables)?;
    let colours = std::io::stderr().is_terminal() && wants_colours(&environment);
    let file = arguments.config.as_deref().map(ConfigFile::read).transpose()?;
    let layers = Layers { file, environment, sets: arguments.set, flags: Vec::new() };
    let frame = Frame { layers, json: arguments.json, output: output.clone(), colours };
    match arguments.command {
        Command::Demo(arguments) => demo::run(&arguments, &frame),
        Command::Run(arguments) => run::run(&arguments, &frame),
        Command::Sessions(arguments) => sessions::run(&arguments, &frame),
        Command::Replay(arguments) => replay::run(&arguments, &frame),
        Command::Generate(arguments) => generate::run(&arguments, &mut frame.output.lock()),
        Command::Config(arguments) => config_command::run(&arguments, &frame),
    }
}

/// The custom of NO_COLOR: set and not empty means none.
fn wants_colours(environment: &BTreeMap<String, String>) -> bool {
    environment.get("NO_COLOR").is_none_or(String::is_empty)
}
