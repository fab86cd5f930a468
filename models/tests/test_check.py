"""What `check` must let pass, and what it must refuse, on the shipped bundle. No PyTorch here."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from dce_models.check import check

SHIPPED = Path(__file__).resolve().parent.parent / "bank-small"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED, tmp_path / "bundle"))


def rewrite(bundle: Path, file: str, content: bytes) -> None:
    """Puts another file in place, as if it had been exported so."""
    manifest = bundle / "manifest.toml"
    old = hashlib.sha256((bundle / file).read_bytes()).hexdigest()
    new = hashlib.sha256(content).hexdigest()
    (bundle / file).write_bytes(content)
    manifest.write_text(manifest.read_text().replace(old, new))


def change(bundle: Path, graph: str, edit: Callable[[onnx.ModelProto], None]) -> None:
    model = onnx.load(bundle / f"{graph}.onnx")
    edit(model)
    rewrite(bundle, f"{graph}.onnx", model.SerializeToString())


def last_through(*nodes: onnx.NodeProto) -> Callable[[onnx.ModelProto], None]:
    """Lets the graph's last node's output pass through `nodes`, from `inner` to the name it had."""

    def edit(model: onnx.ModelProto) -> None:
        output = model.graph.output[0].name
        for node in model.graph.node:
            for i, name in enumerate(node.output):
                if name == output:
                    node.output[i] = "inner"
        nodes[-1].output[0] = output
        model.graph.node.extend(nodes)

    return edit


def test_the_shipped_bundle_passes(bundle: Path) -> None:
    assert check(bundle) == []


def test_a_wrong_sha256_is_refused(bundle: Path) -> None:
    graph = bundle / "customer_read.onnx"
    graph.write_bytes(graph.read_bytes() + b"\0")
    assert check(bundle) == ["customer_read.onnx is not the file of the manifest: its sha256 differs"]


def test_a_missing_file_is_refused(bundle: Path) -> None:
    (bundle / "golden.json").unlink()
    assert check(bundle) == ["golden.json is missing"]


def test_a_graph_with_log_is_refused(bundle: Path) -> None:
    exp, log = helper.make_node("Exp", ["inner"], ["positive"]), helper.make_node("Log", ["positive"], ["x"])
    change(bundle, "customer_read", last_through(exp, log))
    assert check(bundle) == ["customer_read: operator Log is not allowed"]


def test_a_row_that_sees_its_batch_is_refused(bundle: Path) -> None:
    def edit(model: onnx.ModelProto) -> None:
        tiny = numpy_helper.from_array(np.array([1e-4], np.float32), "fraction")
        model.graph.initializer.append(tiny)
        last_through(
            helper.make_node("ReduceMax", ["inner"], ["top"], axes=[0], keepdims=1),
            helper.make_node("Mul", ["top", "fraction"], ["shift"]),
            helper.make_node("Sub", ["inner", "shift"], ["x"]),
        )(model)

    change(bundle, "customer_read", edit)
    assert any("customer_read: embedding changes in a batch of 2" in why for why in check(bundle))


def test_padding_that_counts_is_refused(bundle: Path) -> None:
    def edit(model: onnx.ModelProto) -> None:
        (gru,) = [n for n in model.graph.node if n.op_type == "GRU"]
        gru.input[4] = ""  # without lengths the garbage behind a session goes in
        mean = helper.make_node("ReduceMax", ["length"], ["unused"], axes=[0], keepdims=0)
        model.graph.node.append(mean)

    change(bundle, "session_encoder", edit)
    assert any("session_encoder: session changes in a batch of" in why for why in check(bundle))


def test_a_gru_that_cuda_cannot_run_is_refused(bundle: Path) -> None:
    def edit(model: onnx.ModelProto) -> None:
        (gru,) = [n for n in model.graph.node if n.op_type == "GRU"]
        del gru.attribute[:]
        gru.attribute.append(helper.make_attribute("hidden_size", 64))

    change(bundle, "session_encoder", edit)
    assert check(bundle) == ["session_encoder: GRU must have linear_before_reset = 1"]


def test_another_opset_is_refused(bundle: Path) -> None:
    def edit(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = 22

    change(bundle, "customer_step", edit)
    assert any("customer_step: opsets are {'ai.onnx': 22}" in why for why in check(bundle))


def test_other_names_are_refused(bundle: Path) -> None:
    def edit(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            node.input[:] = ["time" if n == "ahead" else n for n in node.input]
        model.graph.input[1].name = "time"

    change(bundle, "customer_read", edit)
    assert any("customer_read: inputs are" in why for why in check(bundle))


def test_a_step_with_other_weights_is_refused(bundle: Path) -> None:
    def edit(model: onnx.ModelProto) -> None:
        (bias,) = [i for i in model.graph.initializer if i.name == "out_bias"]
        bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(1e-3), "out_bias"))

    change(bundle, "session_step", edit)
    assert any("not the same weights" in why for why in check(bundle))


def test_goldens_that_the_graphs_do_not_give_are_refused(bundle: Path) -> None:
    golden = json.loads((bundle / "golden.json").read_text())
    golden["graphs"]["customer_step"][1]["outputs"]["state_out"]["data"][3] += 1e-3
    golden["customers"][2]["embeddings"][1][0] += 1e-3
    del golden["graphs"]["customer_read"]
    rewrite(bundle, "golden.json", json.dumps(golden).encode())
    assert [why.split(" is ")[0] for why in check(bundle)] == [
        "customer_step: golden case 1: state_out",
        "customer_read: golden.json has nothing to compare with",
        "golden customer 2: embeddings are 1.0e-03 away, tolerance 1e-05",
    ]


def test_another_contract_is_refused(bundle: Path) -> None:
    manifest = bundle / "manifest.toml"
    manifest.write_text(manifest.read_text().replace("contract = 1", "contract = 2"))
    assert check(bundle) == ["SpecError: contract is 2, this is for 1"]


def test_no_bundle_at_all_is_refused(tmp_path: Path) -> None:
    assert "manifest.toml" in check(tmp_path)[0]
