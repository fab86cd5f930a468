//! What is missing is named, with a loader of the test's own; and the refusals on this machine's ONNX Runtime.

use std::collections::BTreeSet;
use std::path::PathBuf;

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::model::tests::{runtime, scratch};

/// As the provider of ONNX Runtime 1.31.1 needs them.
const NEEDED: [&str; 7] = [
    "libcublasLt.so.13",
    "libcublas.so.13",
    "libcurand.so.10",
    "libcudart.so.13",
    "libcuda.so.1",
    "libstdc++.so.6",
    "libc.so.6",
];

/// A folder with the provider, and empty files of these names beside it.
fn folder(name: &str, beside: &[&str]) -> PathBuf {
    let folder = scratch(name);
    std::fs::write(folder.join(PROVIDERS[0]), "").unwrap();
    std::fs::write(folder.join(PROVIDER), elf::tests::library(&NEEDED)).unwrap();
    for name in beside {
        std::fs::write(folder.join(name), "").unwrap();
    }
    folder
}

/// What a loader says that finds these names by itself, and paths that do not end in a broken name.
fn load_with(folder: &Path, system: &[&str], broken: &[&str]) -> (Vec<String>, Result<Vec<Missing>, String>) {
    let mut loaded = Vec::new();
    let result = load_all(Some(folder), &mut |path| {
        let name = path.rsplit('/').next().unwrap();
        if broken.contains(&name) {
            return Err(format!("dlopen failed: {path}: file too short"));
        }
        if !path.contains('/') && !system.contains(&path) {
            return Err(format!("dlopen failed: {path}: cannot open shared object file: No such file or directory"));
        }
        loaded.push(name.to_owned());
        Ok(())
    });
    (loaded, result)
}

const SYSTEM: [&str; 3] = [DRIVER, "libstdc++.so.6", "libc.so.6"];
const CUDA: [&str; 4] = ["libcublasLt.so.13", "libcublas.so.13", "libcurand.so.10", "libcudart.so.13"];

#[test]
fn a_folder_with_all_of_it_is_enough() {
    let folder = folder("device-all", &[&CUDA as &[&str], &CUDNN, &["libcudnn_heuristic.so.9"]].concat());
    let (loaded, result) = load_with(&folder, &SYSTEM, &[]);
    assert_eq!(result, Ok(Vec::new()));
    for name in CUDA.iter().chain(&CUDNN).chain(&["libcudnn_heuristic.so.9"]) {
        assert!(loaded.contains(&(*name).to_owned()), "{name} in {loaded:?}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

fn check(folder: &Path, system: &[&str], broken: &[&str], expected: Expect) {
    let missing = load_with(folder, system, broken).1.unwrap();
    expected.assert_eq(&DeviceError::Missing { device: Device::Cuda(0), missing }.to_string());
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn each_missing_library_is_named_with_the_way_to_it() {
    let all = [&CUDA as &[&str], &CUDNN].concat();
    let without = |name: &str| all.iter().copied().filter(|known| *known != name).collect::<Vec<_>>();
    check(
        &folder("device-cudnn", &without("libcudnn_adv.so.9")),
        &SYSTEM,
        &[],
        expect![
            "inference.device = cuda:0: missing libcudnn_adv.so.9; `deploy/setup/onnxruntime.sh gpu` fetches all but the driver, or put what PyPI has in nvidia-cudnn-cu13 beside ONNX Runtime's library or into a folder of LD_LIBRARY_PATH; or set inference.device to cpu"
        ],
    );
    check(
        &folder("device-driver", &all),
        &SYSTEM[1..],
        &[],
        expect![
            "inference.device = cuda:0: missing libcuda.so.1; libcuda.so.1 is part of NVIDIA's driver, which a container is given with the GPU (docker run --gpus all); or set inference.device to cpu"
        ],
    );
    check(
        &folder("device-none", &[]),
        &[],
        &[],
        expect![
            "inference.device = cuda:0: missing libcublasLt.so.13, libcublas.so.13, libcurand.so.10, libcudart.so.13, libstdc++.so.6, libc.so.6, libcudnn_graph.so.9, libcudnn_ops.so.9, libcudnn_adv.so.9, libcudnn.so.9, libcuda.so.1; `deploy/setup/onnxruntime.sh gpu` fetches all but the driver, or put what PyPI has in nvidia-cublas, nvidia-curand, nvidia-cuda-runtime, nvidia-cudnn-cu13 beside ONNX Runtime's library or into a folder of LD_LIBRARY_PATH; libcuda.so.1 is part of NVIDIA's driver, which a container is given with the GPU (docker run --gpus all); or set inference.device to cpu"
        ],
    );
    check(
        &folder("device-broken", &all),
        &SYSTEM,
        &["libcublas.so.13"],
        expect![
            "inference.device = cuda:0: missing libcublas.so.13 (there, but does not load: file too short); `deploy/setup/onnxruntime.sh gpu` fetches all but the driver, or put what PyPI has in nvidia-cublas beside ONNX Runtime's library or into a folder of LD_LIBRARY_PATH; or set inference.device to cpu"
        ],
    );
    let providers = folder("device-provider", &all);
    std::fs::remove_file(providers.join(PROVIDER)).unwrap();
    check(
        &providers,
        &SYSTEM,
        &[],
        expect![
            "inference.device = cuda:0: missing libonnxruntime_providers_cuda.so; `deploy/setup/onnxruntime.sh gpu` fetches all but the driver, or put what PyPI has in onnxruntime-gpu beside ONNX Runtime's library or into a folder of LD_LIBRARY_PATH; or set inference.device to cpu"
        ],
    );
}

#[test]
fn a_provider_that_is_no_library_is_said_so() {
    let folder = folder("device-odd", &[]);
    std::fs::write(folder.join(PROVIDER), "hello").unwrap();
    let error = load_with(&folder, &SYSTEM, &[]).1.unwrap_err();
    assert!(error.ends_with("libonnxruntime_providers_cuda.so is no whole shared library"), "{error}");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn without_the_driver_nothing_large_is_loaded() {
    let folder = folder("device-small", &[&CUDA as &[&str], &CUDNN].concat());
    let (loaded, _) = load_with(&folder, &SYSTEM[1..], &[]);
    assert_eq!(loaded, ["libstdc++.so.6", "libc.so.6"]);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn pips_folders_are_looked_into() {
    let site = scratch("device-pip");
    let capi = site.join("onnxruntime/capi");
    let nvidia = site.join("nvidia/cu13/lib");
    std::fs::create_dir_all(&capi).unwrap();
    std::fs::create_dir_all(&nvidia).unwrap();
    std::fs::write(capi.join(PROVIDERS[0]), "").unwrap();
    std::fs::write(capi.join(PROVIDER), elf::tests::library(&NEEDED)).unwrap();
    for name in CUDA.iter().chain(&CUDNN) {
        std::fs::write(nvidia.join(name), "").unwrap();
    }
    assert_eq!(load_with(&capi, &SYSTEM, &[]).1, Ok(Vec::new()));
    std::fs::remove_dir_all(site).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is there, in whatever order one needs another: what is named is what is not there.
    #[test]
    fn what_is_named_is_what_is_not_there(there: [bool; 8], driver: bool, first in 0..8_usize) {
        let all = [&CUDA as &[&str], &CUDNN].concat();
        let beside: Vec<&str> = all.iter().zip(there).filter(|(_, there)| *there).map(|(name, _)| *name).collect();
        let folder = folder("device-any", &beside);
        // Every other library needs this one, where it is there.
        let first = all[first];
        let mut loaded = BTreeSet::new();
        let result = load_all(Some(&folder), &mut |path| {
            let name = path.rsplit('/').next().unwrap();
            let found = path.contains('/') || SYSTEM[1..].contains(&path) || (driver && path == DRIVER);
            let needs = path.contains('/') && beside.contains(&first) && name != first && !loaded.contains(first);
            if !found || needs {
                return Err("cannot".to_owned());
            }
            loaded.insert(name.to_owned());
            Ok(())
        });
        let named: BTreeSet<String> = result.unwrap().into_iter().map(|missing| missing.name).collect();
        let mut expected: BTreeSet<String> =
            all.iter().filter(|name| !beside.contains(name)).map(|name| (*name).to_owned()).collect();
        expected.extend((!driver).then(|| DRIVER.to_owned()));
        prop_assert_eq!(named, expected);
        std::fs::remove_dir_all(folder).unwrap();
    }
}

#[test]
fn what_onnx_runtime_says_becomes_the_reason() {
    let device = Device::Cuda(7);
    let number = "Invalid device ID: 7, must be between 0 (inclusive) and 2 (exclusive).";
    expect!["inference.device = cuda:7: there is no such GPU, this process sees 2 GPUs, cuda:0 to cuda:1; correct the number, or see whether CUDA_VISIBLE_DEVICES hides it"]
        .assert_eq(&told(device, number).to_string());
    let driver = "/onnxruntime/core/cuda_call.cc:129 std::conditional_t<...> CUDA failure 35: CUDA driver version is \
                  insufficient for CUDA runtime version ; GPU=0 ; hostname=a ; file=/x.cc ; line=64 ; expr=f();";
    expect!["inference.device = cuda:7: CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version; see that `nvidia-smi` shows the GPU here and that its driver is new enough for this ONNX Runtime, or set inference.device to cpu"]
        .assert_eq(&told(device, driver).to_string());
}

/// The library of `make setup` is the one without CUDA.
#[test]
fn onnx_runtime_without_cuda_is_refused_for_a_gpu_and_said_for_auto() {
    let runtime = runtime();
    assert_eq!(describe(&runtime, InferenceDevice::Cpu).unwrap().device, Device::Cpu);
    if ep::CUDA::is_available().unwrap() {
        return;
    }
    let error = describe(&runtime, InferenceDevice::Cuda(1)).unwrap_err().to_string();
    let library = runtime.library().display().to_string();
    expect!["inference.device = cuda:1: LIBRARY is ONNX Runtime without CUDA; deploy/setup/onnxruntime.sh gpu fetches the variant with CUDA, or set ORT_DYLIB_PATH to one, or set inference.device to cpu"]
        .assert_eq(&error.replace(&library, "LIBRARY"));
    let found = describe(&runtime, InferenceDevice::Auto).unwrap();
    assert_eq!(found.device, Device::Cpu);
    assert_eq!(found.why_not_cuda, Some(format!("{library} is ONNX Runtime without CUDA")));
}
