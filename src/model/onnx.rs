//! A bundle through ONNX Runtime, on the device that [`super::device`] found. Takes a folder, gives a [`Model`] that has
//! shown that it keeps the contract, or says what is wrong and what to do.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ndarray::{Array, Array1, Array2, Array3, Dimension};
use ort::environment::Environment;
use ort::ep::cuda::ConvAlgorithmSearch;
use ort::ep::{self, ArenaExtendStrategy, ExecutionProviderDispatch};
use ort::logging::LogLevel;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{Session, SessionInputValue};
use ort::value::{Outlet, PrimitiveTensorElementType, Tensor, TensorElementType, TensorRef, ValueType};

use super::bundle::Bundle;
use super::device::Device;
use super::features::FeatureSpec;
use super::placement::{self, Placement};
use super::{CALENDAR, Head, HeadInputs, Model, ModelError, Shape, invariance, library};
use crate::types::ModelId;

/// Of a head: K.
const CLASSES_MAX: usize = 4096;

/// ONNX Runtime, loaded. There is one a process, however often it is asked for.
#[derive(Debug, Clone)]
pub struct Runtime {
    environment: Environment,
    library: Arc<PathBuf>,
}

/// `ort` allows one environment a process, even after it is gone: so it stays.
static LOADED: Mutex<Option<Runtime>> = Mutex::new(None);

impl Runtime {
    /// Takes the first of the places (see [`library::places`]) that has a library new enough. Once one is loaded, every
    /// later call gives that one.
    pub fn load(places: &[PathBuf]) -> Result<Self, ModelError> {
        let mut loaded = LOADED.lock().expect("loading does not panic");
        if let Some(runtime) = &*loaded {
            return Ok(runtime.clone());
        }
        let runtime = Self::find(places)?;
        tracing::info!(library = %runtime.library.display(), "onnx runtime loaded");
        Ok(loaded.insert(runtime).clone())
    }

    fn find(places: &[PathBuf]) -> Result<Self, ModelError> {
        let mut tried = Vec::new();
        for place in places {
            match ort::init_from(place) {
                Ok(builder) => {
                    let builder = builder.with_name("dce").with_telemetry(false).with_logger(Arc::new(log));
                    let environment = builder.build().map_err(|error| ModelError::Runtime(error.to_string()))?;
                    return Ok(Self { environment, library: Arc::new(place.clone()) });
                }
                Err(error) => tried.push(format!("\n  {}: {}", place.display(), why(&error))),
            }
        }
        Err(ModelError::Runtime(format!(
            "no usable library libonnxruntime.so, version 1.{} or later; looked in:{}\nrun `make setup`, which fetches it, \
             or set {} to a library of yours",
            ort::MINOR_VERSION,
            tried.concat(),
            library::VARIABLE
        )))
    }

    /// Which library it is.
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// Whether CUDA would be taken, without a graph. The error is ONNX Runtime's.
    pub(super) fn try_cuda(&self, ordinal: u8) -> ort::Result<()> {
        // It logs what it returns as an error, too, and for `auto` it is none.
        self.environment.set_log_level(LogLevel::Fatal);
        let taken = Session::builder(&self.environment)
            .and_then(|builder| Ok(builder.with_execution_providers([cuda(ordinal)]).map(drop)?));
        self.environment.set_log_level(LogLevel::Verbose);
        taken
    }
}

fn why(error: &ort::LoadDynamicError) -> String {
    match error {
        // The loader's own words are behind those of the crate.
        ort::LoadDynamicError::Dlopen { error, .. } => {
            std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
        }
        ort::LoadDynamicError::MissingApi { .. } => "is not onnx runtime: it exports no OrtGetApiBase".to_owned(),
        ort::LoadDynamicError::InvalidVersionString => "tells no version".to_owned(),
        ort::LoadDynamicError::BadVersion { version_str, .. } => format!("is version {version_str}, too old"),
    }
}

fn log(level: LogLevel, category: &str, _id: &str, location: &str, message: &str) {
    match level {
        LogLevel::Verbose | LogLevel::Info => tracing::debug!(target: "onnxruntime", category, location, "{message}"),
        LogLevel::Warning => tracing::warn!(target: "onnxruntime", category, location, "{message}"),
        LogLevel::Error | LogLevel::Fatal => tracing::error!(target: "onnxruntime", category, location, "{message}"),
    }
}

/// CUDA with what makes the same bits come again: no TensorFloat-32, which keeps 10 bits of a product's fraction, and no
/// algorithm chosen by the clock. The arena grows by what is asked for, since workers share a GPU.
fn cuda(ordinal: u8) -> ExecutionProviderDispatch {
    ep::CUDA::default()
        .with_device_id(i32::from(ordinal))
        .with_tf32(false)
        .with_conv_algorithm_search(ConvAlgorithmSearch::Default)
        .with_arena_extend_strategy(ArenaExtendStrategy::SameAsRequested)
        .build()
        .error_on_failure()
}

/// A bundle's graphs. One a worker: a session of ONNX Runtime runs one batch at a time.
#[derive(Debug)]
pub struct OnnxModel {
    id: ModelId,
    device: Device,
    fingerprint: u64,
    shape: Shape,
    features: FeatureSpec,
    session_encoder: Graph,
    session_step: Graph,
    customer_step: Graph,
    customer_read: Graph,
    heads: Vec<Head>,
    head_graphs: Vec<Graph>,
}

impl OnnxModel {
    /// Reads the folder, opens the graphs and puts them to the test.
    pub fn load(runtime: &Runtime, folder: &Path, intra_threads: usize, device: Device) -> Result<Self, ModelError> {
        let bundle = Bundle::read(folder)?;
        let mut model = Self::open(runtime, &bundle, intra_threads, device)?;
        model.check(&bundle)?;
        Ok(model)
    }

    /// The graphs of a bundle; for the second worker and those after it, which need not test the same files again.
    pub fn open(runtime: &Runtime, bundle: &Bundle, intra_threads: usize, device: Device) -> Result<Self, ModelError> {
        let manifest = &bundle.manifest;
        let open = |name: &str, bytes: &[u8], inputs: &[Port], outputs: &[Port]| {
            let opening = Opening { runtime, intra_threads, device };
            Graph::open(&opening, name, bytes, inputs, outputs).map_err(|what| ModelError::Bundle {
                bundle: bundle.folder.clone(),
                what: format!("graph {name}: {what}"),
            })
        };
        let shape = manifest.shape;
        let session = floats("session", shape.session);
        let (calendar, context) = (floats("calendar", CALENDAR), floats("context", shape.context));
        let encoder = [
            Port { name: "fields", kind: TensorElementType::Int64, dims: vec![FREE, FREE, fixed(shape.fields)] },
            Port { name: "numbers", kind: TensorElementType::Float32, dims: vec![FREE, FREE, fixed(shape.numbers)] },
            Port { name: "length", kind: TensorElementType::Int32, dims: vec![FREE] },
        ];
        let step = [
            Port { name: "fields", kind: TensorElementType::Int64, dims: vec![FREE, fixed(shape.fields)] },
            floats("numbers", shape.numbers),
            floats("hidden", shape.hidden),
        ];
        let step_out = [floats("hidden_out", shape.hidden), session.clone()];
        let state = floats("state", shape.state);
        let fold = [state.clone(), session.clone(), floats("gap", 1), calendar.clone(), context.clone()];
        let fold_out = [floats("state_out", shape.state), floats("gate", 1)];
        let read = [state, floats("ahead", 1), calendar, context];
        let read_out = [floats("embedding", shape.embedding)];
        let mut model = Self {
            id: manifest.id.clone(),
            device,
            fingerprint: bundle.fingerprint,
            shape,
            features: bundle.features.clone(),
            session_encoder: open("session_encoder", &bundle.graphs.session_encoder, &encoder, &[session])?,
            session_step: open("session_step", &bundle.graphs.session_step, &step, &step_out)?,
            customer_step: open("customer_step", &bundle.graphs.customer_step, &fold, &fold_out)?,
            customer_read: open("customer_read", &bundle.graphs.customer_read, &read, &read_out)?,
            heads: Vec::new(),
            head_graphs: Vec::new(),
        };
        let scores = [Port { dims: vec![FREE, ANY], ..floats("scores", 1) }];
        for (spec, bytes) in manifest.heads.iter().zip(&bundle.heads) {
            let inputs: Vec<Port> =
                spec.inputs.iter().map(|input| floats(input.as_str(), input.width(shape))).collect();
            let graph = open(&format!("heads/{}", spec.name), bytes, &inputs, &scores)?;
            let classes = graph.columns("scores");
            if !spec.classes.is_empty() && spec.classes.len() != classes {
                return Err(ModelError::Bundle {
                    bundle: bundle.folder.clone(),
                    what: format!(
                        "graph heads/{}: has {classes} scores, must have {}, as manifest.toml names so many classes",
                        spec.name,
                        spec.classes.len()
                    ),
                });
            }
            model.heads.push(Head { name: spec.name.as_str().into(), inputs: spec.inputs.as_slice().into(), classes });
            model.head_graphs.push(graph);
        }
        Ok(model)
    }

    /// Where its graphs run.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Runs the golden inputs, then the test that batches keep every bit.
    pub fn check(&mut self, bundle: &Bundle) -> Result<(), ModelError> {
        let tolerance = bundle.manifest.tolerance;
        let golden = bundle.golden.check(self, tolerance);
        golden.and_then(|()| invariance::check(self, tolerance)).map_err(|what| ModelError::Bundle {
            bundle: bundle.folder.clone(),
            what: match self.device {
                Device::Cpu => what,
                Device::Cuda(_) => format!("on {}: {what}", self.device),
            },
        })
    }
}

impl Model for OnnxModel {
    fn id(&self) -> &ModelId {
        &self.id
    }

    fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    fn shape(&self) -> Shape {
        self.shape
    }

    fn features(&self) -> &FeatureSpec {
        &self.features
    }

    fn encode(
        &mut self,
        fields: Array3<i64>,
        numbers: Array3<f32>,
        length: Array1<i32>,
    ) -> Result<Array2<f32>, ModelError> {
        let rows = length.len();
        let inputs = [("fields", owned(fields)), ("numbers", owned(numbers)), ("length", owned(length))];
        let [session] = self.session_encoder.run(rows, inputs, [("session", self.shape.session)])?;
        Ok(session)
    }

    fn encode_step(
        &mut self,
        fields: Array2<i64>,
        numbers: Array2<f32>,
        hidden: Array2<f32>,
    ) -> Result<(Array2<f32>, Array2<f32>), ModelError> {
        let rows = hidden.nrows();
        let inputs = [("fields", owned(fields)), ("numbers", owned(numbers)), ("hidden", owned(hidden))];
        let outputs = [("hidden_out", self.shape.hidden), ("session", self.shape.session)];
        let [hidden, session] = self.session_step.run(rows, inputs, outputs)?;
        Ok((hidden, session))
    }

    fn customer_step(
        &mut self,
        state: Array2<f32>,
        session: Array2<f32>,
        gap: Array2<f32>,
        calendar: Array2<f32>,
        context: Array2<f32>,
    ) -> Result<(Array2<f32>, Array2<f32>), ModelError> {
        let rows = state.nrows();
        let inputs = [
            ("state", owned(state)),
            ("session", owned(session)),
            ("gap", owned(gap)),
            ("calendar", owned(calendar)),
            ("context", owned(context)),
        ];
        let [state, gate] = self.customer_step.run(rows, inputs, [("state_out", self.shape.state), ("gate", 1)])?;
        Ok((state, gate))
    }

    fn customer_read(
        &mut self,
        state: Array2<f32>,
        ahead: Array2<f32>,
        calendar: Array2<f32>,
        context: Array2<f32>,
    ) -> Result<Array2<f32>, ModelError> {
        let rows = state.nrows();
        let inputs = [
            ("state", owned(state)),
            ("ahead", owned(ahead)),
            ("calendar", owned(calendar)),
            ("context", owned(context)),
        ];
        let [embedding] = self.customer_read.run(rows, inputs, [("embedding", self.shape.embedding)])?;
        Ok(embedding)
    }

    fn heads(&self) -> &[Head] {
        &self.heads
    }

    fn score(&mut self, head: usize, inputs: HeadInputs<'_>) -> Result<Array2<f32>, ModelError> {
        let (head, graph) = (&self.heads[head], &mut self.head_graphs[head]);
        let mut rows = 0;
        let mut given = Vec::with_capacity(head.inputs.len());
        for input in &head.inputs {
            let missing =
                || ModelError::Run { graph: graph.name.clone(), what: format!("{} is missing", input.as_str()) };
            let array = inputs.get(*input).ok_or_else(missing)?;
            rows = array.nrows();
            given.push((input.as_str(), TensorRef::from_array_view(array.view()).map(SessionInputValue::from)));
        }
        let [scores] = graph.run(rows, given, [("scores", head.classes)])?;
        Ok(scores)
    }
}

/// Moves an array into a tensor: no copy, since ours are contiguous.
fn owned<T, D>(array: Array<T, D>) -> ort::Result<SessionInputValue<'static>>
where
    T: PrimitiveTensorElementType + std::fmt::Debug + Clone + 'static,
    D: Dimension + 'static,
{
    Ok(Tensor::from_array(array)?.into())
}

/// What the contract says of an input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Port {
    name: &'static str,
    kind: TensorElementType,
    dims: Vec<i64>,
}

/// ONNX Runtime's word for a dimension that is open until the graph runs.
const FREE: i64 = -1;
/// The contract does not say how many, but the graph must. No size that a manifest can ask for: `context` has 0 columns
/// where a bundle reads none.
const ANY: i64 = -2;

fn floats(name: &'static str, columns: usize) -> Port {
    Port { name, kind: TensorElementType::Float32, dims: vec![FREE, fixed(columns)] }
}

fn fixed(size: usize) -> i64 {
    i64::try_from(size).expect("the manifest bounds sizes")
}

/// One ONNX file, open.
#[derive(Debug)]
struct Graph {
    name: String,
    session: Session,
}

impl Graph {
    fn open(
        opening: &Opening<'_>,
        name: &str,
        bytes: &[u8],
        inputs: &[Port],
        outputs: &[Port],
    ) -> Result<Self, String> {
        let free = |port: &Port| port.dims.iter().filter(|dim| **dim == FREE).count();
        let is_mixed = inputs.iter().any(|port| free(port) > 1);
        let session = match opening.device {
            Device::Cpu => opening.on_cpu(bytes, !is_mixed).map_err(|error| error.to_string())?,
            Device::Cuda(ordinal) => opening.on_cuda(name, bytes, ordinal)?,
        };
        check_ports("input", session.inputs(), inputs)?;
        check_ports("output", session.outputs(), outputs)?;
        Ok(Self { name: name.to_owned(), session })
    }

    /// The fixed last dimension of an output.
    fn columns(&self, output: &str) -> usize {
        let outlet = self.session.outputs().iter().find(|outlet| outlet.name() == output);
        let columns = outlet.and_then(|outlet| outlet.dtype().tensor_shape()).and_then(|shape| shape.last().copied());
        columns.and_then(|columns| usize::try_from(columns).ok()).expect("the ports were checked")
    }

    /// `rows` is B. Without rows nothing runs.
    fn run<'a, const N: usize>(
        &mut self,
        rows: usize,
        inputs: impl IntoIterator<Item = (&'static str, ort::Result<SessionInputValue<'a>>)>,
        outputs: [(&'static str, usize); N],
    ) -> Result<[Array2<f32>; N], ModelError> {
        let mut results = outputs.map(|(_, columns)| Array2::zeros((0, columns)));
        if rows == 0 {
            return Ok(results);
        }
        let graph = &self.name;
        let failed = |what: String| ModelError::Run { graph: graph.clone(), what };
        let named = inputs.into_iter().map(|(name, value)| Ok((Cow::Borrowed(name), value?)));
        let named: Vec<_> = named.collect::<ort::Result<_>>().map_err(|error| failed(error.to_string()))?;
        let values = self.session.run(named).map_err(|error| failed(error.to_string()))?;
        for ((name, columns), result) in outputs.into_iter().zip(&mut results) {
            let value = values.get(name).ok_or_else(|| failed(format!("gives no {name}")))?;
            let (dims, data) = value.try_extract_tensor::<f32>().map_err(|error| failed(error.to_string()))?;
            if **dims != [fixed(rows), fixed(columns)] {
                return Err(failed(format!("{name} is {:?}, must be [{rows}, {columns}]", &**dims)));
            }
            *result = Array2::from_shape_vec((rows, columns), data.to_vec()).expect("the dimensions are those");
        }
        Ok(results)
    }
}

/// How graphs are opened.
struct Opening<'a> {
    runtime: &'a Runtime,
    intra_threads: usize,
    device: Device,
}

/// What ONNX Runtime says where it was told not to fall back to the CPU, and would have to.
const FALL_BACK: &str = "fallback to CPU EP has been explicitly disabled";

impl Opening<'_> {
    fn builder(&self) -> ort::Result<SessionBuilder> {
        Ok(Session::builder(&self.runtime.environment)?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .with_intra_threads(self.intra_threads)?
            .with_inter_threads(1)?)
    }

    /// Memory patterns pay where shapes come again: 5 % for the step graph. The session encoder's hardly do, and it is 6 to
    /// 18 % faster without on sessions of mixed lengths (docs/decisions/0002-batching-by-length.md).
    fn on_cpu(&self, bytes: &[u8], patterns: bool) -> ort::Result<Session> {
        self.builder()?.with_memory_pattern(patterns)?.commit_from_memory(bytes)
    }

    fn cuda_builder(&self, ordinal: u8) -> ort::Result<SessionBuilder> {
        // Patterns are of shapes, and ours change with every batch.
        let builder = self.builder()?.with_memory_pattern(false)?.with_deterministic_compute(true)?;
        Ok(builder.with_execution_providers([cuda(ordinal)])?)
    }

    /// Every node on the GPU by ONNX Runtime's own word, or an error that names those that are not. A computation of shapes
    /// may by nature be on the CPU: where nothing else is, it is said, and the graph opened without that word.
    fn on_cuda(&self, name: &str, bytes: &[u8], ordinal: u8) -> Result<Session, String> {
        let said = |error: ort::Error| error.to_string();
        let strict = self.cuda_builder(ordinal).and_then(|builder| {
            builder
                .with_disable_cpu_fallback()?
                .with_logger(Arc::new(log_all_but_the_refusal))?
                .commit_from_memory(bytes)
        });
        match strict {
            Err(error) if error.to_string().contains(FALL_BACK) => {}
            opened => return opened.map_err(said),
        }
        let placement = self.cuda_builder(ordinal).and_then(|builder| placement(builder, bytes)).map_err(said)?;
        let on_cpu = placement.on_cpu(&placement::shape_nodes(bytes)?).map_err(|what| self.cannot_be_there(&what))?;
        tracing::info!(graph = name, nodes = ?on_cpu, "computations of shapes stay on the CPU, all else is on the GPU");
        self.cuda_builder(ordinal).and_then(|mut builder| builder.commit_from_memory(bytes)).map_err(said)
    }

    fn cannot_be_there(&self, what: &str) -> String {
        format!(
            "cannot be on {}: {what}; export it without what ONNX Runtime has not for CUDA, or set inference.device to cpu",
            self.device
        )
    }
}

/// It comes back as an error, and is none where shapes are computed.
fn log_all_but_the_refusal(level: LogLevel, category: &str, id: &str, location: &str, message: &str) {
    let level = if message.contains(FALL_BACK) { LogLevel::Info } else { level };
    log(level, category, id, location, message);
}

/// Opens the graph once more to see where its nodes run. Not for running: what a session logs so finely it logs in each
/// run.
fn placement(builder: SessionBuilder, bytes: &[u8]) -> ort::Result<Placement> {
    let seen = Arc::new(Mutex::new(Placement::default()));
    let writer = Arc::clone(&seen);
    let read = move |_: LogLevel, _: &str, _: &str, _: &str, line: &str| {
        writer.lock().unwrap_or_else(PoisonError::into_inner).line(line);
    };
    drop(builder.with_logger(Arc::new(read))?.with_log_level(LogLevel::Verbose)?.commit_from_memory(bytes)?);
    Ok(std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner)))
}

fn check_ports(what: &str, found: &[Outlet], expected: &[Port]) -> Result<(), String> {
    if let Some(foreign) = found.iter().find(|outlet| expected.iter().all(|port| port.name != outlet.name())) {
        let expected: Vec<&str> = expected.iter().map(|port| port.name).collect();
        return Err(format!("has an {what} {}, must have {}", foreign.name(), expected.join(", ")));
    }
    for port in expected {
        let Some(outlet) = found.iter().find(|outlet| outlet.name() == port.name) else {
            return Err(format!("has no {what} {}", port.name));
        };
        let fits = match outlet.dtype() {
            ValueType::Tensor { ty, shape, .. } => *ty == port.kind && dims_fit(shape, &port.dims),
            ValueType::Sequence(_) | ValueType::Map { .. } | ValueType::Optional(_) => false,
        };
        if !fits {
            return Err(format!("{what} {} is {}, must be {}", port.name, told(outlet.dtype()), told_port(port)));
        }
    }
    Ok(())
}

fn dims_fit(found: &[i64], expected: &[i64]) -> bool {
    found.len() == expected.len()
        && found.iter().zip(expected).all(|(found, expected)| match *expected {
            ANY => (1..=fixed(CLASSES_MAX)).contains(found),
            expected => *found == expected,
        })
}

fn told(kind: &ValueType) -> String {
    match kind {
        ValueType::Tensor { ty, shape, .. } => format!("{}{}", kind_name(*ty), dims_name(shape)),
        ValueType::Sequence(_) | ValueType::Map { .. } | ValueType::Optional(_) => "no tensor".to_owned(),
    }
}

fn told_port(port: &Port) -> String {
    format!("{}{}", kind_name(port.kind), dims_name(&port.dims))
}

fn dims_name(dims: &[i64]) -> String {
    let name = |dim: &i64| match *dim {
        FREE => "any".to_owned(),
        ANY => format!("1 to {CLASSES_MAX}"),
        dim => dim.to_string(),
    };
    format!("[{}]", dims.iter().map(name).collect::<Vec<_>>().join(","))
}

fn kind_name(kind: TensorElementType) -> String {
    match kind {
        TensorElementType::Float32 => "f32".to_owned(),
        TensorElementType::Int64 => "i64".to_owned(),
        TensorElementType::Int32 => "i32".to_owned(),
        other => format!("{other:?}"),
    }
}
