"""What `dce replay` made, in columns. Embeddings and scores are read afterwards, for the rows that are asked for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute, parquet

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

NONE = -1  # the code of a missing text


class Codes:
    """Texts to numbers, in the order in which they came."""

    def __init__(self) -> None:
        self.of: dict[str, int] = {}

    def add(self, text: str) -> int:
        return self.of.setdefault(text, len(self.of))

    def column(self, values: Any) -> Ints:  # noqa: ANN401 # an Arrow column of strings
        """The codes of a column; null is NONE."""
        encoded = compute.dictionary_encode(values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values)
        if isinstance(encoded, pa.ChunkedArray):
            encoded = encoded.combine_chunks()
        table = np.array([self.add(text) for text in encoded.dictionary.to_pylist()] + [NONE], np.int64)
        made: Ints = table[encoded.indices.fill_null(len(table) - 1).to_numpy(zero_copy_only=False)]
        return made

    def __len__(self) -> int:
        return len(self.of)


@dataclass
class Records:
    """One row a record of the live topic, in its order. Times in milliseconds."""

    path: Path
    customer: Ints  # code
    sequence: Ints
    settled: NDArray[np.bool_]
    session_id: Ints  # code, or NONE
    uid: Ints  # a number for each customer's session: the place in `uids`
    uids: list[tuple[int, str]]  # customer's code, session_uid
    start: Ints
    end: Ints
    as_of: Ints
    event_count: Ints
    cosine_shift: NDArray[np.float64]  # NaN where there is none
    gate: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.customer)

    def gather(self, rows: Ints) -> tuple[Floats, dict[str, Floats]]:
        """Embeddings [n, E] and each head's scores [n, K] of these rows; NaN where a row has no such score."""
        order = np.argsort(rows, kind="stable")
        wanted = rows[order]
        vectors: list[Floats] = []
        scored: dict[str, Floats] = {}
        first = 0
        with parquet.ParquetFile(self.path) as file:
            for batch in file.iter_batches(columns=["embedding", "scores"], batch_size=16_384):
                lo, hi = np.searchsorted(wanted, [first, first + len(batch)])
                if hi > lo:
                    taken = batch.take(pa.array(wanted[lo:hi] - first))
                    vectors.append(matrix(taken.column("embedding")))
                    for name, (at, values) in heads(taken.column("scores")).items():
                        whole = scored.setdefault(name, np.full((len(rows), values.shape[1]), np.nan, np.float32))
                        whole[lo + at] = values
                first += len(batch)
        back = np.argsort(order, kind="stable")
        made = np.concatenate(vectors)[back] if vectors else np.zeros((0, 1), np.float32)
        return made, {name: values[back] for name, values in scored.items()}


def read(path: Path, customers: Codes, session_ids: Codes) -> Records:
    texts = ["customer_id", "session_uid", "session_id", "kind"]
    numbers = ["sequence", "event_count", "cosine_shift", "gate"]
    times = ["session_start", "session_end", "as_of"]
    table = parquet.read_table(path, columns=[*texts, *numbers, *times])
    customer = customers.column(table["customer_id"])
    texts_of_uid = Codes()
    uid = texts_of_uid.column(table["session_uid"])
    pairs, uid = np.unique(customer * len(texts_of_uid) + uid, return_inverse=True)
    text = list(texts_of_uid.of)
    uids = [(pair // len(text), text[pair % len(text)]) for pair in pairs.tolist()]
    whole = {name: table[name].to_numpy() for name in numbers}
    moments = {name: table[name].cast(pa.int64()).to_numpy() for name in times}
    return Records(
        path=path,
        customer=customer,
        sequence=whole["sequence"],
        settled=compute.not_equal(table["kind"], "PROVISIONAL").to_numpy(),
        session_id=session_ids.column(table["session_id"]),
        uid=uid.astype(np.int64),
        uids=uids,
        start=moments["session_start"],
        end=moments["session_end"],
        as_of=moments["as_of"],
        event_count=whole["event_count"],
        cosine_shift=whole["cosine_shift"].astype(np.float64),
        gate=whole["gate"].astype(np.float64),
    )


def matrix(column: Any) -> Floats:  # noqa: ANN401 # an Arrow list column
    """Lists of one length to rows."""
    flat: Floats = column.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(column), -1)


def heads(column: Any) -> dict[str, tuple[Ints, Floats]]:  # noqa: ANN401 # an Arrow map column
    """Each head's rows and their scores."""
    counts = np.diff(column.offsets.to_numpy())
    row = np.repeat(np.arange(len(column)), counts)
    first, last = column.offsets[0].as_py(), column.offsets[-1].as_py()
    names = np.array(column.keys.slice(first, last - first).to_pylist(), object)
    lists = column.items.slice(first, last - first)
    made = {}
    for name in dict.fromkeys(names):
        at = np.flatnonzero(names == name)
        made[str(name)] = (row[at], matrix(lists.take(pa.array(at))))
    return made
