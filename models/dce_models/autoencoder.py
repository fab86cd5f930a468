"""The first stage: a session's vector is what a decoder needs to tell the session again."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from .dataset import Dataset
from .device import CPU
from .features import Features
from .network import Presence, SessionDecoder, SessionEncoder
from .spec import Spec


@dataclass
class Trained:
    encoder: SessionEncoder
    decoder: SessionDecoder  # of no use when the model is trained; the experiment in zoo/joint.py goes on with it
    back: tuple[Tensor, Tensor] | None  # from a vector to what the decoder knows: see spread


def padded(
    dataset: Dataset, rows: list[int], events_max: int, device: torch.device = CPU
) -> tuple[Tensor, Tensor, Tensor]:
    length = [min(len(dataset.fields[r]), events_max) for r in rows]
    fields = np.zeros((len(rows), max(length), dataset.fields[0].shape[1]), np.int64)
    numbers = np.zeros((len(rows), max(length), dataset.numbers[0].shape[1]), np.float32)
    for i, (r, n) in enumerate(zip(rows, length, strict=True)):
        fields[i, :n] = dataset.fields[r][:n]
        numbers[i, :n] = dataset.numbers[r][:n]
    lengths = torch.tensor(length, dtype=torch.int32)
    return torch.from_numpy(fields).to(device), torch.from_numpy(numbers).to(device), lengths.to(device)


def batches(dataset: Dataset, size: int, random: np.random.Generator) -> Iterator[list[int]]:
    """Shuffled, sessions of like length together so that little is padded."""
    rows = random.permutation(len(dataset.fields))
    stretch = size * 32
    chunks = []
    for at in range(0, len(rows), stretch):
        near = sorted(rows[at : at + stretch].tolist(), key=lambda r: len(dataset.fields[r]))
        chunks += [near[i : i + size] for i in range(0, len(near), size)]
    for i in random.permutation(len(chunks)):
        yield chunks[i]


def train(
    spec: Spec,
    features: Features,
    learn: Dataset,
    judge: Dataset,
    seed: int,
    say: Callable[[str], None],
    device: torch.device = CPU,
) -> Trained:
    t = spec.training
    tables = [features.table_rows(c) for c in range(len(spec.fields))]
    encoder = SessionEncoder(spec, tables)
    decoder = SessionDecoder(spec, tables, encoder).to(device)
    encoder = encoder.to(device)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    presence = Presence(spec, tables).to(device) if t.get("presence") else None
    if presence:
        parameters += presence.parameters()
    optimiser = torch.optim.Adam(parameters, lr=t["session_rate"])
    random = np.random.default_rng(seed)
    total = t["session_epochs"] * (len(learn.fields) // t["session_batch"] + 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, t["session_rate"], total_steps=total + 100)
    known = [len(k) for k in features.known]
    for epoch in range(t["session_epochs"]):
        encoder.train()
        began, losses = time.monotonic(), []
        for rows in batches(learn, t["session_batch"], random):
            fields, numbers, length = padded(learn, rows, t["events_max"], device)
            fields = as_unknown(fields, known, tables, t["unknown_share"])
            session = encoder(fields, numbers, length)
            loss, _ = reconstruct(encoder, decoder, session, fields, numbers, length, t["forget_share"])
            if presence:
                loss = loss + t["presence"] * presence.loss(session, fields, length)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        right = accuracy(encoder, decoder, judge, t["events_max"])
        say(
            f"sessions {epoch + 1}/{t['session_epochs']}: loss {np.mean(losses):.4f}, "
            f"{spec.fields[0].source} told again {right:.3f}, {time.monotonic() - began:.0f} s"
        )
    back = spread(encoder, encode(encoder, learn)) if t["session_epochs"] else None
    return Trained(encoder, decoder, back)


def as_unknown(fields: Tensor, known: list[int], tables: list[int], share: float) -> Tensor:
    """Shows some known values as unknown ones, or the buckets' rows would never be learnt."""
    fields = fields.clone()
    for c, (words, rows) in enumerate(zip(known, tables, strict=True)):
        hide = (torch.rand(fields.shape[:2]) < share).to(fields.device) & (fields[..., c] > 0)
        bucket = torch.randint(words + 1, rows, fields.shape[:2]).to(fields.device)
        fields[..., c] = torch.where(hide, bucket, fields[..., c])
    return fields


def reconstruct(
    encoder: SessionEncoder,
    decoder: SessionDecoder,
    session: Tensor,
    fields: Tensor,
    numbers: Tensor,
    length: Tensor,
    forget: float,
) -> tuple[Tensor, Tensor]:
    """The loss an event, and which events had their first field told right."""
    before = torch.zeros_like(encoder.events(fields, numbers))
    before[:, 1:] = encoder.events(fields, numbers)[:, :-1]
    before = before * (torch.rand(before.shape[:2]) >= forget).to(before.device)[..., None]
    names, values = decoder(session, before)
    real = torch.arange(fields.shape[1], device=fields.device)[None] < length[:, None]
    loss = functional.smooth_l1_loss(values[real], numbers[real])
    for c, logits in enumerate(names):
        loss = loss + functional.cross_entropy(logits[real], fields[..., c][real])
    return loss, names[0][real].argmax(-1) == fields[..., 0][real]


@torch.no_grad()
def accuracy(encoder: SessionEncoder, decoder: SessionDecoder, dataset: Dataset, events_max: int) -> float:
    """With the decoder's other inputs blanked: what the vector alone can tell; NaN of no sessions."""
    encoder.eval()
    if not dataset.fields:
        return float("nan")
    right = []
    for rows in batches(dataset, 512, np.random.default_rng(0)):
        read = padded(dataset, rows, events_max, encoder.out.weight.device)
        right.append(reconstruct(encoder, decoder, encoder(*read), *read, forget=1.0)[1])
    return float(torch.cat(right).float().mean())


@torch.no_grad()
def encode(encoder: SessionEncoder, dataset: Dataset) -> Tensor:
    """[sessions, S] on the CPU, whole sessions."""
    encoder.eval()
    vectors = torch.zeros(len(dataset.fields), encoder.out.out_features)
    for rows in batches(dataset, 256, np.random.default_rng(0)):
        vectors[rows] = encoder(*padded(dataset, rows, 1_000_000, encoder.out.weight.device)).cpu()
    return vectors


@torch.no_grad()
def spread(encoder: SessionEncoder, vectors: Tensor) -> tuple[Tensor, Tensor] | None:
    """Moves the vectors' mean to 0 and halfway to a white covariance, inside the last layer's weights. A few directions
    hold most of an autoencoder's variance, and a cosine would see little else. Too few sessions tell no covariance.
    Gives the way back: vector @ [0] + [1]."""
    if len(vectors) < 2 * vectors.shape[1]:
        return None
    mean, deviation = vectors.mean(0), vectors.std(0).clamp_min(1e-3)
    values, axes = torch.linalg.eigh(torch.cov(((vectors - mean) / deviation).T))
    halfway = axes @ torch.diag(values.clamp_min(1e-2) ** -0.25) @ axes.T / deviation
    encoder.out.weight.copy_(halfway @ encoder.out.weight.cpu())
    encoder.out.bias.copy_(halfway @ (encoder.out.bias.cpu() - mean))
    return torch.linalg.inv(halfway).T.contiguous(), mean
