//! What needs no broker: schemas, ONNX Runtime's library, the model, the device, the registry's setting.

use std::io;
use std::path::Path;

use super::report::{Report, Row};
use crate::cli::Frame;
use crate::config::{Config, InferenceDevice};
use crate::model::bundle::Bundle;
use crate::model::device::{self, Device, DeviceFound};
use crate::model::onnx::{OnnxModel, Runtime};
use crate::model::{Model as _, ModelError, library};
use crate::registry::Client;
use crate::wire::avro::{CLICK_EVENT, CUSTOMER_EMBEDDING, SESSION_SUMMARY, Schemas};

/// Gives the model, where it keeps its contract.
///
/// `is_offline`: nobody is asked over a network.
pub(super) fn check(
    report: &mut Report,
    config: Option<&Config>,
    frame: &Frame,
    is_offline: bool,
) -> Option<OnnxModel> {
    report.add(schemas_row());
    // As a run looks for it: a GPU wants another variant than the CPU.
    let wish = config.map_or(InferenceDevice::Cpu, |config| config.inference_device);
    let (row, runtime) = library_row(wish, |name| frame.variable(name));
    report.add(row);
    match config {
        Some(config) => {
            let (row, device) = device_row(config, runtime.as_ref());
            let (model_row, model) = model_row(config, runtime.as_ref().zip(device));
            report.add(model_row);
            report.add(row);
            report.add(registry_row(config, is_offline));
            if let Some(dir) = &config.state.dir {
                report.add(store_row(dir, config.state.cache_bytes));
            }
            model
        }
        None => {
            for what in ["model", "device", "registry"] {
                report.add(Row::not_checked(what, "the settings are refused"));
            }
            None
        }
    }
}

/// Where the model runs.
fn device_row(config: &Config, runtime: Option<&Runtime>) -> (Row, Option<Device>) {
    const WHAT: &str = "device";
    let Some(runtime) = runtime else {
        return (Row::not_checked(WHAT, "onnx runtime is missing"), None);
    };
    match device::describe(runtime, config.inference_device) {
        Ok(DeviceFound { device, why_not_cuda }) => {
            let why = why_not_cuda.map_or_else(String::new, |why| format!(" (inference.device is auto; {why})"));
            let found = format!("{device}, inference.threads {}{why}", config.inference_threads);
            (Row::right(WHAT, found), Some(device))
        }
        Err(error) => (Row::wrong(WHAT, error.to_string(), "set inference.device = \"cpu\", or see docs/gpu.md"), None),
    }
}

/// The local store's folder, as far as can be seen without touching it.
fn store_row(dir: &Path, cache_bytes: usize) -> Row {
    const WHAT: &str = "local store";
    const FIX: &str = "a folder on a local disk that this user may write to, of this process alone, as state.dir";
    let (shown, mb) = (dir.display(), cache_bytes >> 20);
    match dir.metadata() {
        Ok(found) if !found.is_dir() => Row::wrong(WHAT, format!("state.dir {shown} is no folder"), FIX),
        Ok(found) if found.permissions().readonly() => {
            Row::wrong(WHAT, format!("state.dir {shown} cannot be written to"), FIX)
        }
        Ok(_) => {
            let begun = if dir.join("data").is_dir() { "has a store" } else { "is empty" };
            Row::right(WHAT, format!("{shown} {begun}, state.cache_mb {mb}"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let above = dir.ancestors().skip(1).find(|above| above.as_os_str().is_empty() || above.exists());
            match above.map(Path::metadata) {
                Some(Ok(above)) if above.is_dir() && above.permissions().readonly() => {
                    Row::wrong(WHAT, format!("state.dir {shown} cannot be made"), FIX)
                }
                Some(_) | None => Row::right(WHAT, format!("{shown} will be made, state.cache_mb {mb}")),
            }
        }
        Err(error) => Row::wrong(WHAT, format!("state.dir {shown}: {error}"), FIX),
    }
}

/// The schema registry: whether it answers as one.
fn registry_row(config: &Config, is_offline: bool) -> Row {
    const WHAT: &str = "registry";
    let Some(registry) = &config.registry else {
        return Row::right(WHAT, "no registry.url set: JSON and Avro with single-object encoding are read");
    };
    let asked = match Client::new(registry) {
        Ok(_) if is_offline => return Row::not_checked(WHAT, "--offline"),
        Ok(client) => client.ping(),
        Err(error) => Err(error),
    };
    match asked {
        Ok(url) => Row::right(WHAT, format!("{url} answers")),
        Err(error) => Row::wrong(WHAT, error.to_string(), "start it, or set registry.url to its API and its login"),
    }
}

/// What is written must be readable by whoever has the released schemas.
fn schemas_row() -> Row {
    let schemas = Schemas::released();
    let written =
        [("ClickEvent", CLICK_EVENT), ("CustomerEmbedding", CUSTOMER_EMBEDDING), ("SessionSummary", SESSION_SUMMARY)];
    let unknown: Vec<&str> =
        written.iter().filter(|(_, fingerprint)| !schemas.knows(*fingerprint)).map(|(name, _)| *name).collect();
    if unknown.is_empty() {
        let said = written.map(|(name, fingerprint)| format!("{name} {fingerprint}"));
        Row::right("schemas", format!("{} are read and written", said.join(", ")))
    } else {
        let found = format!("this binary writes {} by a schema that was never released", unknown.join(", "));
        Row::wrong("schemas", found, "it is not built from a released version: build or fetch it anew")
    }
}

fn library_row(wish: InferenceDevice, environment: impl Fn(&str) -> Option<String>) -> (Row, Option<Runtime>) {
    const WHAT: &str = "onnx runtime";
    match Runtime::load(&library::places_for(wish, environment)) {
        Ok(runtime) => {
            // The link's target has the version in its name.
            let path = runtime.library();
            let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
            (Row::right(WHAT, path.display().to_string()), Some(runtime))
        }
        Err(error) => {
            let text = error.to_string();
            let found: Vec<&str> =
                text.lines().map(str::trim).filter(|line| !line.starts_with("run `make setup`")).collect();
            let fetch = match wish {
                InferenceDevice::Cuda(_) => "deploy/setup/onnxruntime.sh gpu",
                InferenceDevice::Cpu | InferenceDevice::Auto => "make setup",
            };
            let fix = format!("{fetch} fetches it; or set {} to a library of yours", library::VARIABLE);
            let found = found.join(" ");
            (Row::wrong(WHAT, found.strip_prefix("onnx runtime: ").unwrap_or(&found), fix), None)
        }
    }
}

fn model_row(config: &Config, runs: Option<(&Runtime, Device)>) -> (Row, Option<OnnxModel>) {
    let path = &config.model_path;
    let Some((runtime, device)) = runs else {
        let row = match Bundle::read(path) {
            Ok(bundle) => {
                let id = bundle.manifest.id.as_str();
                Row::not_checked(
                    "model",
                    &format!("the files of {id} are right; to run them needs onnx runtime and the device"),
                )
            }
            Err(error) => wrong_model(&error),
        };
        return (row, None);
    };
    match OnnxModel::load(runtime, path, config.inference_threads, device) {
        Ok(model) => {
            let found = format!(
                "{} in {}: hashes, golden outputs and batch invariance are right, embeddings of {} numbers",
                model.id().as_str(),
                path.display(),
                model.shape().embedding
            );
            (Row::right("model", found), Some(model))
        }
        Err(error) => (wrong_model(&error), None),
    }
}

fn wrong_model(error: &ModelError) -> Row {
    let text = error.to_string().lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let fix = if text.contains("cannot be read") {
        "set model.path to the folder of a bundle; it is relative to the working directory"
    } else if text.contains("sha256") {
        "the file is not the one that was exported: copy the bundle anew, or export it again (models/README.md)"
    } else if text.contains("golden") {
        "the graphs compute something else than at the export: export the bundle again (models/README.md), or try the ONNX \
         Runtime it was exported for"
    } else {
        "export the bundle again (models/README.md; docs/model-contract.md has the rules), or set model.path to another"
    };
    Row::wrong("model", text, fix)
}
