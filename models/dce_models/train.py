"""Trains in two stages: the sessions' autoencoder, then the customers over its frozen session vectors."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from . import autoencoder, clicks, fit, pretext, validate
from .dataset import build, held_out
from .features import Features
from .network import CustomerModel, SessionEncoder
from .spec import Spec, parse

Say = Callable[[str], None]


@dataclass
class Run:
    spec: Spec
    vocabulary: fit.Vocabulary
    encoder: SessionEncoder
    customer: CustomerModel
    figures: dict[str, float]


def train(spec: Spec, clicks_path: Path, rows_path: Path, seed: int, say: Say) -> Run:
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)  # sums in another order are other weights; and these matrices are small
    began = time.monotonic()
    customers = clicks.load(clicks_path, rows_path)
    share = spec.training["validation_share"]
    learning = [c for c in customers if not held_out(c.customer_id, share)]
    vocabulary = fit.vocabulary(spec, learning)
    spec = fit.normalisation(spec, learning)
    features = Features(spec, vocabulary)
    learn = build(features, learning, seed)
    judge = build(features, [c for c in customers if held_out(c.customer_id, share)], seed)
    say(
        f"{len(learn.customers)} customers with {len(learn.fields)} sessions to learn from, "
        f"{len(judge.customers)} with {len(judge.fields)} to judge by, {time.monotonic() - began:.0f} s"
    )
    encoder = autoencoder.train(spec, features, learn, judge, seed, say)
    vectors, judge_vectors = autoencoder.encode(encoder, learn), autoencoder.encode(encoder, judge)
    customer = pretext.train(spec, learn, vectors, seed, say)
    figures = validate.figures(customer, judge, judge_vectors, learn, vectors, seed)
    say(validate.table(figures))
    say(f"trained in {time.monotonic() - began:.0f} s")
    return Run(spec, vocabulary, encoder, customer, figures)


def save(run: Run, path: Path) -> None:
    torch.save(
        {
            "spec": asdict(run.spec),
            "vocabulary": run.vocabulary,
            "encoder": run.encoder.state_dict(),
            "customer": run.customer.state_dict(),
            "figures": run.figures,
        },
        path,
    )


def load(path: Path) -> Run:
    saved = torch.load(path, weights_only=True)
    spec = parse(saved["spec"])
    features = Features(spec, saved["vocabulary"])
    encoder = SessionEncoder(spec, [features.table_rows(c) for c in range(len(spec.fields))])
    encoder.load_state_dict(saved["encoder"])
    customer = CustomerModel(spec)
    customer.load_state_dict(saved["customer"])
    return Run(spec, saved["vocabulary"], encoder.eval(), customer.eval(), saved["figures"])
