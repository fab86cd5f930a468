//! The command line: one file a command, and the one place that prints. Takes arguments and environment, gives an exit
//! code: 0 for success, 1 for failure, 2 for wrong use. A new command is one variant of `Command` and one file.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::config::{self, Config, ConfigError, ConfigFile, FlagSetting, Layers};
use crate::telemetry::logs;

mod output;
mod signals;
mod help;
mod demo;
mod workers;
mod run;
mod sessions;
mod replay;
mod generate;
mod bench;
mod config_command;
mod moments;
mod paint;
mod topics;
mod check;
mod tail;
mod rejects;
mod state;
mod monitor;
mod completions;

pub use output::Output;
pub use signals::stop_on_signals;

/// Dynamic customer embeddings, live: clicks to sessions to embeddings, exactly once.
#[derive(Debug, Parser)]
#[command(name = "dce", version, arg_required_else_help = true, after_help = AFTER_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Settings from this file, over the defaults.
    #[arg(long, global = true, value_name = "FILE", help_heading = EVERYWHERE)]
    config: Option<PathBuf>,
    /// One setting over all of them, such as session.gap=20m; may be repeated.
    #[arg(long, global = true, value_name = "KEY=VALUE", help_heading = EVERYWHERE)]
    set: Vec<String>,
    /// Print for programs: JSON, one object a line.
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    json: bool,
}

/// The heading of what every command takes.
const EVERYWHERE: &str = "Options of every command";

const AFTER_HELP: &str = "\
Settings come from the defaults, then --config FILE, then variables such as DCE_SESSION__GAP=20m,
then --set; the last one wins. `dce config` shows them all.
Exit code: 0 success, 1 failure, 2 wrong use.

Examples:
  dce demo                          the pipeline at work, in this terminal
  dce run --create-topics --set kafka.bootstrap=kafka:9092
  dce COMMAND --help                what a command takes, with examples";

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the pipeline at work: a broker inside, a generated bank, a live view.
    Demo(demo::Arguments),
    /// Run the pipeline: read clicks, publish embeddings, until SIGTERM.
    Run(run::Arguments),
    /// Cut clicks into sessions by the session rules, without Kafka.
    Sessions(sessions::Arguments),
    /// Run a span of clicks through the pipeline: a file or a topic to a file or a topic.
    Replay(replay::Arguments),
    /// Write a synthetic bank's clicks, by a seed, with labels apart.
    Generate(generate::Args),
    /// Measure each stage alone and all together, beside its limit, on this machine and this Kafka.
    Bench(bench::Arguments),
    /// Print all settings in effect and where each comes from.
    Config(config_command::Arguments),
    /// Show the topics beside what they should be, or make those that are missing.
    Topics(topics::Arguments),
    /// Check all that a run stands on before it runs; each fault with its fix.
    Check(check::Arguments),
    /// Show records of a topic as they come, decoded.
    Tail(tail::Arguments),
    /// Count the rejected clicks by reason, show them, or send them back to the input.
    Rejects(rejects::Arguments),
    /// Look at the state, save all of it to a file, put it into other topics, key it anew.
    State(state::Arguments),
    /// Watch how far embeddings move, and tell when that shifts, until SIGTERM.
    Monitor(monitor::Arguments),
    /// Print a script that completes dce's commands and flags in a shell.
    Completions(completions::Arguments),
}

/// All commands, arranged for a person.
fn command() -> clap::Command {
    help::arranged(Arguments::command())
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

/// A failure that the command's own output has told already: exit code 1, and no more words.
#[derive(Debug, thiserror::Error)]
#[error("told")]
struct Told;

/// The whole program. `variables` is the environment.
pub fn main(
    arguments: impl IntoIterator<Item = OsString>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> ExitCode {
    let output = Output::new();
    let variables: Vec<_> = variables.into_iter().collect();
    let parsed = command().try_get_matches_from(arguments);
    let arguments = match parsed.and_then(|matches| Arguments::from_arg_matches(&matches)) {
        Ok(arguments) => arguments,
        Err(error) => {
            let colours = !variables.iter().any(|(name, value)| name == "NO_COLOR" && !value.is_empty());
            return usage(&error, colours);
        }
    };
    match run(arguments, variables, &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if output.is_closed() => ExitCode::SUCCESS,
        Err(error) if error.is::<Told>() => ExitCode::from(FAILURE),
        Err(error) => {
            // Standard error may be closed too; the exit code says it then.
            _ = writeln!(std::io::stderr(), "dce: {}", one_line(&error));
            ExitCode::from(exit_code(&error))
        }
    }
}

/// Prints help, which is a success, or what was wrong.
fn usage(error: &clap::Error, colours: bool) -> ExitCode {
    let text = error.render();
    let shows = |is_terminal: bool| {
        help::wrapped(&if is_terminal && colours { text.ansi().to_string() } else { text.to_string() })
    };
    // A reader that went away needs no word.
    if error.use_stderr() {
        _ = write!(std::io::stderr(), "{}", shows(std::io::stderr().is_terminal()));
        ExitCode::from(WRONG_USE)
    } else {
        _ = write!(std::io::stdout(), "{}", shows(std::io::stdout().is_terminal()));
        ExitCode::SUCCESS
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
        Command::Generate(arguments) => generate::run(&arguments, &frame),
        Command::Bench(arguments) => bench::run(&arguments, &frame),
        Command::Config(arguments) => config_command::run(&arguments, &frame),
        Command::Topics(arguments) => topics::run(&arguments, &frame),
        Command::Check(arguments) => check::run(&arguments, &frame),
        Command::Tail(arguments) => tail::run(&arguments, &frame),
        Command::Rejects(arguments) => rejects::run(&arguments, &frame),
        Command::State(arguments) => state::run(&arguments, &frame),
        Command::Monitor(arguments) => monitor::run(&arguments, &frame),
        Command::Completions(arguments) => completions::run(&arguments, &frame),
    }
}

/// The custom of NO_COLOR: set and not empty means none.
fn wants_colours(environment: &BTreeMap<String, String>) -> bool {
    environment.get("NO_COLOR").is_none_or(String::is_empty)
}
