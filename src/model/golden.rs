//! The golden inputs and outputs of a bundle, which every model that is run must reproduce: each graph alone, and whole
//! customers from their clicks to their embeddings. The customers are folded here one by one in the plainest way, so that
//! this is also what the pipeline's batches are compared with. Takes JSON and a [`Model`], gives what differs. `[pure]`

use std::borrow::Cow;
use std::collections::BTreeMap;

use ndarray::{Array, Array1, Array2, Array3, ArrayView, Dimension};
use serde::Deserialize;

use super::features::{hours, seconds_since};
use super::{HeadInput, HeadInputs, Model, ModelError};
use crate::types::{ClickKind, EventTime};
use crate::wire::click::ClickEvent;

/// `golden.json`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    graphs: BTreeMap<String, Vec<Case>>,
    customers: Vec<GoldenCustomer>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    inputs: BTreeMap<String, Tensor>,
    outputs: BTreeMap<String, Tensor>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tensor {
    shape: Vec<usize>,
    data: Vec<serde_json::Number>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GoldenCustomer {
    sessions: Vec<GoldenSession>,
    embeddings: Vec<Vec<f32>>,
}

/// A session as it was folded.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GoldenSession {
    start: i64,
    end: i64,
    closed_at: i64,
    #[serde(default)]
    context: Option<BTreeMap<String, f64>>,
    events: Vec<GoldenEvent>,
}

/// A click, of which only what features read is looked at.
#[derive(Debug, Deserialize)]
struct GoldenEvent {
    event_time: i64,
    kind: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    channel: Option<String>,
    #[serde(default)]
    device_id: Option<String>,
    #[serde(default)]
    attributes: Option<BTreeMap<String, String>>,
}

const GRAPHS: [&str; 4] = ["session_encoder", "session_step", "customer_step", "customer_read"];

impl Golden {
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|error| format!("{file}: {error}"))
    }

    /// Runs all of it; the error says what differs, or what is missing to compare with.
    pub fn check(&self, model: &mut dyn Model, tolerance: f64) -> Result<(), String> {
        let heads: Vec<String> = model.heads().iter().map(|head| format!("heads/{}", head.name)).collect();
        let known: Vec<&str> = GRAPHS.into_iter().chain(heads.iter().map(String::as_str)).collect();
        if let Some(missing) = known.iter().find(|name| self.graphs.get(**name).is_none_or(Vec::is_empty)) {
            return Err(format!("golden: graphs.{missing} has nothing to compare with"));
        }
        if let Some(foreign) = self.graphs.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(format!("golden: graphs.{foreign} is no graph of this bundle"));
        }
        if self.customers.is_empty() {
            return Err("golden: customers is empty: there is nothing to compare with".to_owned());
        }
        for (name, cases) in &self.graphs {
            for (place, case) in cases.iter().enumerate() {
                check_case(model, name, case, tolerance)
                    .map_err(|what| format!("golden: graphs.{name}[{place}]: {what}"))?;
            }
        }
        for (place, customer) in self.customers.iter().enumerate() {
            customer.check(model, tolerance).map_err(|what| format!("golden: customers[{place}]: {what}"))?;
        }
        Ok(())
    }
}

/// A case's inputs, taken out by name.
struct Inputs<'a>(&'a Case, usize);

impl Inputs<'_> {
    fn tensor(&self, name: &str, rank: usize) -> Result<&Tensor, String> {
        let tensor = self.0.inputs.get(name).ok_or_else(|| format!("the input {name} is missing"))?;
        if tensor.shape.len() != rank
            || tensor.shape.iter().try_fold(1_usize, |n, d| n.checked_mul(*d)) != Some(tensor.data.len())
        {
            return Err(format!("the input {name} has shape {:?} and {} values", tensor.shape, tensor.data.len()));
        }
        Ok(tensor)
    }

    /// `[B, columns]`.
    fn f32(&self, name: &str, columns: usize) -> Result<Array2<f32>, String> {
        let tensor = self.tensor(name, 2)?;
        array(name, (self.1, columns), tensor, f32_of)
    }
}

fn array<D: Dimension, T>(
    name: &str,
    shape: impl ndarray::IntoDimension<Dim = D>,
    tensor: &Tensor,
    read: fn(&serde_json::Number) -> Option<T>,
) -> Result<Array<T, D>, String> {
    let shape = shape.into_dimension();
    if shape.slice() != tensor.shape.as_slice() {
        return Err(format!("{name} has shape {:?}, must be {:?}", tensor.shape, shape.slice()));
    }
    let data = tensor.data.iter().map(read).collect::<Option<Vec<T>>>();
    let data = data.ok_or_else(|| format!("{name} has a value of another type"))?;
    Array::from_shape_vec(shape, data).map_err(|error| format!("{name}: {error}"))
}

#[expect(clippy::cast_possible_truncation, reason = "golden values are f32, written as decimals")]
fn f32_of(number: &serde_json::Number) -> Option<f32> {
    number.as_f64().map(|number| number as f32)
}

fn i32_of(number: &serde_json::Number) -> Option<i32> {
    number.as_i64().and_then(|number| i32::try_from(number).ok())
}

fn check_case(model: &mut dyn Model, name: &str, case: &Case, tolerance: f64) -> Result<(), String> {
    let shape = model.shape();
    let rows = case.inputs.values().next().and_then(|tensor| tensor.shape.first()).copied().unwrap_or(0);
    let inputs = Inputs(case, rows);
    let failed = |error: ModelError| error.to_string();
    let (taken, outputs) = match name {
        "session_encoder" => {
            let events = inputs.tensor("fields", 3)?.shape[1];
            let fields = inputs.tensor("fields", 3)?;
            let fields = array("fields", (rows, events, shape.fields), fields, serde_json::Number::as_i64)?;
            let numbers = inputs.tensor("numbers", 3)?;
            let numbers = array("numbers", (rows, events, shape.numbers), numbers, f32_of)?;
            let length: Array1<i32> = array("length", rows, inputs.tensor("length", 1)?, i32_of)?;
            if length.iter().any(|length| usize::try_from(*length).is_ok_and(|length| length > events) || *length < 1) {
                return Err(format!("the input length has a value outside 1 to {events}"));
            }
            (3, vec![("session", model.encode(fields, numbers, length).map_err(failed)?)])
        }
        "session_step" => {
            let fields = inputs.tensor("fields", 2)?;
            let fields = array("fields", (rows, shape.fields), fields, serde_json::Number::as_i64)?;
            let numbers = inputs.f32("numbers", shape.numbers)?;
            let hidden = inputs.f32("hidden", shape.hidden)?;
            let (hidden, session) = model.encode_step(fields, numbers, hidden).map_err(failed)?;
            (3, vec![("hidden_out", hidden), ("session", session)])
        }
        "customer_step" => {
            let (state, session) = (inputs.f32("state", shape.state)?, inputs.f32("session", shape.session)?);
            let (gap, calendar) = (inputs.f32("gap", 1)?, inputs.f32("calendar", super::CALENDAR)?);
            let context = inputs.f32("context", shape.context)?;
            let (state, gate) = model.customer_step(state, session, gap, calendar, context).map_err(failed)?;
            (5, vec![("state_out", state), ("gate", gate)])
        }
        "customer_read" => {
            let (state, ahead) = (inputs.f32("state", shape.state)?, inputs.f32("ahead", 1)?);
            let (calendar, context) = (inputs.f32("calendar", super::CALENDAR)?, inputs.f32("context", shape.context)?);
            (4, vec![("embedding", model.customer_read(state, ahead, calendar, context).map_err(failed)?)])
        }
        head => {
            let found = |known: &super::Head| head.strip_prefix("heads/") == Some(&*known.name);
            let place = model.heads().iter().position(found).expect("the names were compared before");
            let listed = model.heads()[place].inputs.clone();
            let mut arrays = BTreeMap::new();
            for input in &listed {
                arrays.insert(input.as_str(), inputs.f32(input.as_str(), input.width(shape))?);
            }
            let given = |input: HeadInput| arrays.get(input.as_str());
            let given = HeadInputs {
                state: given(HeadInput::State),
                prior: given(HeadInput::Prior),
                session: given(HeadInput::Session),
                embedding: given(HeadInput::Embedding),
                calendar: given(HeadInput::Calendar),
                context: given(HeadInput::Context),
            };
            (listed.len(), vec![("scores", model.score(place, given).map_err(failed)?)])
        }
    };
    if case.inputs.len() != taken {
        return Err(format!("has {} inputs, the graph has {taken}", case.inputs.len()));
    }
    if case.outputs.len() != outputs.len() {
        return Err(format!("has {} outputs, the graph has {}", case.outputs.len(), outputs.len()));
    }
    for (output, found) in outputs {
        let expected = case.outputs.get(output).ok_or_else(|| format!("the output {output} is missing"))?;
        let expected = array(output, found.dim(), expected, f32_of)?;
        compare(output, found.view(), expected.view(), tolerance)?;
    }
    Ok(())
}

fn compare<D: Dimension>(
    what: &str,
    found: ArrayView<'_, f32, D>,
    expected: ArrayView<'_, f32, D>,
    tolerance: f64,
) -> Result<(), String> {
    for (place, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let away = (f64::from(*found) - f64::from(*expected)).abs();
        if away.is_nan() || away > tolerance {
            return Err(format!("{what} has {found} at place {place}, must be {expected} within {tolerance}"));
        }
    }
    Ok(())
}

impl GoldenCustomer {
    fn check(&self, model: &mut dyn Model, tolerance: f64) -> Result<(), String> {
        if self.embeddings.len() != self.sessions.len() {
            return Err(format!("has {} sessions and {} embeddings", self.sessions.len(), self.embeddings.len()));
        }
        let mut state = Array2::zeros((1, model.shape().state));
        let (mut previous_end, mut latest_end, mut moment) = (None, i64::MIN, i64::MIN);
        for (place, (session, expected)) in self.sessions.iter().zip(&self.embeddings).enumerate() {
            let failed = |what: String| format!("session {place}: {what}");
            let context = session.context(model);
            let vector = session.encoded(model).map_err(failed)?;
            let gap = previous_end.map_or(0.0, |end| hours(positive(session.start, end)));
            let calendar = row(&model.features().calendar(session.start));
            let stepped = model.customer_step(state, vector, row(&[gap]), calendar, row(&context));
            state = stepped.map_err(|error| failed(error.to_string()))?.0;
            previous_end = Some(session.end);
            latest_end = latest_end.max(session.end);
            moment = moment.max(session.closed_at);
            let ahead = row(&[hours(positive(moment, latest_end))]);
            let calendar = row(&model.features().calendar(moment));
            let read = model.customer_read(state.clone(), ahead, calendar, row(&context));
            let read = read.map_err(|error| failed(error.to_string()))?;
            let embedding = unit(read.row(0).iter().copied());
            if embedding.len() != expected.len() {
                return Err(failed(format!(
                    "the embedding has {} values, the model's {}",
                    expected.len(),
                    embedding.len()
                )));
            }
            let expected = Array1::from(unit(expected.iter().copied()));
            compare("the embedding", Array1::from(embedding).view(), expected.view(), tolerance).map_err(failed)?;
        }
        Ok(())
    }
}

impl GoldenSession {
    fn context(&self, model: &dyn Model) -> Box<[f32]> {
        let Some(context) = &self.context else { return model.features().no_context() };
        let values: Vec<_> = context.iter().map(|(name, value)| (Cow::Borrowed(name.as_str()), *value)).collect();
        model.features().context(&values)
    }

    /// The session alone, unpadded: `[1,S]`.
    fn encoded(&self, model: &mut dyn Model) -> Result<Array2<f32>, String> {
        let (mut fields, mut numbers) = (Vec::new(), Vec::new());
        let mut previous = None;
        for event in &self.events {
            let click = event.click()?;
            let features = model.features().event(&click);
            fields.extend(features.fields.iter().map(|id| i64::from(*id)));
            numbers.push(previous.map_or(0.0, |previous| seconds_since(previous, click.event_time)));
            numbers.extend(features.numbers);
            previous = Some(click.event_time);
        }
        let (shape, events) = (model.shape(), self.events.len());
        let length = i32::try_from(events).ok().filter(|length| *length > 0);
        let length = length.ok_or_else(|| "has no events".to_owned())?;
        let fields = Array3::from_shape_vec((1, events, shape.fields), fields).expect("a row has F fields");
        let numbers = Array3::from_shape_vec((1, events, shape.numbers), numbers).expect("a row has N numbers");
        model.encode(fields, numbers, Array1::from_elem(1, length)).map_err(|error| error.to_string())
    }
}

impl GoldenEvent {
    fn click(&self) -> Result<ClickEvent<'_>, String> {
        let kind = ClickKind::parse(&self.kind).ok_or_else(|| format!("{:?} is no kind of event", self.kind))?;
        let time = EventTime::parse(self.event_time).ok_or_else(|| "an event time lies before 1970".to_owned())?;
        let attributes = self.attributes.iter().flatten();
        Ok(ClickEvent {
            event_id: Cow::Borrowed(""),
            customer_id: None,
            event_time: time,
            kind,
            name: Cow::Borrowed(self.name.as_deref().unwrap_or("")),
            channel: self.channel.as_deref().map(Cow::Borrowed),
            session_id: None,
            device_id: self.device_id.as_deref().map(Cow::Borrowed),
            context: Vec::new(),
            attributes: attributes.map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect(),
        })
    }
}

fn positive(later: i64, earlier: i64) -> u64 {
    later.saturating_sub(earlier).max(0).unsigned_abs()
}

fn row(values: &[f32]) -> Array2<f32> {
    Array2::from_shape_vec((1, values.len()), values.to_vec()).expect("one row")
}

/// Brought to unit length in f64.
fn unit(values: impl Iterator<Item = f32> + Clone) -> Vec<f32> {
    let length = values.clone().map(|value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt();
    #[expect(clippy::cast_possible_truncation, reason = "rounded once, as the contract says")]
    values.map(|value| (f64::from(value) / length) as f32).collect()
}
