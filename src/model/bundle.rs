//! Reads a bundle's folder: every file once, up to its limit, against its sha256. Takes a path, gives a [`Bundle`] whose
//! parts belong together; what the graphs compute is not looked at here.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::features::FeatureSpec;
use super::golden::Golden;
use super::manifest::{self, FileRef, Graphs, Manifest};
use super::{ModelError, graph};
use crate::types::fnv1a64;

const MANIFEST_BYTES_MAX: u64 = 1 << 20;
const FILE_BYTES_MAX: u64 = 256 << 20;

/// A bundle in memory.
#[derive(Debug)]
pub struct Bundle {
    /// The folder as the user named it, for messages.
    pub folder: String,
    /// Of the manifest, which holds the hash of every file: another bundle has another one.
    pub fingerprint: u64,
    pub manifest: Manifest,
    pub features: FeatureSpec,
    /// ONNX bytes.
    pub graphs: Graphs<Vec<u8>>,
    /// In the order of the manifest's heads.
    pub heads: Vec<Vec<u8>>,
    pub golden: Golden,
}

impl Bundle {
    pub fn read(folder: &Path) -> Result<Self, ModelError> {
        let name = folder.display().to_string();
        read(folder).map_err(|what| ModelError::Bundle { bundle: name, what })
    }
}

fn read(folder: &Path) -> Result<Bundle, String> {
    let text = read_file(folder, manifest::FILE, MANIFEST_BYTES_MAX)?;
    let text = String::from_utf8(text).map_err(|_| format!("{} is not UTF-8", manifest::FILE))?;
    let fingerprint = fnv1a64(text.as_bytes());
    let manifest = Manifest::parse(&text).map_err(|error| error.to_string())?;
    let vocabulary = read_named(folder, &manifest.vocabulary)?;
    let features = manifest.features(&vocabulary).map_err(|error| error.to_string())?;
    let model = |file: &FileRef| {
        let bytes = read_named(folder, file)?;
        graph::check(&bytes, manifest.opset).map_err(|what| format!("{} {what}", file.file))?;
        Ok::<_, String>(bytes)
    };
    let graphs = Graphs {
        session_encoder: model(&manifest.graphs.session_encoder)?,
        session_step: model(&manifest.graphs.session_step)?,
        customer_step: model(&manifest.graphs.customer_step)?,
        customer_read: model(&manifest.graphs.customer_read)?,
    };
    let heads = manifest.heads.iter().map(|head| model(&head.file)).collect::<Result<_, _>>()?;
    let golden = Golden::parse(&manifest.golden.file, &read_named(folder, &manifest.golden)?)?;
    Ok(Bundle { folder: folder.display().to_string(), fingerprint, manifest, features, graphs, heads, golden })
}

fn read_named(folder: &Path, named: &FileRef) -> Result<Vec<u8>, String> {
    let bytes = read_file(folder, &named.file, FILE_BYTES_MAX)?;
    let found = hex(&Sha256::digest(&bytes));
    if found == named.sha256 {
        return Ok(bytes);
    }
    let FileRef { file, sha256 } = named;
    Err(format!("{file} is not the file of the manifest: its sha256 is {found}, the manifest says {sha256}"))
}

fn read_file(folder: &Path, name: &str, bytes_max: u64) -> Result<Vec<u8>, String> {
    let unreadable = |error: std::io::Error| format!("{name} cannot be read: {error}");
    let file = File::open(folder.join(name)).map_err(unreadable)?;
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(format!("{name} is no file"));
    }
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > bytes_max {
        return Err(format!("{name} is larger than {bytes_max} bytes"));
    }
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all");
        text
    })
}
