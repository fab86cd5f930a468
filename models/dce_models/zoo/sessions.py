"""What the members that share the sessions' autoencoder share: what is read of the clicks, fitted on the customers to
learn from, and the session vectors."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from .. import autoencoder, fit, graphs, pretext, validate
from ..clicks import Customer
from ..dataset import Dataset, build, held_out
from ..device import CPU
from ..features import Features
from ..material import Material, Say
from ..network import SessionEncoder
from ..spec import Spec, parse


@dataclass
class Encoded:
    """Sessions to learn from and to judge by (of other customers; perhaps none), and their vectors [n, S], on the CPU;
    the encoder is where it was trained."""

    spec: Spec
    vocabulary: fit.Vocabulary
    encoder: SessionEncoder
    learn: Dataset
    vectors: Tensor
    judge: Dataset
    judge_vectors: Tensor
    made: autoencoder.Trained | None  # here, and not taken from another run


def encoded(material: Material, seed: int, say: Say, device: torch.device = CPU) -> Encoded:
    spec, customers = material.spec, material.customers
    learning, judging = divide(customers, spec.training["validation_share"])
    taken = material.encoder
    if taken:
        found = parse(taken["spec"])
        sizes = replace(spec.dimensions, session=found.dimensions.session, hidden=found.dimensions.hidden)
        spec = replace(found, dimensions=sizes, training=spec.training)
    vocabulary = taken["vocabulary"] if taken else fit.vocabulary(spec, learning)
    spec = spec if taken else fit.normalisation(spec, learning)
    features = Features(spec, vocabulary)
    learn, judge = build(features, learning, seed), build(features, judging, seed)
    say(
        f"{len(learn.customers)} customers with {len(learn.fields)} sessions to learn from, "
        f"{len(judge.customers)} with {len(judge.fields)} to judge by"
    )
    made = None if taken else autoencoder.train(spec, features, learn, judge, seed, say, device)
    encoder = made.encoder if made else encoder_of(taken or {})[1].to(device)
    vectors, judge_vectors = autoencoder.encode(encoder, learn), autoencoder.encode(encoder, judge)
    return Encoded(spec, vocabulary, encoder, learn, vectors, judge, judge_vectors, made)


def trained(
    e: Encoded,
    customer: Any,  # noqa: ANN401 # an nn.Module that is pretext.Trainable
    spec: Spec,
    settings: dict[str, Any],
    seed: int,
    say: Say,
    device: torch.device = CPU,
) -> dict[str, Any]:
    """The second stage, over the frozen session vectors, and its figures: a run."""
    fitted = pretext.train(customer, settings, e.learn, e.vectors, seed, say, device).to(CPU)
    figures = validate.figures(fitted, e.judge, e.judge_vectors, e.learn, e.vectors, seed)
    say(validate.table(figures))
    return {
        "spec": asdict(spec),
        "vocabulary": e.vocabulary,
        "encoder": e.encoder.state_dict(),
        "customer": fitted.state_dict(),
        "figures": figures,
    }


def divide(customers: list[Customer], share: float) -> tuple[list[Customer], list[Customer]]:
    """To learn from and to judge by: all to learn from if the ids happen to leave none."""
    learning = [c for c in customers if not held_out(c.customer_id, share)]
    if not any(c.sessions for c in learning):
        return customers, []
    return learning, [c for c in customers if held_out(c.customer_id, share)]


def encoder_of(run: dict[str, Any]) -> tuple[Spec, SessionEncoder]:
    spec = parse(run["spec"])
    features = Features(spec, run["vocabulary"])
    encoder = SessionEncoder(spec, [features.table_rows(c) for c in range(len(spec.fields))])
    encoder.load_state_dict(run["encoder"])
    return spec, encoder.eval()


def session_graphs(spec: Spec, encoder: SessionEncoder) -> dict[str, bytes]:
    return {
        "session_encoder": graphs.session_encoder(spec, weights(encoder)),
        "session_step": graphs.session_step(spec, weights(encoder)),
    }


def weights(module: nn.Module) -> graphs.Weights:
    return {name: value.detach().numpy() for name, value in module.state_dict().items()}
