//! The encoder stage against ONNX Runtime alone: sessions of mixed lengths, packed by `encode`, beside the same graph on
//! its best shape without padding, turn by turn in one run. The last line is one JSON object.
//!
//!     cargo bench --bench encode [-- BUNDLE [--explore]]
//!
//! Without a folder it takes models/bank-small, or the tests' tiny bundle where that is missing.
//! `--explore` compares ways of packing instead.
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench prints, looks at the clock and the environment"
)]
#![allow(clippy::unwrap_used, reason = "a bench may stop")]

use std::path::{Path, PathBuf};
use std::time::Instant;

use dce::model::device::Device;
use dce::model::onnx::{OnnxModel, Runtime};
use dce::model::{Model, library};
use dce::pipeline::encode::{OpenInput, Packing, SessionInput, encode, encode_open, encode_packed};
use hashbrown::HashMap;
use ndarray::{Array1, Array3};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

const SESSIONS: usize = 4096;
const ROUNDS: usize = 15;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shipped = [root.join("models/bank-small"), root.join("tests/data/tiny-bundle")];
    let named = arguments.iter().find(|argument| !argument.starts_with("--")).map(PathBuf::from);
    let bundle = named.or_else(|| shipped.into_iter().find(|folder| folder.is_dir())).unwrap();
    let runtime = Runtime::load(&library::places(|name| std::env::var(name).ok())).unwrap();
    let start = Instant::now();
    let mut model = OnnxModel::load(&runtime, &bundle, 1, Device::Cpu).unwrap();
    println!("{}: loaded and checked in {:.0} ms", bundle.display(), start.elapsed().as_secs_f64() * 1e3);
    let sessions = sessions(&model, SESSIONS);
    if arguments.iter().any(|argument| argument == "--explore") {
        explore(&mut model, &sessions);
    } else {
        compare(&mut model, &sessions, &bundle);
    }
}

/// Lengths lognormal(1.6, 1.0) in 1 to 128: mean 8, median 5, the longest hundredth above 50.
fn sessions(model: &dyn Model, count: usize) -> Vec<SessionInput> {
    let mut random = Pcg64::seed_from_u64(1);
    (0..count)
        .map(|_| {
            let normal = (0..12).map(|_| random.random::<f64>()).sum::<f64>() - 6.0;
            let length = (1..=128).min_by(|a, b| distance(*a, normal).total_cmp(&distance(*b, normal))).unwrap();
            session(model, &mut random, length)
        })
        .collect()
}

fn distance(length: u32, normal: f64) -> f64 {
    (f64::from(length) - (1.6 + normal).exp()).abs()
}

fn session(model: &dyn Model, random: &mut Pcg64, length: u32) -> SessionInput {
    let mut input = SessionInput { length: usize::try_from(length).unwrap(), ..SessionInput::default() };
    for _ in 0..length {
        for field in 0..model.shape().fields {
            input.fields.push(random.random_range(1..model.features().ids_len(field)));
        }
        input.numbers.extend((0..model.shape().numbers).map(|_| random.random::<f32>()));
    }
    input
}

/// Seconds that it takes.
fn timed<T>(work: impl FnOnce() -> T) -> f64 {
    let start = Instant::now();
    std::hint::black_box(work());
    start.elapsed().as_secs_f64()
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

/// One shape of the graph alone, over and over: events/s. The inputs are ready before the clock starts.
fn alone(model: &mut OnnxModel, rows: usize, events: usize) -> f64 {
    let shape = model.shape();
    let fields = Array3::from_elem((rows, events, shape.fields), 1);
    let numbers = Array3::from_elem((rows, events, shape.numbers), 0.5);
    let length = Array1::from_elem(rows, i32::try_from(events).unwrap());
    let runs = (16_384 / (rows * events)).max(1);
    let inputs: Vec<_> = (0..runs).map(|_| (fields.clone(), numbers.clone(), length.clone())).collect();
    let seconds = timed(|| {
        for (fields, numbers, length) in inputs {
            model.encode(fields, numbers, length).unwrap();
        }
    });
    (runs * rows * events) as f64 / seconds
}

fn compare(model: &mut OnnxModel, sessions: &[SessionInput], bundle: &Path) {
    let events: usize = sessions.iter().map(|session| session.length).sum();
    let shapes = [(32, 8), (32, 16), (32, 32), (64, 8), (64, 16), (64, 32), (128, 8), (128, 16)];
    let epochs = [16, 128, 1024, SESSIONS];
    let (mut ratios, mut best_seen) = (vec![Vec::new(); epochs.len()], Vec::new());
    let mut stage_seen = vec![Vec::new(); epochs.len()];
    for _ in 0..ROUNDS {
        let best = shapes.iter().map(|(rows, events)| alone(model, *rows, *events)).fold(0.0, f64::max);
        for (epoch, (ratios, seen)) in epochs.iter().zip(ratios.iter_mut().zip(&mut stage_seen)) {
            let seconds = timed(|| sessions.chunks(*epoch).for_each(|some| drop(encode(model, some).unwrap())));
            ratios.push(events as f64 / seconds / best);
            seen.push(events as f64 / seconds);
        }
        best_seen.push(best);
    }
    let steps = open_events_per_s(model, sessions);
    let best = median(best_seen);
    println!("onnx runtime alone, best of {} shapes without padding: {best:.0} events/s", shapes.len());
    let mean = events as f64 / sessions.len() as f64;
    let mut report = Vec::new();
    for ((epoch, ratios), seen) in epochs.iter().zip(ratios).zip(stage_seen) {
        let (ratio, stage) = (median(ratios), median(seen));
        println!(
            "encode, {epoch} sessions at a time: {stage:.0} events/s, {:.0} sessions/s, ratio {ratio:.3}",
            stage / mean
        );
        report.push(serde_json::json!({
            "sessions_at_a_time": epoch, "events_per_s": stage.round(), "sessions_per_s": (stage / mean).round(),
            "ratio": (ratio * 1e3).round() / 1e3,
        }));
    }
    println!("encode_open, 256 sessions at a time: {steps:.0} events/s");
    let line = serde_json::json!({
        "bench": "encode", "bundle": bundle.display().to_string(), "sessions": sessions.len(), "events": events,
        "alone_events_per_s": best.round(), "encode": report, "open_events_per_s": steps.round(),
    });
    println!("{line}");
}

/// Open sessions from their first event to their last, one job each.
fn open_events_per_s(model: &mut OnnxModel, sessions: &[SessionInput]) -> f64 {
    let job = |(session, input): (u64, &SessionInput)| OpenInput { session, restart: true, input: input.clone() };
    let jobs: Vec<OpenInput> = (0..).zip(&sessions[..256]).map(job).collect();
    let events: usize = jobs.iter().map(|job| job.input.length).sum();
    let mut seconds = Vec::new();
    for _ in 0..ROUNDS {
        let mut hidden = HashMap::new();
        seconds.push(timed(|| encode_open(model, &mut hidden, &jobs).unwrap()));
    }
    events as f64 / median(seconds)
}

fn explore(model: &mut OnnxModel, sessions: &[SessionInput]) {
    let events: usize = sessions.iter().map(|session| session.length).sum();
    let mut packings = Vec::new();
    for events_max in [512, 1024, 2048, 8192] {
        for run_events in [0, 4, 8, 12, 16, 24, 32, 1024] {
            packings.push(Packing { rows_max: 256, events_max, run_events });
        }
    }
    for epoch in [16, 128, 1024, SESSIONS] {
        let mut seen = vec![Vec::new(); packings.len()];
        for _ in 0..7 {
            for (packing, seen) in packings.iter().zip(&mut seen) {
                let run = |some| drop(encode_packed(model, some, *packing).unwrap());
                seen.push(timed(|| sessions.chunks(epoch).for_each(run)));
            }
        }
        println!("{epoch} sessions at a time, kilo-events/s:");
        for (packing, seen) in packings.iter().zip(seen) {
            if packing.run_events == 0 {
                print!("\n  events_max {:5}:", packing.events_max);
            }
            print!("  {}: {:.0}", packing.run_events, events as f64 / median(seen) / 1e3);
        }
        println!();
    }
}
