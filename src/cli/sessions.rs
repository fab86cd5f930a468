//! `dce sessions [FILE|-]`: the sessionizer alone over NDJSON in arrival order, for people who try their session rules on
//! their own clicks. Rows of `--json` are those of the rules' reference program.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Frame, WrongUse};
use crate::config::{Config, SessionRules};
use crate::model::features::FeatureSpec;
use crate::model::onnx::OnnxModel;
use crate::model::{Model as _, device};
use crate::pipeline::customer::{Customers, Work};
use crate::pipeline::decode;
use crate::pipeline::epoch;
use crate::pipeline::session::{Arrival, Change, Partition, Slot, Snapshot, Step};
use crate::types::{CustomerRef, Moment, Position, RejectReason};
use crate::wire::click::Input;
use crate::wire::json::{self, LineEntry};

const EXAMPLES: &str = "Examples:
  dce sessions clicks.ndjson                       every session, and the counts at the end
  dce generate --events 1000 | dce sessions        of a generated bank
  dce sessions clicks.ndjson --gap 600 --json      with 10 minutes of silence, for programs
  dce sessions clicks.ndjson --model models/bank-small --json | grep '\"what\":\"customer\"'";

/// Cut clicks into sessions by the session rules, without Kafka.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// ClickEvents, one JSON object a line, in arrival order; `partition` and `record_time` (ms) are read too; `-` is
    /// standard input.
    #[arg(default_value = "-")]
    file: PathBuf,
    /// Fold the sessions with this model bundle too: the last rows get `state`, a hash of each customer's final state.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    #[command(flatten)]
    rules: RuleFlags,
}

/// The rules of the settings' `[session]`, by flags; times in seconds.
#[derive(Debug, clap::Args)]
struct RuleFlags {
    /// Silence that ends a session [default: session.gap].
    #[arg(long, value_name = "SECONDS")]
    gap: Option<f64>,
    /// How long a closed session can still be completed [default: session.allowed_lateness].
    #[arg(long, value_name = "SECONDS")]
    lateness: Option<f64>,
    /// How far an event time may lie beyond the record's [default: session.future_max].
    #[arg(long, value_name = "SECONDS")]
    future_max: Option<f64>,
    /// Longest session [default: session.duration_max].
    #[arg(long, value_name = "SECONDS")]
    duration_max: Option<f64>,
    /// Most events of a session [default: session.events_max].
    #[arg(long, value_name = "COUNT")]
    events_max: Option<usize>,
    /// Most open sessions of a customer [default: session.open_max].
    #[arg(long, value_name = "COUNT")]
    open_max: Option<usize>,
    /// Most sessions of a customer that can still be completed [default: session.revisable_max].
    #[arg(long, value_name = "COUNT")]
    revisable_max: Option<usize>,
    /// Most changes of a closed session [default: session.revisions_max].
    #[arg(long, value_name = "COUNT")]
    revisions_max: Option<u32>,
    /// A row after every so many events of an open session, 0 for none [default: provisional.every_events].
    #[arg(long, value_name = "COUNT")]
    provisional_every: Option<usize>,
}

impl RuleFlags {
    fn over(&self, rules: SessionRules) -> Result<SessionRules, WrongUse> {
        let counts = [self.events_max, self.open_max, self.revisable_max, self.revisions_max.map(|n| n as usize)];
        if counts.contains(&Some(0)) {
            return Err(WrongUse(
                "--events-max, --open-max, --revisable-max and --revisions-max must be 1 or more".into(),
            ));
        }
        Ok(SessionRules {
            gap_ms: milliseconds("--gap", self.gap)?.unwrap_or(rules.gap_ms),
            allowed_lateness_ms: milliseconds("--lateness", self.lateness)?.unwrap_or(rules.allowed_lateness_ms),
            future_max_ms: milliseconds("--future-max", self.future_max)?.unwrap_or(rules.future_max_ms),
            duration_max_ms: milliseconds("--duration-max", self.duration_max)?.unwrap_or(rules.duration_max_ms),
            events_max: self.events_max.unwrap_or(rules.events_max),
            open_max: self.open_max.unwrap_or(rules.open_max),
            revisable_max: self.revisable_max.unwrap_or(rules.revisable_max),
            revisions_max: self.revisions_max.unwrap_or(rules.revisions_max),
            provisional_every_events: self.provisional_every.unwrap_or(rules.provisional_every_events),
        })
    }
}

fn milliseconds(flag: &str, seconds: Option<f64>) -> Result<Option<u64>, WrongUse> {
    let Some(seconds) = seconds else { return Ok(None) };
    let ms = seconds * 1000.0;
    // Both ends are exact in f64, so that the conversion neither wraps nor saturates.
    if !(0.0..=Moment::DURATION_MAX as f64).contains(&ms) {
        return Err(WrongUse(format!(
            "{flag} is {seconds} s; it must be 0 or more, at most {} ms",
            Moment::DURATION_MAX
        )));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked; whole milliseconds")]
    Ok(Some(ms as u64))
}

pub(super) fn run(arguments: &Arguments, frame: &Frame) -> anyhow::Result<()> {
    let config = frame.config(Vec::new())?;
    let rules = arguments.rules.over(config.session.clone())?;
    let mut input: Box<dyn BufRead> = if arguments.file.as_os_str() == "-" {
        Box::new(BufReader::with_capacity(1 << 20, std::io::stdin()))
    } else {
        let file =
            File::open(&arguments.file).with_context(|| format!("{}: cannot be read", arguments.file.display()))?;
        Box::new(BufReader::with_capacity(1 << 20, file))
    };
    let model = arguments.model.as_deref().map(|folder| Folding::new(frame, folder, &config)).transpose()?;
    let spec = model.as_ref().map_or_else(FeatureSpec::none, |folding| folding.model.features().clone());
    let mut run = Run {
        model,
        spec,
        rules,
        partitions: BTreeMap::new(),
        out: frame.output.lock(),
        json: frame.json,
        counts: BTreeMap::new(),
    };
    let mut line = Vec::new();
    while input.read_until(b'\n', &mut line).context("the input cannot be read on")? > 0 {
        if !json::is_blank(&line) {
            run.line(&line)?;
        }
        line.clear();
    }
    run.finish()
}

/// The list that a customer's steps leave.
#[derive(Default)]
struct Folds {
    /// The uids of what can change no more.
    frozen: Vec<String>,
    /// uid, and whether it is a session (a lone LOGOUT is none).
    folded: Vec<(String, bool)>,
}

/// Steps that are folded at a time.
const WORK_MAX: usize = 16_384;

/// The customers' states, where a model was given.
struct Folding {
    model: OnnxModel,
    customers: BTreeMap<i32, Customers>,
    work: Vec<Work>,
}

impl Folding {
    fn new(frame: &Frame, folder: &Path, config: &Config) -> anyhow::Result<Self> {
        let (runtime, found) = device::find(config.inference_device, |name| frame.variable(name))?;
        let model = OnnxModel::load(&runtime, folder, config.inference_threads, found.device)?;
        Ok(Self { model, customers: BTreeMap::new(), work: Vec::new() })
    }

    fn take(&mut self, partition: i32, step: Step) -> anyhow::Result<()> {
        let source = Position { partition, offset: 0 };
        self.work.push(Work { partition, order: self.work.len(), source, step, vector: None });
        if self.work.len() >= WORK_MAX { self.settle() } else { Ok(()) }
    }

    fn settle(&mut self) -> anyhow::Result<()> {
        epoch::settle(&mut self.model, &mut self.customers, std::mem::take(&mut self.work), 0, |_| ())?;
        Ok(())
    }

    /// SHA-256 of the final state's bits, the first half in hex; `None` where nothing was folded.
    fn state_hash(&self, partition: i32, slot: Slot) -> Option<String> {
        let state = self.customers.get(&partition)?.state(slot)?;
        let mut hash = Sha256::new();
        for value in state {
            hash.update(value.to_bits().to_le_bytes());
        }
        Some(hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect())
    }
}

struct Run<W> {
    model: Option<Folding>,
    rules: SessionRules,
    /// Of the model, or nothing.
    spec: FeatureSpec,
    partitions: BTreeMap<i32, (Partition, HashMap<Slot, Folds>)>,
    out: W,
    json: bool,
    /// For people: what there was, by its word.
    counts: BTreeMap<&'static str, u64>,
}

impl<W: Write> Run<W> {
    fn line(&mut self, line: &[u8]) -> anyhow::Result<()> {
        let line = match json::decode_line(line) {
            Ok(line) => line,
            Err(why) => return self.reject(None, RejectReason::Decode, &why.to_string()),
        };
        let rules = &self.rules;
        let (partition, _) =
            self.partitions.entry(line.partition).or_insert_with(|| (Partition::new(rules.clone()), HashMap::new()));
        let mut steps = Vec::new();
        match line.entry {
            LineEntry::Erase(customer) => {
                if let Some(customer) = CustomerRef::parse(&customer) {
                    partition.erase(customer, &mut steps);
                }
                self.steps(line.partition, steps)?;
                self.row(&json!({"what": "erased", "customer_id": customer}), || format!("erased    {customer}"))
            }
            LineEntry::Input(Input::Tick(time)) => match decode::check_future(time, line.record_time, rules) {
                Ok(()) => {
                    partition.tick(time.into(), &mut steps);
                    self.steps(line.partition, steps)
                }
                Err(refusal) => self.reject(None, refusal.reason, &refusal.detail),
            },
            LineEntry::Input(Input::Click(click)) => {
                let customer = decode::customer(&click).and_then(|customer| {
                    decode::check_future(click.event_time, line.record_time, rules).map(|()| customer)
                });
                match customer {
                    Ok(customer) => {
                        let arrival = Arrival::new(customer, &click, &self.spec, &[]);
                        let outcome = partition.push(arrival, &mut steps);
                        self.steps(line.partition, steps)?;
                        outcome.or_else(|reason| self.reject(Some(&click.event_id), reason, ""))
                    }
                    Err(refusal) => self.reject(Some(&click.event_id), refusal.reason, &refusal.detail),
                }
            }
        }
    }

    fn steps(&mut self, partition: i32, steps: Vec<Step>) -> anyhow::Result<()> {
        for step in steps {
            let Some((_, folds)) = self.partitions.get_mut(&partition) else { continue };
            let folds = folds.entry(step.slot).or_default();
            match &step.what {
                Change::Fold { place, session } => {
                    folds.folded.insert(*place, (session.cause.session_uid.to_string(), session.sequence.is_some()));
                    if session.sequence.is_some() {
                        self.session(session)?;
                    }
                }
                Change::Unfold { place } => _ = folds.folded.remove(*place),
                Change::Freeze { count } => {
                    let frozen = folds.folded.drain(..*count).filter(|(_, is_session)| *is_session);
                    folds.frozen.extend(frozen.map(|(uid, _)| uid));
                }
                Change::Provisional { session, .. } => self.provisional(session)?,
                Change::Forget { .. } => {}
                Change::Erase { .. } => *folds = Folds::default(),
            }
            if let Some(model) = &mut self.model {
                model.take(partition, step)?;
            }
        }
        Ok(())
    }

    fn session(&mut self, session: &Snapshot) -> anyhow::Result<()> {
        let cause = &session.cause;
        let reason = cause.close_reason.map_or("", |reason| reason.as_str());
        self.count(reason);
        if cause.revision > 0 {
            self.count("revised");
        }
        let row = json!({
            "what": "session", "customer_id": session.customer.as_str(), "sequence": session.sequence, "key": &*session.key,
            "uid": &*cause.session_uid, "revision": cause.revision, "start": cause.session_start.ms(),
            "end": cause.session_end.ms(), "opened_by": cause.opened_by.as_str(), "reason": reason,
            "events": session.event_ids.iter().map(|id| &**id).collect::<Vec<_>>(),
        });
        self.row(&row, || {
            let seconds = (cause.session_end.ms() - cause.session_start.ms()) / 1000;
            let revised = if cause.revision > 0 { format!(", revision {}", cause.revision) } else { String::new() };
            format!(
                "session   {}  {}  {} → {reason}, {} events in {seconds} s{revised}",
                session.customer,
                session.key,
                cause.opened_by.as_str(),
                cause.event_count
            )
        })
    }

    fn provisional(&mut self, session: &Snapshot) -> anyhow::Result<()> {
        self.count("provisional");
        let row = json!({
            "what": "provisional", "customer_id": session.customer.as_str(), "sequence": session.sequence,
            "key": &*session.key, "uid": &*session.cause.session_uid, "events": session.cause.event_count,
        });
        self.row(&row, || {
            format!("open      {}  {}  {} events", session.customer, session.key, session.cause.event_count)
        })
    }

    fn reject(&mut self, event_id: Option<&str>, reason: RejectReason, detail: &str) -> anyhow::Result<()> {
        self.count(reason.as_str());
        let row = json!({"what": "reject", "event_id": event_id, "why": reason.as_str()});
        let separator = if detail.is_empty() { "" } else { ": " };
        self.row(&row, || format!("reject    {}  {}{separator}{detail}", event_id.unwrap_or("-"), reason.as_str()))
    }

    fn count(&mut self, word: &'static str) {
        *self.counts.entry(word).or_default() += 1;
    }

    fn row(&mut self, row: &Value, text: impl FnOnce() -> String) -> anyhow::Result<()> {
        if self.json {
            writeln!(self.out, "{row}")?
        } else {
            writeln!(self.out, "{}", text())?
        }
        Ok(())
    }

    /// The customers with what their states must have folded, or the counts for people.
    fn finish(mut self) -> anyhow::Result<()> {
        let (mut customers_count, mut open_count) = (0, 0);
        if let Some(model) = &mut self.model {
            model.settle()?;
        }
        for (number, (partition, folds)) in std::mem::take(&mut self.partitions) {
            let mut customers: Vec<_> = partition.iter().collect();
            customers.sort_unstable();
            customers_count += customers.len();
            open_count += partition.open_sessions();
            if !self.json {
                continue;
            }
            let none = Folds::default();
            for (customer, slot, open) in customers {
                let Folds { frozen, folded } = folds.get(&slot).unwrap_or(&none);
                let folded = folded.iter().filter(|(_, is_session)| *is_session).map(|(uid, _)| uid);
                let folds: Vec<&String> = frozen.iter().chain(folded).collect();
                let mut row =
                    json!({"what": "customer", "customer_id": customer.as_str(), "folds": folds, "open": open});
                if let Some(model) = &self.model {
                    row["state"] = json!(model.state_hash(number, slot));
                }
                writeln!(self.out, "{row}")?;
            }
        }
        if !self.json {
            let counts: Vec<String> = self.counts.iter().map(|(word, n)| format!("{word} {n}")).collect();
            writeln!(self.out, "{customers_count} customers, {open_count} sessions still open; {}", counts.join(", "))?;
        }
        self.out.flush()?;
        Ok(())
    }
}
