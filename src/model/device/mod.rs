//! On what the graphs run: whether CUDA can be had in this process, and if not, which library or device is missing and how
//! to get it. Takes what the settings wish and the loaded ONNX Runtime, gives a [`DeviceFound`] or the reason.
//!
//! A device that was asked for by name is had or refused, never replaced. The libraries are loaded here one by one before
//! ONNX Runtime looks for them, from beside its own library first: so a message can name each one that is missing, and a
//! folder that holds them all needs no LD_LIBRARY_PATH.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};

use ort::ep::{self, ExecutionProvider as _};
use ort::util::preload_dylib;

use super::onnx::Runtime;
use super::{ModelError, elf, library};
use crate::config::InferenceDevice;

/// What a model runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Device {
    Cpu,
    /// By its number among those that this process may see.
    Cuda(u8),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

/// The device that a wish comes to on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceFound {
    pub device: Device,
    /// Of `auto` that came to the CPU: why it is not a GPU, one sentence.
    pub why_not_cuda: Option<String>,
}

/// Why a GPU cannot be used. Each text says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    #[error(
        "inference.device = {device}: {library} is ONNX Runtime without CUDA; {FETCH}, or set inference.device to cpu",
        library = library.display()
    )]
    WithoutCuda { device: Device, library: PathBuf },
    #[error(
        "inference.device = {device}: missing {missing}{rest}; or set inference.device to cpu",
        missing = listed(missing), rest = how_to(missing)
    )]
    Missing { device: Device, missing: Vec<Missing> },
    #[error(
        "inference.device = {device}: there is no such GPU, this process sees {count} {range}; correct the number, or see \
         whether CUDA_VISIBLE_DEVICES hides it",
        range = range(*count)
    )]
    NoSuchDevice { device: Device, count: u32 },
    #[error(
        "inference.device = {device}: {what}; see that `nvidia-smi` shows the GPU here and that its driver is new enough for \
         this ONNX Runtime, or set inference.device to cpu"
    )]
    Unusable { device: Device, what: String },
}

/// A library that could not be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Such as `libcudnn.so.9`.
    pub name: String,
    /// Where a file of this name lies that does not load, and the loader's words for it.
    pub broken: Option<String>,
}

const FETCH: &str = "deploy/setup/onnxruntime.sh gpu fetches the variant with CUDA, or set ORT_DYLIB_PATH to one";
const DRIVER: &str = "libcuda.so.1";
const PROVIDER: &str = "libonnxruntime_providers_cuda.so";
/// What ONNX Runtime loads beside its library, in this order.
const PROVIDERS: [&str; 2] = ["libonnxruntime_providers_shared.so", PROVIDER];
/// Opened by name while a GRU runs, so that no file says that it needs them: cuDNN 9 and those of its parts that have to
/// do with recurrent networks.
const CUDNN: [&str; 4] = ["libcudnn_graph.so.9", "libcudnn_ops.so.9", "libcudnn_adv.so.9", "libcudnn.so.9"];
/// Loaded where they are there: parts of cuDNN that it opens by name at need, and the compiler that some of them use.
const USEFUL: [&str; 8] = [
    "libnvrtc.so.13",
    "libnvrtc.so.12",
    "libcudnn_heuristic.so.9",
    "libcudnn_cnn.so.9",
    "libcudnn_ext.so.9",
    "libcudnn_engines_precompiled.so.9",
    "libcudnn_engines_runtime_compiled.so.9",
    "libcudnn_engines_tensor_ir.so.9",
];
/// Packages on PyPI by the beginning of a library's name.
const PACKAGES: [(&str, &str); 7] = [
    ("libcublas", "nvidia-cublas"),
    ("libcurand", "nvidia-curand"),
    ("libcudart", "nvidia-cuda-runtime"),
    ("libcufft", "nvidia-cufft"),
    ("libnvrtc", "nvidia-cuda-nvrtc"),
    ("libcudnn", "nvidia-cudnn-cu13"),
    ("libonnxruntime", "onnxruntime-gpu"),
];

/// ONNX Runtime for what the settings wish: `auto` and `cuda:N` look for a variant with CUDA first. The one call before
/// [`OnnxModel::load`](super::onnx::OnnxModel::load); `environment` gives a variable's value.
pub fn find(
    wish: InferenceDevice,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<(Runtime, DeviceFound), ModelError> {
    let runtime = Runtime::load(&library::places_for(wish, environment))?;
    let found = describe(&runtime, wish)?;
    Ok((runtime, found))
}

/// The device that the wish comes to with this ONNX Runtime. Loads the libraries of CUDA, and counts the GPUs; opens no
/// graph and takes no memory of a GPU. What of a bundle cannot run there, opening it says.
pub fn describe(runtime: &Runtime, wish: InferenceDevice) -> Result<DeviceFound, DeviceError> {
    match wish {
        InferenceDevice::Cpu => Ok(DeviceFound { device: Device::Cpu, why_not_cuda: None }),
        InferenceDevice::Cuda(ordinal) => {
            check_cuda(runtime, ordinal)?;
            Ok(DeviceFound { device: Device::Cuda(ordinal), why_not_cuda: None })
        }
        InferenceDevice::Auto => Ok(match check_cuda(runtime, 0) {
            Ok(()) => DeviceFound { device: Device::Cuda(0), why_not_cuda: None },
            Err(error) => DeviceFound { device: Device::Cpu, why_not_cuda: Some(error.reason()) },
        }),
    }
}

impl DeviceError {
    /// Without the setting and what to do about it.
    fn reason(&self) -> String {
        match self {
            Self::WithoutCuda { library, .. } => format!("{} is ONNX Runtime without CUDA", library.display()),
            Self::Missing { missing, .. } => format!("missing {}", listed(missing)),
            Self::NoSuchDevice { count, .. } => format!("this process sees {count} {}", range(*count)),
            Self::Unusable { what, .. } => what.clone(),
        }
    }
}

fn check_cuda(runtime: &Runtime, ordinal: u8) -> Result<(), DeviceError> {
    let device = Device::Cuda(ordinal);
    let unusable = |what: String| DeviceError::Unusable { device, what };
    if !ep::CUDA::is_available().map_err(|error| unusable(error.to_string()))? {
        return Err(DeviceError::WithoutCuda { device, library: runtime.library().to_owned() });
    }
    let folder = folder_of(runtime.library());
    let missing = load_all(folder.as_deref(), &mut |path| preload_dylib(path).map_err(|error| error.to_string()))
        .map_err(unusable)?;
    if !missing.is_empty() {
        return Err(DeviceError::Missing { device, missing });
    }
    runtime.try_cuda(ordinal).map_err(|error| told(device, &error.to_string()))
}

/// What ONNX Runtime says about a number beyond the last one, or about CUDA.
fn told(device: Device, error: &str) -> DeviceError {
    let count = error.split_once("must be between 0 (inclusive) and ").and_then(|(_, rest)| {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..end].parse().ok()
    });
    if let Some(count) = count {
        return DeviceError::NoSuchDevice { device, count };
    }
    // Behind the reason it tells the machine's name and places in its own source.
    let from = error.find("CUDA failure").unwrap_or(0);
    let what = error[from..].split(" ; ").next().unwrap_or(error).trim();
    DeviceError::Unusable { device, what: what.to_owned() }
}

/// The folder in which ONNX Runtime looks for its providers: that of its own library, which the system's loader may have
/// found.
fn folder_of(library: &Path) -> Option<PathBuf> {
    match library.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => Some(folder.to_owned()),
        _ => {
            let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
            let path = maps.lines().filter_map(|line| line.find('/').map(|at| Path::new(&line[at..])));
            let mut ours = path.filter(|path| {
                let name = path.file_name().and_then(|name| name.to_str());
                name.is_some_and(|name| name.starts_with("libonnxruntime.so"))
            });
            ours.next().and_then(Path::parent).map(Path::to_owned)
        }
    }
}

/// Loads all that CUDA needs; what could not be loaded comes back. `load` takes a path, or a name that the system's
/// loader is asked for. The error is a sentence about the provider.
fn load_all(folder: Option<&Path>, load: &mut dyn FnMut(&str) -> Result<(), String>) -> Result<Vec<Missing>, String> {
    let beside = |name: &str| folder.map(|folder| folder.join(name)).filter(|path| path.is_file());
    let absent = PROVIDERS.iter().filter(|name| beside(name).is_none());
    let mut missing: Vec<Missing> = absent.map(|name| Missing { name: (*name).to_owned(), broken: None }).collect();
    let mut needed = Vec::new();
    if let Some(provider) = beside(PROVIDER) {
        let read = File::open(&provider).map_err(|error| error.to_string()).and_then(|mut file| elf::needed(&mut file));
        needed = read.map_err(|what| format!("{} {what}", provider.display()))?;
    }
    needed.retain(|name| name != DRIVER);
    needed.extend(CUDNN.map(str::to_owned));
    let folders = folder.map(folders).unwrap_or_default();
    let place = |name: &str| folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file());
    // Some are hundreds of megabytes: without the driver it is enough to see that they are there.
    let driver = load(DRIVER);
    let (mut left, mut failed) = (needed, Vec::new());
    loop {
        let before = left.len();
        failed.clear();
        left.retain(|name| {
            let path = place(name);
            if driver.is_err() && path.is_some() {
                return false;
            }
            let path = path.as_ref().and_then(|path| path.to_str());
            let Err(error) = load(path.unwrap_or(name)) else { return false };
            failed.push(Missing { name: name.clone(), broken: path.map(|path| loaders_words(path, &error)) });
            true
        });
        // One may have needed another that comes later in the list.
        if left.is_empty() || left.len() == before {
            break;
        }
    }
    if driver.is_ok() && failed.is_empty() {
        for path in USEFUL.iter().filter_map(|name| place(name)) {
            // What nobody asks for by name later does no harm.
            if let Some(path) = path.to_str() {
                _ = load(path);
            }
        }
    }
    missing.append(&mut failed);
    missing.extend(driver.err().map(|_| Missing { name: DRIVER.to_owned(), broken: None }));
    Ok(missing)
}

/// Beside ONNX Runtime's library, and where pip puts NVIDIA's: `site-packages/nvidia/*/lib` beside
/// `site-packages/onnxruntime/capi`.
fn folders(folder: &Path) -> Vec<PathBuf> {
    let nvidia = folder.join("../../nvidia").read_dir().into_iter().flatten().flatten();
    let mut pip: Vec<PathBuf> = nvidia.map(|entry| entry.path().join("lib")).filter(|path| path.is_dir()).collect();
    pip.sort();
    std::iter::once(folder.to_owned()).chain(pip).collect()
}

fn loaders_words(path: &str, error: &str) -> String {
    let words = error.rsplit_once("dlopen failed: ").map_or(error, |(_, words)| words);
    words.strip_prefix(path).map_or(words, |rest| rest.trim_start_matches([':', ' '])).to_owned()
}

fn listed(missing: &[Missing]) -> String {
    let one = |missing: &Missing| match &missing.broken {
        Some(why) => format!("{} (there, but does not load: {why})", missing.name),
        None => missing.name.clone(),
    };
    missing.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Where the missing come from.
fn how_to(missing: &[Missing]) -> String {
    let mut packages: Vec<&str> = Vec::new();
    for missing in missing {
        let package = PACKAGES.iter().find(|(prefix, _)| missing.name.starts_with(prefix)).map(|(_, package)| *package);
        packages.extend(package.filter(|package| !packages.contains(package)));
    }
    let mut text = String::new();
    if !packages.is_empty() {
        text += "; `deploy/setup/onnxruntime.sh gpu` fetches all but the driver, or put what PyPI has in ";
        text += &packages.join(", ");
        text += " beside ONNX Runtime's library or into a folder of LD_LIBRARY_PATH";
    }
    if missing.iter().any(|missing| missing.name == DRIVER) {
        text += "; libcuda.so.1 is part of NVIDIA's driver, which a container is given with the GPU (docker run --gpus all)";
    }
    text
}

fn range(count: u32) -> String {
    match count {
        0 => "GPUs".to_owned(),
        1 => "GPU, which is cuda:0".to_owned(),
        count => format!("GPUs, cuda:0 to cuda:{}", count - 1),
    }
}

#[cfg(test)]
mod tests;
