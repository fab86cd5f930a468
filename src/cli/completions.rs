//! `dce completions SHELL`: a script that makes the shell complete commands, flags and their values.

use std::io::Write;

use clap::ValueEnum;
use clap_complete::{Shell, generate};

use super::{Frame, command};

const EXAMPLES: &str = "Examples:
  dce completions bash > ~/.local/share/bash-completion/completions/dce
  dce completions zsh  > \"${fpath[1]}/_dce\"
  dce completions fish > ~/.config/fish/completions/dce.fish
  source <(dce completions bash)                   # in this shell alone

The folder must be there; a new shell sees it. After an update of dce write it anew.";

/// Print a script that completes dce's commands and flags in a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// For which shell.
    #[arg(value_enum)]
    shell: Language,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Language {
    Bash,
    Zsh,
    Fish,
}

pub(super) fn run(arguments: &Arguments, frame: &Frame) -> anyhow::Result<()> {
    let mut out = frame.output.lock();
    out.write_all(&script(arguments.shell))?;
    out.flush()?;
    Ok(())
}

fn script(language: Language) -> Vec<u8> {
    let shell = match language {
        Language::Bash => Shell::Bash,
        Language::Zsh => Shell::Zsh,
        Language::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    generate(shell, &mut command(), "dce", &mut script);
    script
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn every_script_names_every_command() {
        for language in Language::value_variants() {
            let script = String::from_utf8(script(*language)).unwrap();
            for subcommand in command().get_subcommands() {
                assert!(script.contains(subcommand.get_name()), "{language:?} lacks {}", subcommand.get_name());
            }
            for flag in ["config", "create-topics"] {
                assert!(script.contains(flag), "{language:?} lacks --{flag}");
            }
        }
    }

    /// What bash offers for the last of these words.
    fn offered(words: &[&str]) -> Vec<String> {
        let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        let driver = format!(
            "set -euo pipefail; eval \"$1\"; complete -p dce >/dev/null; COMP_WORDS=({}); COMP_CWORD={}; COMPREPLY=(); \
             _dce dce '{}' '{}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            quoted.join(" "),
            words.len() - 1,
            words[words.len() - 1],
            words[words.len() - 2],
        );
        let script = String::from_utf8(script(Language::Bash)).unwrap();
        let done = Command::new("bash").args(["--norc", "-c", &driver, "bash", &script]).output().unwrap();
        assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn bash_reads_its_script_and_completes() {
        let mut bash = Command::new("bash").args(["-n", "/dev/stdin"]).stdin(Stdio::piped()).spawn().unwrap();
        bash.stdin.take().unwrap().write_all(&script(Language::Bash)).unwrap();
        assert!(bash.wait().unwrap().success());
        assert_eq!(offered(&["dce", "ru"]), ["run"]);
        assert_eq!(offered(&["dce", "run", "--create"]), ["--create-topics"]);
        let shells = offered(&["dce", "completions", ""]);
        assert!(["bash", "zsh", "fish"].iter().all(|shell| shells.contains(&(*shell).to_owned())), "{shells:?}");
        let commands = offered(&["dce", ""]);
        for subcommand in command().get_subcommands() {
            assert!(commands.contains(&subcommand.get_name().to_owned()), "{} in {commands:?}", subcommand.get_name());
        }
    }
}
