//! What `dce --help` looks like: commands in groups, in the order in which a person meets them, and no line wider than a
//! page. Takes clap's command and clap's text, gives both arranged.

use std::fmt::Write as _;

use clap::Command;

/// Columns of a line at the most, where its words allow.
pub(super) const WIDTH: usize = 100;

/// Every command stands in one of them; a test says which does not.
pub(super) const GROUPS: [(&str, &[&str]); 4] = [
    ("Try it, without Kafka", &["demo", "generate", "sessions"]),
    ("Run it", &["run", "monitor", "serve", "replay"]),
    ("Look after it", &["check", "topics", "tail", "rejects", "state"]),
    ("Set it up and measure it", &["config", "completions", "tune", "bench"]),
];

/// The whole program with its commands in groups.
pub(super) fn arranged(command: Command) -> Command {
    let template = template(&command);
    let order = GROUPS.iter().flat_map(|(_, names)| *names);
    let names: Vec<&str> = order.copied().filter(|name| command.find_subcommand(name).is_some()).collect();
    let command = names.into_iter().enumerate().fold(command, |command, (place, name)| {
        command.mut_subcommand(name, |subcommand| subcommand.display_order(place))
    });
    command.help_template(template)
}

fn template(command: &Command) -> String {
    let header = command.get_styles().get_header();
    let literal = command.get_styles().get_literal();
    let mut text = "{about-with-newline}\n{usage-heading} {usage}\n".to_owned();
    let widest = command.get_subcommands().map(|subcommand| subcommand.get_name().len()).max().unwrap_or(0);
    for (group, names) in GROUPS {
        let there: Vec<&Command> = names.iter().filter_map(|name| command.find_subcommand(name)).collect();
        if there.is_empty() {
            continue;
        }
        _ = write!(text, "\n{header}{group}:{header:#}\n");
        for subcommand in there {
            let name = subcommand.get_name();
            let about = subcommand.get_about().map(ToString::to_string).unwrap_or_default();
            _ = writeln!(text, "  {literal}{name}{literal:#}{:1$}  {about}", "", widest - name.len());
        }
    }
    text += &format!("\n{header}Options:{header:#}\n");
    text + "{options}{after-help}"
}

/// Text with lines that are too wide continued on the next one, below the column in which their last part begins.
pub(super) fn wrapped(text: &str) -> String {
    let mut wrapped = String::with_capacity(text.len() + text.len() / 8);
    for line in text.split_inclusive('\n') {
        let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
        wrap(line, &mut wrapped);
        wrapped += end;
    }
    wrapped
}

fn wrap(line: &str, out: &mut String) {
    if width(line) <= WIDTH {
        *out += line;
        return;
    }
    let hang = column_of_last_part(line).min(WIDTH / 2);
    let mut column = 0;
    for (place, word) in line.split(' ').enumerate() {
        let wide = width(word);
        if place > 0 {
            if column > hang && column + 1 + wide > WIDTH {
                *out += "\n";
                out.extend(std::iter::repeat_n(' ', hang));
                column = hang;
            } else {
                *out += " ";
                column += 1;
            }
        }
        *out += word;
        column += wide;
    }
}

/// Where a flag's explanation begins: behind the last gap of two spaces or more, within what is no longer a flag.
fn column_of_last_part(line: &str) -> usize {
    let (mut column, mut begins, mut spaces) = (0, 0, 0);
    for c in visible(line) {
        if c != ' ' {
            if spaces >= 2 {
                begins = column;
            }
            spaces = 0;
        } else {
            spaces += 1;
        }
        column += 1;
    }
    begins
}

fn width(text: &str) -> usize {
    visible(text).count()
}

/// Without the escape sequences of colours.
fn visible(text: &str) -> impl Iterator<Item = char> {
    let mut in_escape = false;
    text.chars().filter(move |c| {
        let shown = !in_escape && *c != '\x1b';
        in_escape = *c == '\x1b' || (in_escape && !c.is_ascii_alphabetic());
        shown
    })
}

#[cfg(test)]
mod tests {
    use clap::Arg;
    use expect_test::expect;

    use super::*;
    use crate::cli::command;

    /// The program and all that is below it, as they are when they print their help.
    fn all() -> Vec<Command> {
        fn take(command: &Command, all: &mut Vec<Command>) {
            all.push(command.clone());
            command.get_subcommands().filter(|sub| sub.get_name() != "help").for_each(|sub| take(sub, all));
        }
        let mut built = command();
        built.build();
        let mut all = Vec::new();
        take(&built, &mut all);
        all
    }

    #[test]
    fn every_command_says_what_it_does_and_every_argument_what_it_means() {
        let commands = all();
        assert!(commands.len() > 5);
        for command in commands {
            let name = command.get_bin_name().unwrap_or(command.get_name()).to_owned();
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            assert!(about.starts_with(char::is_uppercase), "{name} says {about:?}");
            for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
                let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
                let begins_well = help.starts_with(|c: char| c.is_uppercase() || !c.is_alphabetic());
                assert!(!help.trim().is_empty() && begins_well, "{name} {}: {help:?}", argument.get_id());
            }
        }
    }

    #[test]
    fn every_command_stands_in_one_group_and_in_its_order() {
        let listed: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| *names).copied().collect();
        let mut built = command();
        for subcommand in built.get_subcommands() {
            let name = subcommand.get_name();
            assert_eq!(listed.iter().filter(|known| **known == name).count(), 1, "{name} must stand in one group");
        }
        let help = built.render_help().to_string();
        let mut rest = help.as_str();
        for name in listed.iter().filter(|name| built.find_subcommand(name).is_some()) {
            let at = rest.find(&format!("\n  {name} ")).unwrap_or_else(|| panic!("{name} is not there, or too early"));
            rest = &rest[at + 1..];
        }
    }

    #[test]
    fn no_help_is_wider_than_a_page() {
        for mut command in all() {
            for text in [command.render_help(), command.render_long_help()] {
                for line in wrapped(&text.to_string()).lines() {
                    assert!(width(line) <= WIDTH, "{}: {line}", command.get_name());
                }
            }
        }
    }

    #[test]
    fn long_lines_go_on_below_their_last_part() {
        let words = "word ".repeat(30);
        let command = Command::new("x").arg(Arg::new("flag").long("flag").help(words.trim().to_owned()));
        let help = command.color(clap::ColorChoice::Never).render_help().to_string();
        expect![[r#"
            Usage: x [OPTIONS]

            Options:
                  --flag <flag>  word word word word word word word word word word word word word word word word
                                 word word word word word word word word word word word word word word
              -h, --help         Print help
        "#]]
        .assert_eq(&wrapped(&help));
        let coloured = format!("\x1b[1m{}\x1b[0m", "a".repeat(99));
        assert_eq!(wrapped(&coloured), coloured, "colours take no room");
        let unbroken = "a".repeat(300);
        assert_eq!(wrapped(&unbroken), unbroken);
    }
}
