"""Both stages at once, for the experiment joint against staged (README.md has its figures): the sessions' autoencoder
and the customers over its vectors learn together, so that what foretells the next session shapes what a session's
vector keeps. Off unless the configuration's [training] has joint_epochs.

joint_epochs    passes over the customers; with session_epochs = 0 from the beginning, else after the first stage
joint_weight    of the next session's loss beside that of telling the session again
joint_moves     whether the target, the next session's vector, learns from it too; that it must tell the session again
                keeps it from collapsing
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import autoencoder, pretext
from ..dataset import Dataset, Sequence
from ..device import CPU
from ..network import SessionDecoder, SessionEncoder

Spread = tuple[Tensor, Tensor]  # what turns a vector back into what the decoder learnt from: vector @ [0] + [1]


def train(
    encoder: SessionEncoder,
    decoder: SessionDecoder,
    back: Spread | None,
    customer: Any,  # noqa: ANN401 # an nn.Module that is pretext.Trainable
    t: dict[str, Any],
    learn: Dataset,
    seed: int,
    say: Callable[[str], None],
    device: torch.device = CPU,
) -> None:
    """`encoder` and `decoder` are on the device already."""
    sequences = [s for s in learn.customers if len(s) > 1]
    if not sequences:
        return
    customer.to(device)
    back = (back[0].to(device), back[1].to(device)) if back else None
    parameters = [*encoder.parameters(), *decoder.parameters(), *customer.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=t["customer_rate"])
    random = np.random.default_rng([seed, 21])
    per_epoch = -(-len(sequences) // t["customer_batch"])
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, t["customer_rate"], total_steps=t["joint_epochs"] * per_epoch
    )
    encoder.train()
    for epoch in range(t["joint_epochs"]):
        began, losses = time.monotonic(), []
        order = random.permutation(len(sequences))
        for at in range(0, len(order), t["customer_batch"]):
            chosen = [sequences[i] for i in order[at : at + t["customer_batch"]]]
            told, foretold = losses_of(encoder, decoder, back, customer, t, learn, chosen)
            loss = told + t.get("joint_weight", 1.0) * foretold
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
            losses.append((told.item(), foretold.item()))
        again, ahead = np.mean(losses, axis=0)
        spent = time.monotonic() - began
        say(f"joint {epoch + 1}/{t['joint_epochs']}: told again {again:.4f}, next session {ahead:.4f}, {spent:.0f} s")


def losses_of(
    encoder: SessionEncoder,
    decoder: SessionDecoder,
    back: Spread | None,
    customer: Any,  # noqa: ANN401
    t: dict[str, Any],
    learn: Dataset,
    chosen: list[Sequence],
) -> tuple[Tensor, Tensor]:
    """Of these customers' last sessions: telling them again, and foretelling each from those before it."""
    rows = [r for s in chosen for r in range(max(s.first, s.first + len(s) - t["sessions_max"]), s.first + len(s))]
    device = encoder.out.weight.device
    vectors = torch.zeros(max(rows) + 1, encoder.out.out_features, device=device)
    told = []
    by_length = sorted(rows, key=lambda r: len(learn.fields[r]))
    for at in range(0, len(rows), t["session_batch"]):
        part = by_length[at : at + t["session_batch"]]
        fields, numbers, length = autoencoder.padded(learn, part, t["events_max"], device)
        session = encoder(fields, numbers, length)
        seen = session @ back[0] + back[1] if back else session
        loss, _ = autoencoder.reconstruct(encoder, decoder, seen, fields, numbers, length, t["forget_share"])
        told.append(loss * len(part) / len(rows))
        vectors = vectors.index_put((torch.tensor(part).to(device),), session)
    batch = pretext.collate(chosen, vectors, t["sessions_max"], device)
    return torch.stack(told).sum(), pretext.next_session_loss(customer, batch, t, moves=bool(t.get("joint_moves")))
