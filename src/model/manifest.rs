//! What a bundle says of itself: `manifest.toml` and `vocabulary.json`, as raw structs as written, then checked. Takes
//! text, gives a [`Manifest`] whose every value keeps the contract's rules; reading the folder is `bundle`'s. `[pure]`

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Component, Path};

use jiff::tz::TimeZone;
use serde::Deserialize;

use super::features::{Context, FeatureSpec, Field, Number, Scaling, Source, Transform};
use super::{HeadInput, Shape};
use crate::types::ModelId;

pub const FILE: &str = "manifest.toml";

/// The version of the contract that is read here.
const CONTRACT: i64 = 1;
const OPSET_MIN: u32 = 17;
const OPSET_MAX: u32 = 20;
/// Of session, hidden state, customer state and embedding.
const DIMENSION_MAX: usize = 16_384;
/// Of `[[fields]]`, `[[numbers]]` and `[[context]]`.
const COLUMNS_MAX: usize = 256;
const BUCKETS_MAX: u32 = 1 << 24;
const KNOWN_MAX: usize = 1 << 24;
const HEADS_MAX: usize = 16;
/// Of names and versions, which go into every record.
const NAME_BYTES_MAX: usize = 64;
/// A golden output may be so far away at most, whatever the manifest allows.
const TOLERANCE_MAX: f64 = 0.01;

/// Why a bundle's own words are refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ManifestError {
    #[error("{file}: {what}")]
    Unreadable { file: String, what: String },
    #[error("{file}: {key} is {value}, must be {must}")]
    Invalid { file: String, key: String, value: String, must: String },
}

/// A file of the bundle: its name, relative to the folder, and the hash that it must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRef {
    pub file: String,
    /// 64 lower-case hexadecimal digits.
    pub sha256: String,
}

/// One of something for each graph that a bundle must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graphs<T> {
    pub session_encoder: T,
    pub session_step: T,
    pub customer_step: T,
    pub customer_read: T,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadSpec {
    pub name: String,
    pub file: FileRef,
    pub inputs: Vec<HeadInput>,
    /// What the scores mean, in their order; empty where the bundle does not say.
    pub classes: Vec<String>,
}

/// What a head may answer: the tasks by which models are evaluated.
const TASKS: [&str; 4] = ["owner", "next", "next_session", "label"];

/// A manifest that keeps the contract's rules.
#[derive(Debug, Clone)]
pub struct Manifest {
    pub id: ModelId,
    pub zone: TimeZone,
    pub opset: u32,
    /// The sizes of the graphs; those of the features come from the lists below.
    pub shape: Shape,
    pub vocabulary: FileRef,
    /// What to take, and the buckets for unknown values.
    pub fields: Vec<(Source, u32)>,
    pub numbers: Vec<Number>,
    pub context: Vec<Context>,
    pub graphs: Graphs<FileRef>,
    /// Sorted by name.
    pub heads: Vec<HeadSpec>,
    pub golden: FileRef,
    /// Absolute, on every element of every golden output.
    pub tolerance: f64,
}

#[derive(Deserialize)]
struct RawVersion {
    contract: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawManifest {
    #[serde(rename = "contract")]
    _contract: i64,
    name: String,
    version: String,
    timezone: String,
    opset: u32,
    dimensions: RawDimensions,
    vocabulary: RawFile,
    #[serde(default)]
    fields: Vec<RawField>,
    #[serde(default)]
    numbers: Vec<RawNumber>,
    #[serde(default)]
    context: Vec<RawContext>,
    graphs: RawGraphs,
    #[serde(default)]
    heads: BTreeMap<String, RawHead>,
    golden: RawGolden,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDimensions {
    session: usize,
    hidden: usize,
    state: usize,
    embedding: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    file: String,
    sha256: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawField {
    source: String,
    buckets: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNumber {
    source: String,
    transform: String,
    mean: f64,
    scale: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawContext {
    name: String,
    transform: String,
    mean: f64,
    scale: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGraphs {
    session_encoder: RawFile,
    session_step: RawFile,
    customer_step: RawFile,
    customer_read: RawFile,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHead {
    file: String,
    sha256: String,
    inputs: Vec<String>,
    task: Option<String>,
    #[serde(default)]
    classes: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGolden {
    file: String,
    sha256: String,
    tolerance: f64,
}

impl Manifest {
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let unreadable = |error: toml::de::Error| ManifestError::Unreadable {
            file: FILE.to_owned(),
            what: error.to_string().trim_end().to_owned(),
        };
        // A later contract has other keys: its number is the better message.
        let version: RawVersion = toml::from_str(text).map_err(unreadable)?;
        require(version.contract == CONTRACT, "contract", version.contract, "1, the contract that this dce reads")?;
        let raw: RawManifest = toml::from_str(text).map_err(unreadable)?;
        checked(raw)
    }

    /// Every file that the manifest names.
    pub fn files(&self) -> Vec<&FileRef> {
        let graphs = &self.graphs;
        let four = [&graphs.session_encoder, &graphs.session_step, &graphs.customer_step, &graphs.customer_read];
        let heads = self.heads.iter().map(|head| &head.file);
        [&self.vocabulary, &self.golden].into_iter().chain(four).chain(heads).collect()
    }

    /// Reads the vocabulary and gives the features that the two describe together.
    pub fn features(&self, vocabulary: &[u8]) -> Result<FeatureSpec, ManifestError> {
        let file = &self.vocabulary.file;
        let mut known: BTreeMap<String, Vec<String>> = serde_json::from_slice(vocabulary)
            .map_err(|error| ManifestError::Unreadable { file: file.clone(), what: error.to_string() })?;
        let invalid = |key: &str, value: String, must: &str| ManifestError::Invalid {
            file: file.clone(),
            key: key.to_owned(),
            value,
            must: must.to_owned(),
        };
        let mut fields = Vec::with_capacity(self.fields.len());
        for (source, buckets) in &self.fields {
            let key = source.to_string();
            let Some(names) = known.remove(&key) else {
                return Err(invalid(&key, "missing".to_owned(), "there, since the manifest has it among its fields"));
            };
            if names.len() > KNOWN_MAX {
                return Err(invalid(&key, format!("{} names", names.len()), &format!("{KNOWN_MAX} names at most")));
            }
            let mut seen = HashSet::with_capacity(names.len());
            if let Some(twice) = names.iter().find(|name| !seen.insert(name.as_str())) {
                return Err(invalid(&key, format!("a list with {twice:?} twice"), "a list of different names"));
            }
            fields.push(Field::new(source.clone(), &names, *buckets));
        }
        if let Some(key) = known.keys().next() {
            return Err(invalid(key, "there".to_owned(), "a field of the manifest, or absent"));
        }
        Ok(FeatureSpec::new(fields, self.numbers.clone(), self.context.clone(), self.zone.clone()))
    }
}

fn checked(raw: RawManifest) -> Result<Manifest, ManifestError> {
    for (key, value) in [("name", &raw.name), ("version", &raw.version)] {
        require(is_name(value), key, quoted(value), "1 to 64 letters, digits, dots, dashes or underscores")?;
    }
    let zone = TimeZone::get(&raw.timezone)
        .map_err(|_| invalid("timezone", quoted(&raw.timezone), "an IANA time zone such as Europe/Berlin"))?;
    let opset_fits = (OPSET_MIN..=OPSET_MAX).contains(&raw.opset);
    require(opset_fits, "opset", raw.opset, &format!("{OPSET_MIN} to {OPSET_MAX}"))?;
    let sizes = &raw.dimensions;
    for (key, value) in [
        ("dimensions.session", sizes.session),
        ("dimensions.hidden", sizes.hidden),
        ("dimensions.state", sizes.state),
        ("dimensions.embedding", sizes.embedding),
    ] {
        require((1..=DIMENSION_MAX).contains(&value), key, value, &format!("1 to {DIMENSION_MAX}"))?;
    }
    let columns = |key: &str, count: usize, least: usize| {
        let must = format!("{least} to {COLUMNS_MAX} entries");
        require((least..=COLUMNS_MAX).contains(&count), key, format!("a list of {count}"), &must)
    };
    columns("[[fields]]", raw.fields.len(), 1)?;
    columns("[[numbers]]", raw.numbers.len(), 0)?;
    columns("[[context]]", raw.context.len(), 0)?;
    let shape = Shape {
        fields: raw.fields.len(),
        numbers: 1 + raw.numbers.len(),
        session: sizes.session,
        hidden: sizes.hidden,
        state: sizes.state,
        embedding: sizes.embedding,
        context: 2 * raw.context.len(),
    };
    let graphs = Graphs {
        session_encoder: file("graphs.session_encoder", raw.graphs.session_encoder)?,
        session_step: file("graphs.session_step", raw.graphs.session_step)?,
        customer_step: file("graphs.customer_step", raw.graphs.customer_step)?,
        customer_read: file("graphs.customer_read", raw.graphs.customer_read)?,
    };
    let tolerance = raw.golden.tolerance;
    let tolerance_fits = tolerance > 0.0 && tolerance <= TOLERANCE_MAX;
    require(tolerance_fits, "golden.tolerance", tolerance, &format!("above 0, at most {TOLERANCE_MAX}"))?;
    Ok(Manifest {
        id: ModelId::new(&raw.name, &raw.version),
        zone,
        opset: raw.opset,
        shape,
        vocabulary: file("vocabulary", raw.vocabulary)?,
        fields: fields(&raw.fields)?,
        numbers: numbers(raw.numbers)?,
        context: context(raw.context)?,
        graphs,
        heads: heads(raw.heads)?,
        golden: file("golden", RawFile { file: raw.golden.file, sha256: raw.golden.sha256 })?,
        tolerance,
    })
}

fn fields(raw: &[RawField]) -> Result<Vec<(Source, u32)>, ManifestError> {
    let mut fields: Vec<(Source, u32)> = Vec::with_capacity(raw.len());
    for (place, field) in raw.iter().enumerate() {
        let key = format!("fields[{place}].source");
        let must = "name, kind, channel, device_id or attributes.KEY";
        let source = Source::parse(&field.source).ok_or_else(|| invalid(&key, quoted(&field.source), must))?;
        let is_new = fields.iter().all(|(other, _)| *other != source);
        require(is_new, &key, quoted(&field.source), "another than the fields before it")?;
        let fits = (1..=BUCKETS_MAX).contains(&field.buckets);
        require(fits, &format!("fields[{place}].buckets"), field.buckets, &format!("1 to {BUCKETS_MAX}"))?;
        fields.push((source, field.buckets));
    }
    Ok(fields)
}

fn numbers(raw: Vec<RawNumber>) -> Result<Vec<Number>, ManifestError> {
    let mut numbers = Vec::with_capacity(raw.len());
    for (place, number) in raw.into_iter().enumerate() {
        let key = format!("numbers[{place}]");
        let Some(Source::Attribute(attribute)) = Source::parse(&number.source) else {
            return Err(invalid(&format!("{key}.source"), quoted(&number.source), "attributes.KEY"));
        };
        let scaling = scaling(&key, &number.transform, number.mean, number.scale)?;
        numbers.push(Number { attribute, scaling });
    }
    Ok(numbers)
}

fn context(raw: Vec<RawContext>) -> Result<Vec<Context>, ManifestError> {
    let mut context = Vec::with_capacity(raw.len());
    for (place, feature) in raw.into_iter().enumerate() {
        let key = format!("context[{place}]");
        require(!feature.name.is_empty(), &format!("{key}.name"), "empty", "a key of the LOGIN event's context")?;
        let scaling = scaling(&key, &feature.transform, feature.mean, feature.scale)?;
        context.push(Context { name: feature.name.into(), scaling });
    }
    Ok(context)
}

fn scaling(key: &str, transform: &str, mean: f64, scale: f64) -> Result<Scaling, ManifestError> {
    let transform = match transform {
        "identity" => Transform::Identity,
        "log1p" => Transform::Log1p,
        other => return Err(invalid(&format!("{key}.transform"), quoted(other), "identity or log1p")),
    };
    require(mean.is_finite(), &format!("{key}.mean"), mean, "a finite number")?;
    require(scale.is_finite() && scale != 0.0, &format!("{key}.scale"), scale, "a finite number other than 0")?;
    Ok(Scaling { transform, mean, scale })
}

fn heads(raw: BTreeMap<String, RawHead>) -> Result<Vec<HeadSpec>, ManifestError> {
    require(raw.len() <= HEADS_MAX, "[heads]", format!("a table of {}", raw.len()), &format!("{HEADS_MAX} at most"))?;
    let mut heads = Vec::with_capacity(raw.len());
    for (name, head) in raw {
        let key = format!("heads.{name}");
        require(is_name(&name), &key, quoted(&name), "1 to 64 letters, digits, dots, dashes or underscores")?;
        let mut inputs = Vec::with_capacity(head.inputs.len());
        for input in &head.inputs {
            let must = "different ones of state, prior, session, embedding, calendar, context";
            let found = HeadInput::parse(input).filter(|found| !inputs.contains(found));
            inputs.push(found.ok_or_else(|| invalid(&format!("{key}.inputs"), format!("{:?}", head.inputs), must))?);
        }
        require(!inputs.is_empty(), &format!("{key}.inputs"), "empty", "one or more of the contract's inputs")?;
        if let Some(task) = &head.task {
            require(TASKS.contains(&task.as_str()), &format!("{key}.task"), quoted(task), &TASKS.join(", "))?;
        }
        let distinct: BTreeSet<&String> = head.classes.iter().collect();
        let listed = || format!("{} names, {} of them different", head.classes.len(), distinct.len());
        require(distinct.len() == head.classes.len(), &format!("{key}.classes"), listed(), "different names")?;
        let file = file(&key, RawFile { file: head.file, sha256: head.sha256 })?;
        heads.push(HeadSpec { file, name, inputs, classes: head.classes });
    }
    Ok(heads)
}

/// Only names that stay inside the bundle's folder, whatever the machine makes of them.
fn file(key: &str, raw: RawFile) -> Result<FileRef, ManifestError> {
    let inside = Path::new(&raw.file).components().all(|part| matches!(part, Component::Normal(_)))
        && !raw.file.is_empty()
        && !raw.file.contains(['\\', ':', '\0']);
    require(inside, &format!("{key}.file"), quoted(&raw.file), "a path inside the bundle's folder")?;
    let is_hash = raw.sha256.len() == 64 && raw.sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    require(is_hash, &format!("{key}.sha256"), quoted(&raw.sha256), "64 lower-case hexadecimal digits")?;
    Ok(FileRef { file: raw.file, sha256: raw.sha256 })
}

fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

fn require(holds: bool, key: &str, value: impl ToString, must: &str) -> Result<(), ManifestError> {
    if holds { Ok(()) } else { Err(invalid(key, value.to_string(), must)) }
}

fn invalid(key: &str, value: String, must: &str) -> ManifestError {
    ManifestError::Invalid { file: FILE.to_owned(), key: key.to_owned(), value, must: must.to_owned() }
}
