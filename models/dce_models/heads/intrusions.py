"""Intrusions without labels: another customer's session in the place of one's own."""

import numpy as np

from .world import Asked, World


def simulated(w: World, own: Asked, strangers: Asked, count: int, random: np.random.Generator) -> Asked:
    """At `count` moments of `own`, one of the strangers' sessions: of another customer always."""
    at, theirs = random.integers(0, len(own), count), random.integers(0, len(strangers), count)
    for _ in range(20):
        same = w.owner[own.row[at]] == w.owner[strangers.row[theirs]]
        if not same.any():
            break
        theirs[same] = random.integers(0, len(strangers), int(same.sum()))
    other = w.owner[own.row[at]] != w.owner[strangers.row[theirs]]
    at, theirs = at[other], theirs[other]
    return Asked(own.row[at], strangers.row[theirs], strangers.events[theirs], own.moment[at])
