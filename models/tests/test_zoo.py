"""The models of the zoo against plain arithmetic, and all of them on a data set that gives them nothing to hold on to."""

import json
import math
import random
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

torch = pytest.importorskip("torch")

from dce_models import align, bundle, check, export, heads, material, spec, train, zoo  # noqa: E402
from dce_models.clicks import Customer, Session  # noqa: E402
from dce_models.discover import Counts, found  # noqa: E402
from dce_models.frozen import parts_of  # noqa: E402
from dce_models.spec import Dimensions, Field, Spec  # noqa: E402
from dce_models.zoo import cosernn, decay  # noqa: E402

SHIPPED = Path(__file__).resolve().parent.parent / "bank-small"
MODELS = ("dce", "decay", "cosernn")
S = 6


def small(state: int, embedding: int) -> Spec:
    context = (spec.Context("balance", "identity"),)
    sizes = Dimensions(session=S, hidden=8, state=state, embedding=embedding)
    return Spec("m", "1", "UTC", 17, sizes, (Field("name", 2),), (), context)


def graph(content: bytes) -> ort.InferenceSession:
    return ort.InferenceSession(content, providers=["CPUExecutionProvider"])


def inputs(rows: int, seed: int) -> dict[str, np.ndarray]:
    chance = np.random.default_rng(seed)
    sizes = {"session": S, "gap": 1, "calendar": 4, "context": 2}
    return {n: chance.normal(size=(rows, width)).astype(np.float32) for n, width in sizes.items()}


# -- decay -------------------------------------------------------------------------------------------------------------


def test_decay_is_the_decayed_sum() -> None:
    s = small(S + 1, S)
    step, read = graph(decay.customer_step(s, 0.8)), graph(decay.customer_read(s))
    given = [inputs(2, seed) for seed in range(5)]
    state = np.zeros((2, S + 1), np.float32)
    for one in given:
        state, gate = step.run(["state_out", "gate"], {"state": state, **one})
        assert gate.tolist() == [[1.0], [1.0]]
    for row in range(2):
        total = [0.0] * S
        for k, one in enumerate(given):
            for i in range(S):
                total[i] += 0.8 ** (len(given) - 1 - k) * float(one["session"][row, i])
        length = math.sqrt(sum(x * x for x in total))
        other = {"ahead": given[0]["gap"], "calendar": given[0]["calendar"], "context": given[0]["context"]}
        (embedding,) = read.run(["embedding"], {"state": state, **other})
        np.testing.assert_allclose(embedding[row], [x / length for x in total], atol=1e-6)


def test_an_empty_decayed_sum_has_a_direction() -> None:
    forward = decay.DecayForward.__new__(decay.DecayForward)
    found = forward.read(torch.zeros(1, S + 1), *(torch.zeros(1, n) for n in (1, 4, 2)))
    np.testing.assert_allclose(found.numpy(), [[S**-0.5] * S], atol=1e-6)


def test_the_decay_that_made_the_data_is_found() -> None:
    chance = np.random.default_rng(1)
    customers, vectors, first = [], [], 0
    for n in range(60):
        own = [chance.normal(size=S) * 2]
        for _ in range(20):
            total = sum(0.5 ** (len(own) - 1 - k) * v for k, v in enumerate(own))
            own.append(2 * total / np.linalg.norm(total) + 0.3 * chance.normal(size=S))
        vectors += own
        customers.append(sequence(f"c{n}", first, len(own)))
        first += len(own)
    learn = decay.Encoded(
        spec=spec.replace(small(S + 1, S), training={"sessions_max": 100}),
        vocabulary={},
        encoder=None,  # type: ignore[arg-type]
        learn=dataset(customers),
        vectors=torch.tensor(np.array(vectors), dtype=torch.float32),
        judge=dataset([]),
        judge_vectors=torch.zeros(0),
    )
    assert abs(decay.fitted(learn, seed=1) - 0.5) < 0.1


def sequence(name: str, first: int, count: int):  # noqa: ANN201
    from dce_models.dataset import Sequence

    def zeros(*shape: int) -> np.ndarray:
        return np.zeros((count, *shape), np.float32)

    return Sequence(name, first, zeros(1), zeros(4), zeros(2), zeros(3, 1), zeros(3, 4), zeros(3, 2))


def dataset(customers):  # noqa: ANN001, ANN201
    from dce_models.dataset import Dataset

    return Dataset([], [], customers)
