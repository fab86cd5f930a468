"""Simple models over given features: fitted on `train`, chosen on `valid`, asked about `test`."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import metrics
from .records import Ints

Matrix = NDArray[np.float32]
Predict = Callable[[Matrix], NDArray[np.float64]]

STRENGTHS = (0.01, 0.1, 1.0)  # C of the logistic regression
FIT_MAX = 60_000  # rows to fit on, the last ones; and to choose on, the first ones
VALID_SHARE = 0.2  # of the training rows, the last ones, where there is no `valid`
TREES_FIT_MAX = 30_000  # rows, of more than two classes
ROUNDS_MAX = 300
PATIENCE = 20
CLIP = 8.0


def fit(
    kind: str, x: Matrix, y: Ints, parts: tuple[Ints, Ints], classes: int, seed: int
) -> tuple[Predict, float] | None:
    """`kind`: logistic, network or trees. y: class numbers; parts: rows to fit on (in order of time), rows to choose
    on. Gives what predicts [n, classes] and its log loss on the rows to choose on; None where there is too little."""
    train, valid = drawn(parts)
    if len(np.unique(y[train])) < 2 or not len(valid):
        return None
    made = {"logistic": logistic, "network": network, "trees": trees}[kind]
    best: tuple[Predict, float] | None = None
    for predict in made(x, y, train, valid, classes, seed):
        loss = metrics.log_loss(y[valid], predict(x[valid]))
        if loss is not None and (best is None or loss < best[1]):
            best = predict, loss
    return best


def parts_of(train: Ints, valid: Ints) -> tuple[Ints, Ints]:
    """Rows in order of time; without rows to choose on, the last of those to fit on."""
    if len(valid):
        return train, valid
    cut = int(len(train) * (1 - VALID_SHARE))
    return train[:cut], train[cut:]


def drawn(parts: tuple[Ints, Ints]) -> tuple[Ints, Ints]:
    """As many rows as are looked at, so that the memory that they take does not grow with the data."""
    return parts[0][-FIT_MAX:], parts[1][:FIT_MAX]


def widen(predict: Predict, known: Ints, classes: int) -> Predict:
    """Probabilities of the classes that were seen, to all."""

    def made(x: Matrix) -> NDArray[np.float64]:
        p = np.zeros((len(x), classes))
        p[:, known] = predict(x)
        return p

    return made


def scaler(x: Matrix) -> Callable[[Matrix], Matrix]:
    """To mean 0 and deviation 1, clipped; what is not known becomes the mean."""
    known = np.where(np.isnan(x).all(axis=0), 0, x).astype(np.float64)
    mean, deviation = np.nanmean(known, axis=0), np.nanstd(known, axis=0)
    deviation[deviation < 1e-6] = 1
    return lambda rows: np.clip(np.nan_to_num((rows - mean) / deviation), -CLIP, CLIP).astype(np.float32)


def logistic(x: Matrix, y: Ints, train: Ints, valid: Ints, classes: int, seed: int) -> Sequence[Predict]:
    from sklearn.linear_model import LogisticRegression

    scaled = scaler(x[train])
    inputs = scaled(x[train])
    made: list[Predict] = []
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=100, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # 100 steps are near enough
            model.fit(inputs, y[train])
        made.append(widen(of_sklearn(model, scaled), model.classes_, classes))
    return made


def of_sklearn(model: Any, scaled: Callable[[Matrix], Matrix]) -> Predict:  # noqa: ANN401 # a classifier
    return lambda rows: np.asarray(model.predict_proba(scaled(rows)), np.float64)


def network(x: Matrix, y: Ints, train: Ints, valid: Ints, classes: int, seed: int) -> Sequence[Predict]:
    from sklearn.neural_network import MLPClassifier

    scaled = scaler(x[train])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MLPClassifier((64,), alpha=1e-3, batch_size=min(256, len(train)), max_iter=15, random_state=seed)
        model.fit(scaled(x[train]), y[train])
    return [widen(of_sklearn(model, scaled), model.classes_, classes)]


def trees(x: Matrix, y: Ints, train: Ints, valid: Ints, classes: int, seed: int) -> Sequence[Predict]:
    import lightgbm

    known = np.unique(y[train])
    if len(known) > 2:  # a tree a class and round
        train = train[-TREES_FIT_MAX:]
        known = np.unique(y[train])
    usable = valid[np.isin(y[valid], known)]
    settings = {
        "objective": "binary" if len(known) == 2 else "multiclass",
        **({} if len(known) == 2 else {"num_class": len(known)}),
        "learning_rate": 0.1,
        "num_leaves": 15,
        "min_data_in_leaf": 20,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "feature_fraction": 0.5,
        "seed": seed,
        "num_threads": 1,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
    number = np.searchsorted(known, y)  # from 0, without a hole
    learnt = lightgbm.Dataset(x[train], number[train])
    held = [lightgbm.Dataset(x[usable], number[usable], reference=learnt)] if len(usable) else []
    stop: list[Callable[..., Any]] = [lightgbm.early_stopping(PATIENCE, verbose=False)] if held else []
    rounds = ROUNDS_MAX if held else PATIENCE
    model = lightgbm.train(settings, learnt, num_boost_round=rounds, valid_sets=held, callbacks=stop)

    def predict(rows: Matrix) -> NDArray[np.float64]:
        p = np.asarray(model.predict(rows, num_threads=1), np.float64)
        return np.stack([1 - p, p], axis=1) if p.ndim == 1 else p

    return [widen(predict, known, classes)]
