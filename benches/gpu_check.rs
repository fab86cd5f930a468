//! The GPU beside the CPU, by the code that the pipeline runs: how far each graph of a bundle is apart, whether a row keeps
//! its bits in every batch, what a generated stream ends in, and how fast both are. A table, and one JSON object as the
//! last line. Exit code 1 where there is no GPU or the two are further apart than 1e-4.
//!
//!     make gpu-check          fetches what it needs first
//!     cargo bench --bench gpu_check -- [BUNDLE] [--device cuda:0]
//!
//! `--device cpu` compares the CPU with itself: that tries this program where no GPU is.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a bench prints, looks at the clock and the environment"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, anyhow, bail};
use dce::config::{Config, InferenceDevice, Layers};
use dce::generate::{Bank, Params, write_json};
use dce::model::bundle::Bundle;
use dce::model::compare::{self, Difference};
use dce::model::device::{self, Device};
use dce::model::onnx::OnnxModel;
use dce::model::{CALENDAR, Model};
use dce::pipeline::epoch::{self, Body, Terms};
use dce::pipeline::partitions::Partitions;
use dce::pipeline::rest::Nothing;
use dce::pipeline::source::{Record, Trace};
use dce::types::Position;
use dce::wire::avro::Schemas;
use ndarray::{Array1, Array2, Array3};
use serde_json::{Value, json};

/// How far the devices may be apart.
const TOLERANCE: f64 = 1e-4;
const BATCHES: [usize; 9] = [1, 2, 8, 31, 64, 257, 1024, 2048, 4096];
const TIMED: [usize; 5] = [1, 32, 256, 1024, 4096];
/// Events of a session where time is taken.
const EVENTS: usize = 8;
const CLICKS: u64 = 20_000;
/// Seconds for one number.
const TIME_MAX: f64 = 0.3;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("gpu-check: {error:#}");
            ExitCode::from(1)
        }
    }
}

struct Arguments {
    bundle: PathBuf,
    device: InferenceDevice,
}

fn arguments() -> anyhow::Result<Arguments> {
    let mut bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/bank-small");
    let mut device = InferenceDevice::Cuda(0);
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    while let Some(word) = words.next() {
        match word.as_str() {
            "--device" => {
                let named = words.next().as_deref().and_then(InferenceDevice::parse);
                device = named.context("--device takes cpu, auto or cuda:N")?;
            }
            flag if flag.starts_with('-') => bail!("{flag} is not known; there is: [BUNDLE] [--device cuda:0]"),
            folder => bundle = folder.into(),
        }
    }
    Ok(Arguments { bundle, device })
}

/// Whether all is well.
fn run() -> anyhow::Result<bool> {
    let Arguments { bundle: folder, device } = arguments()?;
    let (runtime, found) = device::find(device, |name| std::env::var(name).ok())?;
    if let Some(why) = found.why_not_cuda {
        bail!("no GPU can be used: {why}");
    }
    let bundle = Bundle::read(&folder)?;
    let mut cpu = OnnxModel::open(&runtime, &bundle, 1, Device::Cpu)?;
    let mut other = OnnxModel::open(&runtime, &bundle, 1, found.device)?;
    println!("{} on cpu and on {}, {}", folder.display(), found.device, runtime.library().display());
    let golden = bundle.golden.check(&mut other, TOLERANCE);
    println!(
        "\ngolden inputs on {}: {}",
        found.device,
        golden.as_ref().map_or_else(String::as_str, |()| "as they must be")
    );
    let apart = compare::devices(&mut cpu, &mut other, &BATCHES)?;
    table(&format!("cpu and {} apart, at the most, by batch", found.device), &apart, |one| {
        format!("{:.1e}", one.largest)
    });
    let unlike = compare::batches(&mut other, &BATCHES)?;
    table(&format!("rows of a batch with other bits than alone, on {}", found.device), &unlike, |one| {
        one.rows.to_string()
    });
    let check = other.check(&bundle).err().map(|error| error.to_string());
    println!(
        "\n`dce run` on {} would {}",
        found.device,
        check.as_deref().map_or("take this bundle".to_owned(), |why| format!("refuse this bundle: {why}"))
    );
    let stream = stream(&mut cpu, &mut other)?;
    println!(
        "\na generated stream of {} clicks: {} embeddings, the largest distance {:.1e}; gates {:.1e}, shifts {:.1e} apart",
        stream.clicks, stream.embeddings, stream.embedding, stream.gate, stream.shift
    );
    let times = times(&mut cpu, &mut other, found.device)?;
    let largest = apart.iter().map(|one| one.largest).chain([stream.embedding, stream.gate]).fold(0.0, f64::max);
    let good = golden.is_ok() && largest <= TOLERANCE;
    println!("\n{}", if good { "the devices agree within 1e-4" } else { "THE DEVICES DO NOT AGREE within 1e-4" });
    let shown = |all: &[Difference]| -> Vec<Value> {
        all.iter()
            .map(
                |one| json!({"graph": one.graph, "batch": one.batch, "largest": finite(one.largest), "rows": one.rows}),
            )
            .collect()
    };
    let line = json!({
        "bench": "gpu_check", "bundle": folder.display().to_string(), "device": found.device.to_string(),
        "library": runtime.library().display().to_string(), "agree": good, "tolerance": TOLERANCE,
        "golden": golden.err(), "refused": check, "apart": shown(&apart), "batches": shown(&unlike),
        "stream": {"clicks": stream.clicks, "embeddings": stream.embeddings, "largest": finite(stream.embedding),
            "gate": finite(stream.gate), "cosine_shift": finite(stream.shift)},
        "times": times,
    });
    println!("{line}");
    Ok(good)
}

/// JSON has no infinity.
fn finite(value: f64) -> Value {
    if value.is_finite() { json!(value) } else { json!("not finite") }
}

/// Graphs down, batches across.
fn table(title: &str, all: &[Difference], cell: impl Fn(&Difference) -> String) {
    println!("\n{title}:");
    print!("  {:<18}", "");
    BATCHES.iter().for_each(|batch| print!("{batch:>9}"));
    let mut graph = "";
    for one in all {
        if one.graph != graph {
            graph = &one.graph;
            print!("\n  {graph:<18}");
        }
        print!("{:>9}", cell(one));
    }
    println!();
}

/// What a stream ended in on the two devices.
#[derive(Default)]
struct Stream {
    clicks: u64,
    embeddings: usize,
    embedding: f64,
    gate: f64,
    shift: f64,
}

fn stream(cpu: &mut OnnxModel, other: &mut OnnxModel) -> anyhow::Result<Stream> {
    let params = Params { customers: 300, events_max: Some(CLICKS), ..Params::new(1) };
    let bank = Bank::new(params);
    let mut clicks = Vec::new();
    for record in bank {
        let mut value = Vec::new();
        write_json(&mut value, &record.click, None, None)?;
        clicks.push((record.record_time, record.click.customer_id, value));
    }
    let config = Config::load(&Layers::default())?;
    let (ours, theirs) = (embeddings(cpu, &clicks, &config)?, embeddings(other, &clicks, &config)?);
    if ours.is_empty() || ours.len() != theirs.len() {
        return Err(anyhow!("{} embeddings on the CPU, {} on the other", ours.len(), theirs.len()));
    }
    let mut stream = Stream { clicks: clicks.len() as u64, embeddings: ours.len(), ..Stream::default() };
    for (key, ours) in &ours {
        let theirs = theirs.get(key).with_context(|| format!("{key:?} is missing on the other"))?;
        for (a, b) in ours.embedding.iter().zip(&theirs.embedding) {
            stream.embedding = stream.embedding.max(compare::distance(*a, *b));
        }
        stream.gate = stream.gate.max(compare::distance(ours.gate, theirs.gate));
        let shift = ours.cosine_shift.unwrap_or(0.0) - theirs.cosine_shift.unwrap_or(0.0);
        stream.shift = stream.shift.max(shift.abs());
    }
    Ok(stream)
}

type Clicks = [(i64, std::sync::Arc<str>, Vec<u8>)];
type Embeddings = BTreeMap<(String, u64), Box<dce::wire::embedding::CustomerEmbedding>>;

/// The main job without Kafka; by customer and sequence.
fn embeddings(model: &mut OnnxModel, clicks: &Clicks, config: &Config) -> anyhow::Result<Embeddings> {
    let terms = Terms { rules: config.session.clone(), labels: Vec::new(), summaries: false, emitted_at: 0 };
    let (mut partitions, schemas, mut found) = (Partitions::default(), Schemas::released(), Embeddings::new());
    partitions.open(0, &terms.rules);
    for (epoch, some) in clicks.chunks(5_000).enumerate() {
        let records = some.iter().enumerate().map(|(place, (time, customer, value))| Record {
            position: Position { partition: 0, offset: i64::try_from(epoch * 5_000 + place).unwrap_or(i64::MAX) },
            timestamp_ms: Some(*time),
            key: Some(customer.as_bytes()),
            value: Some(value),
            trace: Trace::None,
        });
        for output in epoch::run(&mut partitions, &mut Nothing, model, &schemas, &terms, records, |_| ())?.outputs {
            if let Body::Embedding(embedding) = output.body {
                found.insert((embedding.customer_id.as_str().to_owned(), embedding.sequence), embedding);
            }
        }
    }
    Ok(found)
}

/// Runs by batch, rows/s: turn by turn on both.
fn times(cpu: &mut OnnxModel, other: &mut OnnxModel, device: Device) -> anyhow::Result<Vec<Value>> {
    println!("\nrows/s, median; sessions have {EVENTS} events:");
    println!("  {:<18}{:>7}{:>14}{:>14}{:>8}", "", "batch", "cpu", device.to_string(), "ratio");
    let mut report = Vec::new();
    for graph in ["session_encoder", "session_step", "customer_step", "customer_read"] {
        for batch in TIMED {
            let ours = rows_per_s(cpu, graph, batch)?;
            let theirs = rows_per_s(other, graph, batch)?;
            println!("  {graph:<18}{batch:>7}{ours:>14.0}{theirs:>14.0}{:>8.2}", theirs / ours);
            report.push(json!({"graph": graph, "batch": batch, "cpu": ours.round(), "device": theirs.round()}));
        }
    }
    Ok(report)
}

fn rows_per_s(model: &mut OnnxModel, graph: &str, batch: usize) -> anyhow::Result<f64> {
    let shape = model.shape();
    let some = |columns: usize| Array2::from_elem((batch, columns), 0.25_f32);
    let mut seconds = Vec::new();
    let begun = Instant::now();
    // The first ones pay for memory and kernels.
    while seconds.len() < 5 || begun.elapsed().as_secs_f64() < TIME_MAX {
        let fields = Array3::from_elem((batch, EVENTS, shape.fields), 1_i64);
        let numbers = Array3::from_elem((batch, EVENTS, shape.numbers), 0.5_f32);
        let length = Array1::from_elem(batch, i32::try_from(EVENTS)?);
        let (state, session, hours, calendar, context) =
            (some(shape.state), some(shape.session), some(1), some(CALENDAR), some(shape.context));
        let start = Instant::now();
        match graph {
            "session_encoder" => drop(model.encode(fields, numbers, length)?),
            "session_step" => {
                let fields = Array2::from_elem((batch, shape.fields), 1_i64);
                drop(model.encode_step(fields, some(shape.numbers), some(shape.hidden))?);
            }
            "customer_step" => drop(model.customer_step(state, session, hours, calendar, context)?),
            _ => drop(model.customer_read(state, hours, calendar, context)?),
        }
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.drain(..2);
    seconds.sort_by(f64::total_cmp);
    Ok(batch as f64 / seconds[seconds.len() / 2])
}
