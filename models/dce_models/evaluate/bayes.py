"""The floor of the task `owner`: each customer's naive Bayes against all the others'.

A session's score is the sum over its names of ln p_others - ln p_self, p = (count + SMOOTHING) / (N + SMOOTHING * V),
with the customer's own counts of the training part, and all others' (own excluded). Static: the counts stand still.
Online: a session's names join the own counts when its score is below 0; nothing is forgotten.
(Schonlau et al. 2001, and the protocol that is usual since.)
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SMOOTHING = 0.01


def scores(
    customers: NDArray[np.int64],
    names: Sequence[NDArray[np.int64]],
    trained: NDArray[np.bool_],
    vocabulary: int,
    online: bool,
) -> NDArray[np.float64]:
    """A score for each session; sessions (customer, the names' ids, whether they may be learnt from) are in order of
    time. Every training session counts before the first other one is scored; their own scores are 0."""
    own = np.zeros((int(customers.max(initial=-1)) + 1, vocabulary), np.float32)
    for customer, session in zip(customers[trained], [names[i] for i in np.flatnonzero(trained)], strict=True):
        np.add.at(own[customer], session, 1)
    total = own.sum(axis=0, dtype=np.float64)
    others_mass = total.sum() - own.sum(axis=1, dtype=np.float64)
    own_mass = own.sum(axis=1, dtype=np.float64)
    trained_own = own.copy() if online else own
    made = np.zeros(len(names))
    for i in np.flatnonzero(~trained):
        customer, session = customers[i], names[i]
        others = total[session] - trained_own[customer, session]
        log_others = np.log((others + SMOOTHING) / (others_mass[customer] + SMOOTHING * vocabulary))
        log_self = np.log((own[customer, session] + SMOOTHING) / (own_mass[customer] + SMOOTHING * vocabulary))
        made[i] = (log_others - log_self).sum()
        if online and made[i] < 0:
            np.add.at(own[customer], session, 1)
            own_mass[customer] += len(session)
    return made
