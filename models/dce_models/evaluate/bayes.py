"""The floor of the task `owner`: each customer's naive Bayes against all the others'.

A session's score is the sum over its names of ln p_others - ln p_self, p = (count + SMOOTHING) / (N + SMOOTHING * V),
with the customer's own counts of the training part, and all others' (own excluded). Static: the counts stand still.
Online: a session's names join the own counts when its score is below 0; nothing is forgotten.
(Schonlau et al. 2001, and the protocol that is usual since.)
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .records import Ints

SMOOTHING = 0.01


def scores(
    customers: Ints, names: Sequence[Ints], trained: NDArray[np.bool_], vocabulary: int, online: bool
) -> NDArray[np.float64]:
    """A score for each session; sessions (customer, the names' ids, whether they may be learnt from) are in order of
    time. Every training session counts before the first other one is scored; their own scores are 0."""
    if not len(names):
        return np.zeros(0)
    lengths = np.array([len(session) for session in names])
    flat = np.concatenate(names)
    # One counter for each pair of customer and name that occurs.
    pairs, at = np.unique(np.repeat(customers, lengths) * vocabulary + flat, return_inverse=True)
    of_session = np.split(at, np.cumsum(lengths)[:-1])
    learnt = np.repeat(trained, lengths)
    before = np.bincount(at[learnt], minlength=len(pairs)).astype(np.float64)
    total = np.bincount(flat[learnt], minlength=vocabulary).astype(np.float64)
    own = before.copy()
    own_mass = np.bincount(np.repeat(customers, lengths)[learnt], minlength=int(customers.max()) + 1).astype(np.float64)
    others_mass = own_mass.sum() - own_mass
    spread = SMOOTHING * vocabulary
    made = np.zeros(len(names))
    for i in np.flatnonzero(~trained).tolist():
        customer, pair = customers[i], of_session[i]
        others = total[names[i]] - before[pair] + SMOOTHING
        ratio = others / (own[pair] + SMOOTHING) * ((own_mass[customer] + spread) / (others_mass[customer] + spread))
        made[i] = np.log(ratio).sum()
        if online and made[i] < 0:
            np.add.at(own, pair, 1)
            own_mass[customer] += len(pair)
    return made
