"""How a guard is trained: [training] of its configuration. Every key has a default that works for any data set."""

from dataclasses import dataclass, fields
from typing import Any

from ..spec import SpecError


@dataclass(frozen=True)
class Settings:
    # what is counted
    name_buckets: int = 512  # of unknown names, at least
    device_buckets: int = 64  # of device ids, if the clicks have them; 0: not read
    pair_buckets: int = 1024  # of pairs of neighbouring names; 0: none
    bins: int = 8  # of each number; 0: numbers are not read
    kinds_max: int = 64  # of a column and session that the features look at, the most frequent ones
    width: int = 64  # of the session's vector and the published embedding
    profile_decays: tuple[float, ...] = (1.0, 0.9, 0.6)
    quarantine: bool = False  # keep what was shut out, for later sessions to speak for it
    # whom to learn from
    customers_max: int = 300  # drawn from those with `sessions_min` sessions
    sessions_least: int = 3
    sessions_most: int = 100  # of a customer, the last ones
    prototypes_max: int = 64  # of other customers, constants of the graph
    # simulated intrusions
    groups: int = 5  # of customers, each the intruders of worlds that are made without them
    rows_wanted: int = 18_000  # judged sessions of one round; worlds are played until there are as many
    begins: float = 0.04
    goes_on: float = 0.8
    # the encoder and the head
    encoder_steps: int = 400
    nets: int = 4
    epochs: int = 14
    rounds: int = 1  # replays with the head as its own gate, after one whose gate knows the truth
    # the gate and the score
    open_below: float = 0.05  # p at which a session goes in whole
    closed_above: float = 0.25  # and at which it stays out
    simulated_share: float = 0.15  # of intrusions, that both are meant for
    base_rate: float = 0.0  # share of intrusions that the score is calibrated for; 0: the labels', or 0.01


def settings(training: dict[str, Any]) -> Settings:
    """Of a configuration's [training]; keys of other models are left alone."""
    known = {f.name: f for f in fields(Settings)}
    given = {}
    for key, value in training.items():
        if key not in known:
            continue
        default = known[key].default
        if isinstance(default, tuple):
            if not (isinstance(value, list | tuple) and value and all(0 < d <= 1 for d in value)):
                raise SpecError(f"training.{key} is {value!r}, must be one or more decays above 0 and up to 1")
            value = tuple(float(d) for d in value)
        elif isinstance(default, bool):
            if not isinstance(value, bool):
                raise SpecError(f"training.{key} is {value!r}, must be true or false")
        elif isinstance(value, bool) or not isinstance(value, int if isinstance(default, int) else int | float):
            raise SpecError(f"training.{key} is {value!r}, must be a number like {default!r}")
        given[key] = value
    made = Settings(**given)
    require_valid(made)
    return made


def require_valid(s: Settings) -> None:
    least = {"name_buckets": 1, "width": 2, "kinds_max": 1, "customers_max": 2, "sessions_least": 2, "groups": 2}
    least |= {"sessions_most": 3, "prototypes_max": 1, "rows_wanted": 1, "nets": 1, "epochs": 1, "encoder_steps": 0}
    least |= {"pair_buckets": 0, "bins": 0, "device_buckets": 0, "rounds": 0}
    for key, low in least.items():
        if getattr(s, key) < low:
            raise SpecError(f"training.{key} is {getattr(s, key)}, must be {low} or more")
    for key in ("begins", "goes_on", "simulated_share"):
        if not 0 < getattr(s, key) < 1:
            raise SpecError(f"training.{key} is {getattr(s, key)}, must lie between 0 and 1")
    if not 0 <= s.base_rate < 1:
        raise SpecError(f"training.base_rate is {s.base_rate}, must be 0 or more and below 1")
    if not 0 <= s.open_below < s.closed_above <= 1:
        raise SpecError(
            f"training.open_below is {s.open_below} and closed_above {s.closed_above}: must be 0 … 1, in this order"
        )
