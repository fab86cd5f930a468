//! Where ONNX Runtime's shared library may lie on this machine. Takes the environment, gives the places to try in order.

use std::path::{Path, PathBuf};

use crate::config::InferenceDevice;

/// The variable by which a user names a library. Where it is set, nothing else is tried.
pub const VARIABLE: &str = "ORT_DYLIB_PATH";

/// Names that the system's loader may know.
const SYSTEM: [&str; 2] = ["libonnxruntime.so", "libonnxruntime.so.1"];

/// For the CPU; see [`places_for`].
pub fn places(environment: impl Fn(&str) -> Option<String>) -> Vec<PathBuf> {
    places_for(InferenceDevice::Cpu, environment)
}

/// `environment` gives a variable's value. Looks into the project's cache, the newest version first; variants with CUDA
/// come before the others where a GPU is wanted or may be, and after them where it is not.
pub fn places_for(wish: InferenceDevice, environment: impl Fn(&str) -> Option<String>) -> Vec<PathBuf> {
    let set = |name: &str| environment(name).filter(|value| !value.is_empty());
    if let Some(named) = set(VARIABLE) {
        return vec![named.into()];
    }
    let cache = set("DCE_CACHE_DIR").map(PathBuf::from).or_else(|| {
        let base = set("XDG_CACHE_HOME").map(PathBuf::from);
        base.or_else(|| set("HOME").map(|home| Path::new(&home).join(".cache"))).map(|base| base.join("dce"))
    });
    let cached = cache.map(|cache| cached(&cache, wish)).unwrap_or_default();
    cached.into_iter().chain(SYSTEM.map(PathBuf::from)).collect()
}

/// `onnxruntime-VERSION/libonnxruntime.so`, with CUDA `onnxruntime-gpu-VERSION`; the folder itself where there is none yet, so that a message names it.
fn cached(cache: &Path, wish: InferenceDevice) -> Vec<PathBuf> {
    let wants_cuda = match wish {
        InferenceDevice::Cpu => false,
        InferenceDevice::Auto | InferenceDevice::Cuda(_) => true,
    };
    let mut found = Vec::new();
    for entry in cache.read_dir().into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(version) = name.to_str().and_then(|name| name.strip_prefix("onnxruntime-")) else { continue };
        let library = entry.path().join("libonnxruntime.so");
        if library.is_file() {
            let (has_cuda, version) = version.strip_prefix("gpu-").map_or((false, version), |version| (true, version));
            found.push((has_cuda == wants_cuda, version_key(version), library));
        }
    }
    if found.is_empty() {
        return vec![cache.join("onnxruntime-*").join("libonnxruntime.so")];
    }
    found.sort();
    found.into_iter().rev().map(|(_, _, library)| library).collect()
}

/// So that 1.31.1 is newer than 1.4.0. What is no number counts as 0.
fn version_key(version: &str) -> Vec<u64> {
    version.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment<'a>(set: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |name| set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn the_users_library_is_the_only_place() {
        let set = [(VARIABLE, "/opt/libort.so"), ("DCE_CACHE_DIR", "/cache")];
        assert_eq!(places(environment(&set)), [PathBuf::from("/opt/libort.so")]);
    }

    #[test]
    fn an_empty_variable_is_none_and_the_cache_is_named_where_it_is_empty() {
        let set = [(VARIABLE, ""), ("XDG_CACHE_HOME", "/nowhere"), ("HOME", "/nobody")];
        let expected = ["/nowhere/dce/onnxruntime-*/libonnxruntime.so", "libonnxruntime.so", "libonnxruntime.so.1"];
        assert_eq!(places(environment(&set)), expected.map(PathBuf::from));
        let expected = "/nobody/.cache/dce/onnxruntime-*/libonnxruntime.so";
        assert_eq!(places(environment(&set[2..]))[0], PathBuf::from(expected));
        assert_eq!(places(environment(&[])), SYSTEM.map(PathBuf::from));
    }

    #[test]
    fn the_newest_version_comes_first() {
        let cache = crate::model::tests::scratch("library");
        for version in ["1.4.0", "1.31.1", "1.31.0"] {
            let folder = cache.join(format!("onnxruntime-{version}"));
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("libonnxruntime.so"), "").unwrap();
        }
        std::fs::create_dir_all(cache.join("onnxruntime-2.0.0")).unwrap(); // without a library
        let set = [("DCE_CACHE_DIR", cache.to_str().unwrap())];
        let gpu = cache.join("onnxruntime-gpu-1.30.0").join("libonnxruntime.so");
        std::fs::create_dir_all(gpu.parent().unwrap()).unwrap();
        std::fs::write(&gpu, "").unwrap();
        assert_eq!(places_for(InferenceDevice::Cuda(0), environment(&set))[0], gpu);
        assert_eq!(places_for(InferenceDevice::Auto, environment(&set))[0], gpu);
        assert_eq!(places(environment(&set))[3], gpu);
        std::fs::remove_file(&gpu).unwrap();
        let found: Vec<_> = places(environment(&set)).iter().take(4).map(|p| p.display().to_string()).collect();
        let library = |version| format!("{}/onnxruntime-{version}/libonnxruntime.so", cache.display());
        assert_eq!(found[..3], ["1.31.1", "1.31.0", "1.4.0"].map(library));
        assert_eq!(found[3], "libonnxruntime.so");
        std::fs::remove_dir_all(cache).unwrap();
    }
}
