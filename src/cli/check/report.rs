//! The rows of `dce check`, and how they are printed.

use std::io::Write;

use serde_json::json;

use crate::cli::paint::{Colour, line, paint};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Right,
    /// It works, and may not for ever.
    Look,
    Wrong,
    /// Something else is in the way.
    NotChecked,
}

impl Verdict {
    fn as_str(self) -> &'static str {
        match self {
            Self::Right => "right",
            Self::Look => "look",
            Self::Wrong => "wrong",
            Self::NotChecked => "not_checked",
        }
    }

    fn sign(self) -> (&'static str, Colour) {
        match self {
            Self::Right => ("✔", Colour::Green),
            Self::Look => ("!", Colour::Yellow),
            Self::Wrong => ("✘", Colour::Red),
            Self::NotChecked => ("–", Colour::Dim),
        }
    }
}

/// What was checked, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) what: &'static str,
    pub(super) verdict: Verdict,
    pub(super) found: String,
    /// What mends it.
    pub(super) fix: Option<String>,
}

impl Row {
    pub(super) fn right(what: &'static str, found: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Right, found: found.into(), fix: None }
    }

    pub(super) fn look(what: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Look, found: found.into(), fix: Some(fix.into()) }
    }

    pub(super) fn wrong(what: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Wrong, found: found.into(), fix: Some(fix.into()) }
    }

    pub(super) fn not_checked(what: &'static str, why: &str) -> Self {
        Self { what, verdict: Verdict::NotChecked, found: format!("not checked: {why}"), fix: None }
    }
}

#[derive(Debug, Default)]
pub(super) struct Report {
    rows: Vec<Row>,
}

/// Of one line. Errors of clients quote what the other side said.
const CHARS_MAX: usize = 2_000;

impl Report {
    pub(super) fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.rows.iter().filter(|row| row.verdict == verdict).count()
    }

    pub(super) fn is_wrong(&self) -> bool {
        self.count(Verdict::Wrong) > 0
    }

    pub(super) fn print(&self, out: &mut impl Write, json: bool, colours: bool) -> std::io::Result<()> {
        let width = self.rows.iter().map(|row| row.what.len()).max().unwrap_or(0);
        for Row { what, verdict, found, fix } in &self.rows {
            if json {
                let row = json!({"what": what, "verdict": verdict.as_str(), "found": found, "fix": fix});
                writeln!(out, "{row}")?;
                continue;
            }
            let (sign, colour) = verdict.sign();
            writeln!(out, "{} {what:<width$}  {}", paint(colours, colour, sign), line(found, CHARS_MAX))?;
            if let Some(fix) = fix {
                writeln!(out, "  {:<width$}  → {}", "", line(fix, CHARS_MAX))?;
            }
        }
        let [right, look, wrong, not_checked] =
            [Verdict::Right, Verdict::Look, Verdict::Wrong, Verdict::NotChecked].map(|verdict| self.count(verdict));
        if json {
            let summary = json!({"right": right, "look": look, "wrong": wrong, "not_checked": not_checked});
            writeln!(out, "{}", json!({"summary": summary}))?;
        } else {
            let not_checked = if not_checked > 0 { format!(", {not_checked} not checked") } else { String::new() };
            writeln!(out, "{right} right, {look} to look at, {wrong} wrong{not_checked}")?;
        }
        out.flush()
    }
}
