"""One version of ONNX Runtime wherever a graph runs: the bits of a bundle's goldens are those of the pipeline."""

import re
import tomllib

from conftest import MODELS

SETUP = MODELS.parent / "deploy" / "setup"


def test_models_and_pipeline_run_on_one_onnx_runtime() -> None:
    pinned = re.findall(r"^onnxruntime==(\S+)", (SETUP / "models-requirements.txt").read_text(), re.MULTILINE)
    library = re.findall(r"^version=(\S+)", (SETUP / "onnxruntime.sh").read_text(), re.MULTILINE)
    project = tomllib.loads((MODELS / "pyproject.toml").read_text())["project"]
    named = [x.removeprefix("onnxruntime==") for x in project["dependencies"] if x.startswith("onnxruntime==")]
    assert pinned == library == named
