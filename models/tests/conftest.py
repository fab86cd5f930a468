"""What tests share: the dce binary, a bundle, the public sets. What is missing fails with the remedy; nothing is
skipped in silence."""

import os
from pathlib import Path

import pytest

from dce_models import dce
from dce_models.spec import SpecError

MODELS = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def binary() -> Path:
    try:
        return dce.find()
    except SpecError as missing:
        pytest.fail(str(missing))


@pytest.fixture(scope="session")
def bank_small() -> Path:
    return MODELS / "bank-small"


@pytest.fixture(scope="session")
def public_sets() -> Path:
    """The folder of the public sets' files: DCE_DATA, or shared/data beside the repository."""
    named = os.environ.get("DCE_DATA")
    path = Path(named) if named else MODELS.parents[1] / "shared" / "data"
    if not path.is_dir():
        if named:
            pytest.fail(f"DCE_DATA is {named}, which is no folder")
        pytest.skip("the public sets are not here: set DCE_DATA to the folder with their files")
    return path


@pytest.fixture(scope="session")
def gpu() -> str:
    """The GPU to try: cuda:0, or DCE_GPU."""
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        named = os.environ.get("DCE_GPU")
        if named:
            pytest.fail(f"DCE_GPU is {named}, and PyTorch {torch.__version__} finds no GPU")
        pytest.skip("no GPU is here: PyTorch finds none with CUDA")
    return os.environ.get("DCE_GPU", "cuda:0")
