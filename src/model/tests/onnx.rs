//! The tiny bundle and the shipped one through ONNX Runtime, and broken ones that are refused.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use expect_test::{Expect, expect};
use ndarray::{Array1, Array2, Array3};
use sha2::{Digest as _, Sha256};

use super::{runtime, scratch, shipped_bundles, tiny_bundle};
use crate::model::device::Device;
use crate::model::onnx::{OnnxModel, Runtime};
use crate::model::{HeadInputs, Model, ModelError};

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in from.read_dir().unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)
        } else {
            assert!(std::fs::copy(entry.path(), target).is_ok())
        }
    }
}

/// A copy of a bundle, the tiny one mostly.
struct Copy(PathBuf);

impl Copy {
    fn new(name: &str) -> Self {
        Self::of("tiny-bundle", name)
    }

    /// Of another one beside it.
    fn of(bundle: &str, name: &str) -> Self {
        let folder = scratch(name);
        copy(&tiny_bundle().with_file_name(bundle), &folder);
        Self(folder)
    }

    fn manifest(self, old: &str, new: &str) -> Self {
        let path = self.0.join("manifest.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(old), "{old}");
        std::fs::write(path, text.replace(old, new)).unwrap();
        self
    }

    /// Replaces a file and its hash in the manifest.
    fn file(self, name: &str, bytes: &[u8]) -> Self {
        let path = self.0.join(name);
        let old = hash(&std::fs::read(&path).unwrap());
        std::fs::write(path, bytes).unwrap();
        self.manifest(&old, &hash(bytes))
    }

    /// Edits a text file.
    fn edit(self, name: &str, old: &str, new: &str) -> Self {
        let text = std::fs::read_to_string(self.0.join(name)).unwrap();
        assert!(text.contains(old), "{name} has no {old}");
        self.file(name, text.replacen(old, new, 1).as_bytes())
    }

    /// The message with which the bundle is refused, without the folder's name.
    fn refused(self, expected: Expect) {
        let error = OnnxModel::load(&runtime(), &self.0, 1, Device::Cpu).expect_err("refused");
        std::fs::remove_dir_all(&self.0).unwrap();
        expected.assert_eq(&error.to_string().replace(&self.0.display().to_string(), "DIR"));
    }
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn broken(name: &str) -> Vec<u8> {
    std::fs::read(tiny_bundle().with_file_name("broken").join(name)).unwrap()
}

#[test]
fn the_tiny_bundle_passes_every_check() {
    let mut model = OnnxModel::load(&runtime(), &tiny_bundle(), 1, Device::Cpu).unwrap();
    assert_eq!(model.id().as_str(), "tiny@1");
    assert_eq!((&*model.heads()[0].name, model.heads()[0].classes), ("risk", 2));
    let nothing =
        model.customer_read(Array2::zeros((0, 5)), Array2::zeros((0, 1)), Array2::zeros((0, 4)), Array2::zeros((0, 4)));
    assert_eq!(nothing.unwrap().dim(), (0, 3));
}

#[test]
fn a_bundle_that_reads_no_context_passes_every_check() {
    let folder = tiny_bundle().with_file_name("no-context-bundle");
    let mut model = OnnxModel::load(&runtime(), &folder, 1, Device::Cpu).unwrap();
    assert_eq!(model.shape().context, 0);
    let (state, hours, calendar, context) =
        (Array2::zeros((2, 5)), Array2::zeros((2, 1)), Array2::zeros((2, 4)), Array2::zeros((2, 0)));
    assert_eq!(model.customer_read(state, hours, calendar, context).unwrap().dim(), (2, 3));
}

#[test]
fn a_graph_with_context_in_a_bundle_without_is_refused() {
    let graph = std::fs::read(tiny_bundle().join("customer_read.onnx")).unwrap();
    let copy = Copy::of("no-context-bundle", "context-after-all").file("customer_read.onnx", &graph);
    copy.refused(expect!["model bundle DIR: graph customer_read: input context is f32[any,4], must be f32[any,0]"]);
}

#[test]
fn shipped_bundles_pass_every_check() {
    for bundle in shipped_bundles() {
        OnnxModel::load(&runtime(), &bundle, 1, Device::Cpu).unwrap();
    }
}

/// Runs a test's body in a process of its own, since a process loads one library for good.
fn alone(test: &str, body: impl FnOnce()) {
    #[expect(clippy::disallowed_methods, reason = "the process that the test starts must know that it is the one")]
    if std::env::var("DCE_TEST_ALONE").is_ok_and(|name| name == test) {
        return body();
    }
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args([&format!("model::tests::onnx::{test}"), "--exact", "--nocapture"]).env("DCE_TEST_ALONE", test);
    let output = child.output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&told));
}

#[test]
fn a_library_that_is_not_there_is_an_error_with_the_fix() {
    alone("a_library_that_is_not_there_is_an_error_with_the_fix", || {
        let places = ["/nowhere/libonnxruntime.so".into(), "libnosuchonnxruntime.so".into()];
        let error = Runtime::load(&places).unwrap_err();
        expect![[r#"
            onnx runtime: no usable library libonnxruntime.so, version 1.24 or later; looked in:
              /nowhere/libonnxruntime.so: /nowhere/libonnxruntime.so: cannot open shared object file: No such file or directory
              libnosuchonnxruntime.so: libnosuchonnxruntime.so: cannot open shared object file: No such file or directory
            run `make setup`, which fetches it, or set ORT_DYLIB_PATH to a library of yours"#]]
        .assert_eq(&error.to_string());
        // What failed once can be loaded later.
        OnnxModel::load(&runtime(), &tiny_bundle(), 1, Device::Cpu).unwrap();
    });
}

#[test]
fn what_is_not_onnx_runtime_is_an_error() {
    alone("what_is_not_onnx_runtime_is_an_error", || {
        let folder = scratch("not-ort");
        let text = folder.join("libonnxruntime.so");
        std::fs::write(&text, "no library").unwrap();
        let error = Runtime::load(&[text, PathBuf::from("libc.so.6")]).unwrap_err().to_string();
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(error.contains("file too short") || error.contains("invalid ELF header"), "{error}");
        assert!(error.contains("libc.so.6: is not onnx runtime: it exports no OrtGetApiBase"), "{error}");
    });
}

#[test]
fn a_process_has_one_runtime() {
    let first = runtime();
    let second = Runtime::load(&[PathBuf::from("/nowhere/libonnxruntime.so")]).unwrap();
    assert_eq!(first.library(), second.library());
}

#[test]
fn missing_and_changed_files_are_named() {
    let copy = Copy::new("gone");
    std::fs::remove_file(copy.0.join("customer_step.onnx")).unwrap();
    copy.refused(expect![
        "model bundle DIR: customer_step.onnx cannot be read: No such file or directory (os error 2)"
    ]);
    let copy = Copy::new("changed");
    std::fs::write(copy.0.join("vocabulary.json"), "{}").unwrap();
    copy.refused(expect!["model bundle DIR: vocabulary.json is not the file of the manifest: its sha256 is 44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a, the manifest says d1811993b5de49019489016f9dee7bd30207cb50777cf9a1ac9c04ebf5a82f1c"]);
    Copy::new("no-model")
        .file("session_encoder.onnx", b"hello")
        .refused(expect!["model bundle DIR: session_encoder.onnx is no ONNX model: its bytes are no protobuf"]);
    let copy = Copy::new("folder");
    std::fs::remove_file(copy.0.join("golden.json")).unwrap();
    std::fs::create_dir(copy.0.join("golden.json")).unwrap();
    copy.refused(expect!["model bundle DIR: golden.json is no file"]);
    let error = OnnxModel::load(&runtime(), Path::new("/nowhere/model"), 1, Device::Cpu).expect_err("no folder");
    expect!["model bundle /nowhere/model: manifest.toml cannot be read: No such file or directory (os error 2)"]
        .assert_eq(&error.to_string());
}

#[test]
fn graphs_have_the_contracts_inputs_and_outputs() {
    Copy::new("session")
        .manifest("session = 3", "session = 4")
        .refused(expect!["model bundle DIR: graph session_encoder: output session is f32[any,3], must be f32[any,4]"]);
    Copy::new("hidden")
        .manifest("hidden = 4", "hidden = 8")
        .refused(expect!["model bundle DIR: graph session_step: input hidden is f32[any,4], must be f32[any,8]"]);
    Copy::new("embedding")
        .manifest("embedding = 3", "embedding = 2")
        .refused(expect!["model bundle DIR: graph customer_read: output embedding is f32[any,3], must be f32[any,2]"]);
    Copy::new("opset")
        .manifest("opset = 20", "opset = 17")
        .refused(expect!["model bundle DIR: session_encoder.onnx has opset 20, the manifest says 17"]);
    Copy::new("head")
        .manifest("\"prior\", ", "")
        .refused(expect!["model bundle DIR: graph heads/risk: has an input prior, must have session, context"]);
    Copy::new("more")
        .manifest("\"prior\", ", "\"prior\", \"state\", ")
        .refused(expect!["model bundle DIR: graph heads/risk: has no input state"]);
    Copy::new("classes").manifest("[heads.risk]", "[heads.risk]\nclasses = [\"low\", \"middle\", \"high\"]").refused(
        expect![
            "model bundle DIR: graph heads/risk: has 2 scores, must have 3, as manifest.toml names so many classes"
        ],
    );
    let step = std::fs::read(tiny_bundle().join("session_step.onnx")).unwrap();
    Copy::new("swapped").file("session_encoder.onnx", &step).refused(expect![
        "model bundle DIR: graph session_encoder: has an input hidden, must have fields, numbers, length"
    ]);
    let fields = "[[fields]]\nsource = \"attributes.page\"\nbuckets = 1\n";
    Copy::new("fields").manifest(fields, "").file("vocabulary.json", b"{\"name\": []}").refused(expect![
        "model bundle DIR: graph session_encoder: input fields is i64[any,any,2], must be i64[any,any,1]"
    ]);
}

#[test]
fn a_vocabulary_that_is_longer_than_the_tables_is_refused() {
    let page = "source = \"attributes.page\"\nbuckets = ";
    Copy::new("buckets").manifest(&format!("{page}1"), &format!("{page}2")).refused(expect!["model bundle DIR: golden: customers[0]: session 2: graph session_encoder: Non-zero status code returned while running Gather node. Name:'' Status Message: indices element out of data bounds, idx=5 must be within the inclusive range [-5,4]"]);
}

#[test]
fn batches_must_keep_every_bit() {
    Copy::new("mixes").file("customer_read.onnx", &broken("mixes_rows.onnx")).refused(expect!["model bundle DIR: customer_read gives other bits for a row in a batch of 2 than for the row alone; the contract forbids operators that depend on the other rows"]);
}

#[test]
fn the_step_graph_must_have_the_encoders_weights() {
    Copy::new("weights")
        .file("session_step.onnx", &broken("other_weights.onnx"))
        .manifest("tolerance = 1e-5", "tolerance = 0.01")
        .refused(expect![
            "model bundle DIR: session_step ends 1.8e-2 away from session_encoder, tolerance 0.01: not the same weights"
        ]);
}

#[test]
fn golden_outputs_must_be_met() {
    Copy::new("g1")
        .edit("golden.json", "\"scores\":{\"shape\":[3,2],\"data\":[0.", "\"scores\":{\"shape\":[3,2],\"data\":[1.")
        .refused(expect!["model bundle DIR: golden: graphs.heads/risk[0]: scores has 0.55518466 at place 0, must be 1.5551846 within 0.00001"]);
    Copy::new("g2").edit("golden.json", "\"embeddings\":[[-0.", "\"embeddings\":[[-0.1").refused(expect!["model bundle DIR: golden: customers[0]: session 0: the embedding has -0.18074593 at place 0, must be -0.11919598 within 0.00001"]);
    Copy::new("g3")
        .edit("golden.json", "\"heads/risk\"", "\"heads/rust\"")
        .refused(expect!["model bundle DIR: golden: graphs.heads/risk has nothing to compare with"]);
    Copy::new("g4")
        .edit("golden.json", "\"gate\":{\"shape\":[3,1]", "\"gate\":{\"shape\":[1,3]")
        .refused(expect!["model bundle DIR: golden: graphs.customer_step[0]: gate has shape [1, 3], must be [3, 1]"]);
    Copy::new("g5")
        .edit("golden.json", "\"length\":", "\"lengths\":")
        .refused(expect!["model bundle DIR: golden: graphs.session_encoder[0]: the input length is missing"]);
    Copy::new("g6")
        .edit("golden.json", "\"kind\":\"LOGIN\"", "\"kind\":\"TICK\"")
        .refused(expect![[r#"model bundle DIR: golden: customers[0]: session 0: "TICK" is no kind of event"#]]);
    Copy::new("g7")
        .file("golden.json", b"{\"graphs\": {}, \"customers\": []}")
        .refused(expect!["model bundle DIR: golden: graphs.session_encoder has nothing to compare with"]);
    Copy::new("g8")
        .file("golden.json", b"{\"graphs\": {}")
        .refused(expect!["model bundle DIR: golden.json: EOF while parsing an object at line 1 column 13"]);
    Copy::new("g9").edit("golden.json", "\"page\":\"a\"", "\"page\":\"z\"").refused(expect!["model bundle DIR: golden: customers[0]: session 0: the embedding has -0.18043679 at place 0, must be -0.18074591 within 0.00001"]);
}

#[test]
fn a_graph_that_fails_is_an_error() {
    let mut model = OnnxModel::load(&runtime(), &tiny_bundle(), 1, Device::Cpu).unwrap();
    let numbers = Array3::zeros((1, 1, 2));
    let error = model.encode(Array3::from_elem((1, 1, 2), 99), numbers.clone(), Array1::ones(1)).unwrap_err();
    assert!(matches!(&error, ModelError::Run { graph, .. } if graph == "session_encoder"), "{error}");
    let error = model.encode(Array3::ones((1, 1, 3)), numbers, Array1::ones(1)).unwrap_err();
    assert!(error.to_string().starts_with("graph session_encoder: "), "{error}");
    let error = model.score(0, HeadInputs::default()).unwrap_err();
    expect!["graph heads/risk: prior is missing"].assert_eq(&error.to_string());
}
