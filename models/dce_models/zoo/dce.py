"""The shipped architecture, after Dynamic Customer Embeddings (arXiv 2106.11880) where that speaks: a
sequence-to-sequence autoencoder over a session's events; over the sessions three recurrent branches (time since the
last one, calendar, financial context); trained to foretell the next session's vector. Sizes, loss and staging are our
choice: README.md has what was tried."""

from typing import Any

import torch
from torch import Tensor

from .. import autoencoder, graphs
from ..device import CPU
from ..material import Material, Say
from ..network import CustomerModel, SessionEncoder
from ..parts import Parts
from ..spec import SpecError
from . import joint
from .sessions import encoded, encoder_of, session_graphs, trained, weights

Run = dict[str, Any]


class DceForward:
    def __init__(self, encoder: SessionEncoder, customer: CustomerModel) -> None:
        self.encode, self.encode_step = encoder.forward, encoder.step
        self.step, self.read = customer.step, customer.read


def train(material: Material, seed: int, say: Say, device: torch.device = CPU) -> Run:
    """Two stages: the sessions' autoencoder, then the customers over its frozen session vectors. With joint_epochs both
    learn together in between."""
    e = encoded(material, seed, say, device)
    t, customer = e.spec.training, CustomerModel(e.spec)
    if t.get("joint_epochs"):
        if not e.made:
            raise SpecError("training.joint_epochs: a session encoder that was taken from another run stands still")
        joint.train(e.encoder, e.made.decoder, e.made.back, customer, t, e.learn, seed, say, device)
        e.vectors, e.judge_vectors = (autoencoder.encode(e.encoder, d) for d in (e.learn, e.judge))
    return trained(e, customer, e.spec, t, seed, say, device)


def export(run: Run) -> Parts:
    spec, encoder = encoder_of(run)
    customer = CustomerModel(spec)
    customer.load_state_dict(run["customer"])
    customer.eval()
    cell: list[Tensor] = list(customer.cell.weights())
    return Parts(
        spec=spec,
        vocabulary=run["vocabulary"],
        graphs=session_graphs(spec, encoder)
        | {
            "customer_step": graphs.customer_step(spec, [part.detach().numpy() for part in cell]),
            "customer_read": graphs.customer_read(spec, weights(customer)),
        },
        forward=DceForward(encoder, customer),
    )
