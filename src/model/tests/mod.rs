//! The model's tests, and what they share.

use std::path::{Path, PathBuf};

use super::library;
use super::onnx::Runtime;

mod features;
mod manifest;
mod onnx;

/// An empty folder of its own for a test.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("dce-{}-{name}", std::process::id()));
    drop(std::fs::remove_dir_all(&folder));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// The repository's small bundle; `tests/data/tiny_bundle.py` makes it.
pub(crate) fn tiny_bundle() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny-bundle")
}

/// Every bundle that the repository ships.
pub(crate) fn shipped_bundles() -> Vec<PathBuf> {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let folders = models.read_dir().into_iter().flatten().map(|entry| entry.unwrap().path());
    folders.filter(|folder| folder.join("manifest.toml").is_file()).collect()
}

/// Tests need the library as `make setup` leaves it.
pub(crate) fn runtime() -> Runtime {
    #[expect(clippy::disallowed_methods, reason = "tests have no main that hands the environment in")]
    let environment = |name: &str| std::env::var(name).ok();
    Runtime::load(&library::places(environment)).unwrap()
}
