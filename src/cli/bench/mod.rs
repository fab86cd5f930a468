//! `dce bench`: each stage alone and all together, beside its limit in the same run. Needs a Kafka of its own to load
//! (`make bench` starts one); makes topics named `dce-bench-…` and deletes them. The last line is one JSON object.

use std::sync::Arc;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::paint::thousands;
use super::run::load_model;
use super::{Frame, WrongUse, stop_on_signals};
use crate::config::{Config, Delivery, Encoding};
use crate::model::Model;
use crate::pipeline::epoch::Terms;
use crate::telemetry::Clock;
use crate::wire::avro::Schemas;

mod clicks;
mod null;
mod measure;
mod field;
mod stages;
mod scale;
mod throughput;
mod latency;

use clicks::Raw;
use field::Field;
use latency::Point;
use measure::{Report, median_speed, rate, short};
use null::Null;
use throughput::Ran;

/// Measure each stage alone and all together, beside its limit, on this machine and this Kafka.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// Clicks of a run over a full topic.
    #[arg(long, value_name = "N", default_value_t = 600_000, value_parser = clap::value_parser!(u64).range(50_000..))]
    events: u64,
    /// How often each run is repeated; medians count.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    rounds: u64,
    /// Seconds of each load whose latency is measured.
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u64).range(2..=600))]
    seconds: u64,
    /// Partitions of the topics.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=256))]
    partitions: u64,
    /// Only these parts; all but `scale` without it.
    #[arg(long, value_name = "PART", value_delimiter = ',', value_enum)]
    only: Vec<Part>,
}

const AFTER_HELP: &str = "Examples:
  dce bench --only stages                             no Kafka needed; nor for scale
  dce bench --set kafka.bootstrap=test-kafka:9092     all of it, on a cluster that may be loaded
Compare ratios of one run, not figures of two: a machine is never twice the same.";

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Each stage alone, in memory.
    Stages,
    /// What an event costs, in memory, among a thousand to ten million customers and in 1 to 256 partitions. Takes 8 GB.
    Scale,
    /// As fast as it goes over a full topic.
    Throughput,
    /// From the moment a click is due to its committed embedding, at 10, 50 and 90 % of the peak.
    Latency,
}

/// Of the clicks, for the stages alone.
const STAGE_EVENTS: usize = 200_000;
const CUSTOMERS_AT_REST: u32 = 300_000;

pub(super) fn run(arguments: &Arguments, frame: &Frame) -> anyhow::Result<()> {
    let config = frame.config(Vec::new())?;
    if config.encoding != Encoding::Json {
        return Err(WrongUse("dce bench writes its outputs as JSON: leave encoding = \"json\"".to_owned()).into());
    }
    frame.start_logs(&config)?;
    let bench = Bench { arguments, frame, config: &config };
    let mut model = load_model(frame, &config)?;
    let mut report = Report::default();
    if bench.wants(Part::Stages) {
        bench.at_rest(&mut model, &mut report)?;
    }
    if bench.arguments.only.contains(&Part::Scale) {
        bench.scale(&mut Null::like(&model), &mut report)?;
    }
    let clicks = clicks::clicks(arguments.events, Clock::start().wall_ms());
    let partitions = usize::try_from(arguments.partitions)?;
    let json = clicks::encoded(&clicks, Encoding::Json, partitions);
    if bench.wants(Part::Stages) {
        let avro = clicks::encoded(&clicks[..STAGE_EVENTS.min(clicks.len())], Encoding::Avro, partitions);
        bench.stages(&json[..STAGE_EVENTS.min(json.len())], &avro, &mut model, &mut report)?;
    }
    let mut field = Field::new(&config, partitions, stop_on_signals()?);
    let ran = (|| -> anyhow::Result<()> {
        if bench.wants(Part::Throughput) {
            bench.throughput(&mut field, &json, &mut model, ("", "JSON"), &mut report)?;
            let avro = clicks::encoded(&clicks, Encoding::Avro, partitions);
            bench.throughput(&mut field, &avro, &mut model, ("avro_", "Avro"), &mut report)?;
        }
        if bench.wants(Part::Latency) {
            bench.latency(&mut field, &json, &mut model, &mut report)?;
        }
        Ok(())
    })();
    // The topics go whatever has happened, and what has happened first is told.
    let removed = field.remove_all_but(&[]);
    ran?;
    removed.context("the bench's topics could not be deleted")?;
    frame.output.line(Value::Object(report.json))?;
    Ok(())
}

struct Bench<'a> {
    arguments: &'a Arguments,
    frame: &'a Frame,
    config: &'a Config,
}

impl Bench<'_> {
    fn wants(&self, part: Part) -> bool {
        self.arguments.only.is_empty() || self.arguments.only.contains(&part)
    }

    fn say(&self, text: impl std::fmt::Display) -> anyhow::Result<()> {
        if !self.frame.json {
            self.frame.output.line(text)?;
        }
        Ok(())
    }

    fn row(&self, what: &str, value: &str, limit: &str, ratio: Option<f64>) -> anyhow::Result<()> {
        let ratio = ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        self.say(format!("  {what:<44} {value:>22}   {limit:<34} {ratio:>5}"))
    }

    /// First of all, while the process's memory is what the customers take.
    fn at_rest(&self, model: &mut dyn Model, report: &mut Report) -> anyhow::Result<()> {
        let (bytes, allowed) = stages::customer_bytes(&mut Null::like(model), &self.terms(), CUSTOMERS_AT_REST)?;
        report.number("customer_bytes", bytes);
        report.number("customer_bytes_ratio", bytes / allowed);
        let limit = format!("4 (H + E) + id + key: {allowed:.0} bytes");
        self.row("a customer at rest", &format!("{bytes:.0} bytes"), &limit, Some(bytes / allowed))
    }

    fn terms(&self) -> Terms {
        let labels = self.config.labels.iter().map(|label| Arc::from(label.as_str())).collect();
        Terms { rules: self.config.session.clone(), labels, summaries: false, emitted_at: 0 }
    }

    fn stages(&self, json: &[Raw], avro: &[Raw], model: &mut dyn Model, report: &mut Report) -> anyhow::Result<()> {
        let (rules, schemas) = (&self.config.session, Schemas::released());
        let terms = self.terms();
        let rounds = usize::try_from(self.arguments.rounds)?;
        let epoch = self.config.epoch.events_max;
        self.say("each stage alone, in memory, on one core             time an event")?;
        let mut ns = |what: &str, key: &str, value: f64| -> anyhow::Result<()> {
            report.number(key, value);
            self.row(what, &format!("{value:.0} ns"), "", None)
        };
        for (raws, key, what) in
            [(json, "decode_json_ns", "decode and check, JSON"), (avro, "decode_avro_ns", "decode and check, Avro")]
        {
            ns(what, key, stages::decoding(&stages::records(raws), &schemas, rules, rounds))?;
        }
        let records = stages::records(json);
        let (cut, sessions) = stages::sessionizing(&records, model, &schemas, rules, rounds);
        ns("cut into sessions", "sessionize_ns", cut)?;
        let partitions = usize::try_from(self.arguments.partitions)?;
        let (whole, outputs) = stages::epochs(&records, &mut Null::like(model), &terms, epoch, partitions)?;
        ns("whole epochs without a model", "epoch_null_ns", whole)?;
        let (whole, _) = stages::epochs(&records, model, &terms, epoch, partitions)?;
        ns("whole epochs with the model", "epoch_model_ns", whole)?;
        for (encoding, key, what) in [
            (Encoding::Json, "write_json_ns", "write an embedding, JSON"),
            (Encoding::Avro, "write_avro_ns", "write an embedding, Avro"),
        ] {
            let (time, bytes) = stages::writing(&outputs, encoding, 10);
            ns(&format!("{what} ({bytes:.0} bytes)"), key, time)?;
        }
        let per_epoch = (epoch * sessions.len() / json.len()).max(1);
        let (stage, alone, ratio) = stages::encoding(model, &sessions, per_epoch, 4 * rounds)?;
        report.number("encoder_ratio", ratio);
        report.number("encoder_events_per_s", stage);
        let limit = format!("ONNX Runtime alone {}", rate(alone));
        self.row(&format!("encoder, {per_epoch} sessions an epoch"), &rate(stage), &limit, Some(ratio))?;
        Ok(())
    }

    /// The first of each row is what the others are compared with, in rounds in which all take turns.
    fn scale(&self, null: &mut dyn Model, report: &mut Report) -> anyhow::Result<()> {
        const ROWS: [(&str, [(u32, u32); 4]); 2] = [
            ("customers", [(1_000, 4), (100_000, 4), (1_000_000, 4), (10_000_000, 4)]),
            ("partitions", [(100_000, 1), (100_000, 4), (100_000, 64), (100_000, 256)]),
        ];
        const EVENTS: u32 = 120_000;
        let (terms, load) = (self.terms(), (EVENTS, self.config.epoch.events_max));
        for (what, sizes) in ROWS {
            self.say(format!("whole epochs without a model, in memory: {what}    time an event"))?;
            let banks = sizes.iter().map(|size| scale::Bank::open(null, &terms, *size));
            let mut banks = banks.collect::<Result<Vec<_>, _>>()?;
            let mut times = vec![Vec::new(); banks.len()];
            for round in 0..=4 * self.arguments.rounds {
                for (bank, times) in banks.iter_mut().zip(&mut times) {
                    let time = bank.run(null, &terms, load)?;
                    // The first one fills the seats.
                    times.extend((round > 0).then_some(time));
                }
            }
            let mut rows = Vec::new();
            for ((customers, partitions), own) in sizes.into_iter().zip(&times) {
                let ratio = measure::median(own.iter().zip(&times[0]).map(|(own, first)| own / first).collect());
                let time = measure::median(own.clone());
                let name = format!("{} customers, {partitions} partitions", thousands(u64::from(customers)));
                self.row(&name, &format!("{time:.0} ns"), "", Some(ratio))?;
                rows.push(json!({
                    "customers": customers, "partitions": partitions, "ns": short(time), "ratio": short(ratio),
                }));
            }
            report.json.insert(format!("scale_{what}"), rows.into());
        }
        Ok(())
    }

    fn throughput(
        &self,
        field: &mut Field<'_>,
        raws: &[Raw],
        model: &mut dyn Model,
        (key, name): (&str, &str),
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let input = field.topic("clicks")?;
        field.fill(&input, raws)?;
        let records = raws.len() as u64;
        throughput::warm_up(field, &input, (records, self.config.epoch.events_max))?;
        let mut null = Null::like(model);
        let rounds = (usize::try_from(self.arguments.rounds)?, records);
        let ran = throughput::rounds(field, &input, (&mut null, model), rounds)?;
        field.remove_all_but(&[])?;
        let bytes = raws.iter().map(|raw| raw.value.len() + raw.key.len()).sum::<usize>() / raws.len();
        self.say(format!(
            "\n{records} clicks as {name} ({bytes} bytes each) from a full topic of {} partitions   events/s, CPU an event",
            field.partitions
        ))?;
        let speed = |ran: &[Ran]| median_speed(&ran.iter().map(|ran| ran.speed).collect::<Vec<_>>());
        let [copy, without, whole] = [speed(&ran[0]), speed(&ran[1]), speed(&ran[2])];
        let ratio = |at: usize| {
            measure::median(ran[at].iter().zip(&ran[0]).map(|(ran, copy)| ran.speed.per_s / copy.speed.per_s).collect())
        };
        for (what, speed, at) in [
            ("bare librdkafka loop that copies", copy, 0),
            ("pipeline without a model", without, 1),
            ("pipeline", whole, 2),
        ] {
            let value = format!("{}, {:.1} µs", rate(speed.per_s), speed.cpu_ns / 1e3);
            let Ran { written, epochs, .. } = ran[at][0];
            let limit = format!("{written} records out, {epochs} epochs");
            self.row(what, &value, &limit, (at > 0).then(|| ratio(at)))?;
        }
        report.number(&format!("{key}copy_ratio"), ratio(1));
        report.number(&format!("{key}copy_per_s"), copy.per_s);
        report.number(&format!("{key}null_per_s"), without.per_s);
        report.number(&format!("{key}pipeline_per_s"), whole.per_s);
        report.number(&format!("{key}copy_cpu_ns"), copy.cpu_ns);
        report.number(&format!("{key}null_cpu_ns"), without.cpu_ns);
        report.number(&format!("{key}pipeline_cpu_ns"), whole.cpu_ns);
        Ok(())
    }

    fn latency(
        &self,
        field: &mut Field<'_>,
        raws: &[Raw],
        model: &mut dyn Model,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let mut points = Vec::new();
        for (delivery, name) in [(Delivery::ExactlyOnce, "exactly_once"), (Delivery::AtLeastOnce, "at_least_once")] {
            let peak = latency::point(field, model, raws, delivery, None)?.through;
            self.say(format!(
                "\n{name}: from due to committed embedding; peak {} with load and reader on the same machine\n  \
                 load                 embeddings    p50 ms    p99 ms  p99.9 ms    epochs  markers/data  CPU a click",
                rate(peak)
            ))?;
            report.number(&format!("peak_{name}_per_s"), peak);
            let mut load = |percent: f64| {
                let offered = peak * percent / 100.0;
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of clicks")]
                let count = ((offered * self.arguments.seconds as f64) as usize).clamp(1_000, raws.len());
                latency::point(field, model, &raws[..count], delivery, Some(offered))
            };
            // Not counted: a broker that has just begun still compiles itself.
            load(50.0)?;
            for percent in [10.0, 50.0, 90.0] {
                let point = load(percent)?;
                self.say(row_of(percent, &point))?;
                if delivery == Delivery::ExactlyOnce && percent == 50.0 {
                    report.json.insert("latency_ms".to_owned(), milliseconds(&point));
                }
                let mut entry = milliseconds(&point);
                entry["delivery"] = name.into();
                entry["percent_of_peak"] = percent.into();
                entry["offered_per_s"] = short(point.offered);
                entry["marker_bytes_to_data"] = short(point.marker_bytes as f64 / point.data_bytes.max(1) as f64);
                points.push(entry);
            }
        }
        report.json.insert("latencies".to_owned(), points.into());
        Ok(())
    }
}

fn row_of(percent: f64, point: &Point) -> String {
    format!(
        "  {percent:>3.0} % ({:>9})     {:>10} {:>9.1} {:>9.1} {:>9.1} {:>9} {:>13.3} {:>9.1} µs",
        rate(point.offered),
        point.embeddings,
        point.p50,
        point.p99,
        point.p999,
        point.epochs,
        point.marker_bytes as f64 / point.data_bytes.max(1) as f64,
        point.cpu_ns / 1e3,
    )
}

fn milliseconds(point: &Point) -> Value {
    json!({ "p50": short(point.p50), "p99": short(point.p99), "p999": short(point.p999) })
}
