"""The shipped architecture, after Dynamic Customer Embeddings (arXiv 2106.11880) where that speaks: a
sequence-to-sequence autoencoder over a session's events; over the sessions three recurrent branches (time since the
last one, calendar, financial context); trained to foretell the next session's vector. Sizes, loss and staging are our
choice: README.md has what was tried."""

from typing import Any

from torch import Tensor

from .. import graphs
from ..material import Material, Say
from ..network import CustomerModel, SessionEncoder
from ..parts import Parts
from .sessions import encoded, encoder_of, session_graphs, trained, weights

Run = dict[str, Any]


class DceForward:
    def __init__(self, encoder: SessionEncoder, customer: CustomerModel) -> None:
        self.encode, self.encode_step = encoder.forward, encoder.step
        self.step, self.read = customer.step, customer.read


def train(material: Material, seed: int, say: Say) -> Run:
    """Two stages: the sessions' autoencoder, then the customers over its frozen session vectors."""
    e = encoded(material, seed, say)
    return trained(e, CustomerModel(e.spec), e.spec, e.spec.training, seed, say)


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
