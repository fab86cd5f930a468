"""The models, all behind the same contract: each is a module with

    train(material, seed, say, device) -> run    what it learnt: tensors, texts and numbers alone, so that torch.save
                                                 keeps it
    export(run) -> Parts                         its graphs

Heads for the data set's tasks are trained afterwards by common code, for every task for which `export` gives none.
"""

from importlib import import_module
from types import ModuleType

from ..spec import SpecError

MODELS = {
    "dce": "dce_models.zoo.dce",
    "decay": "dce_models.zoo.decay",
    "cosernn": "dce_models.zoo.cosernn",
    "guard": "dce_models.guard.member",
}


def member(name: str) -> ModuleType:
    if name not in MODELS:
        raise SpecError(f"model {name!r}: must be one of {', '.join(MODELS)}")
    return import_module(MODELS[name])
