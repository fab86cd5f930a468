"""`make eval`: the public sets and a generated bank, the zoo trained on each, one table, one JSON object."""

import hashlib
import json
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from .. import dce as pipeline
from .. import folder as folders
from ..datasets import globo, sea
from ..spec import SpecError
from ..zoo import MODELS
from . import judge, report, worth
from .result import Method, Result, mean, rounded

FILES = {"sea": "sea_masquerade.csv.zst", "globo": "globo_clicks_user8.csv.zst"}
BANK = ("--customers", "1500", "--days", "60", "--takeovers", "0.15", "--seed", "1")
SEEDS = {"sea": (1, 2, 3), "globo": (1,), "generated": (1,)}  # of the model that is reported; the others have one
# Chosen for what the sets are about, not by their figures: strangers for guard; the shipped architecture for the bank.
REPORTED = {"sea": "guard", "globo": "guard", "generated": "dce"}
SHARED = ("decay", "cosernn")  # take dce's session encoder
SHIPPED = "bank-small"
KEYS = {
    "owner": ("auc", "ap", "hit_at_5", "hit_at_1"),
    "label": ("auc", "ap", "hit_at_1", "log_loss"),
    "next_session": ("accuracy", "top_3", "mrr", "log_loss"),
    "next": ("recall_at_10", "mrr_at_20"),
}

T = TypeVar("T")
Say = Callable[[str], None]
Judged = tuple[Path, dict[str, Result], dict[str, float]]


@dataclass
class Suite:
    dce: Path
    data: Path | None  # the folder of the public sets' files
    work: Path  # sets, runs and bundles stay here
    models: list[str]
    say: Say
    epochs_max: int = 0  # of the models that are not reported; 0: as many as they would have
    device: str = "cpu"  # where they are trained

    def run(self) -> Iterator[str]:
        """Lines of the tables, what is reported first; the last one is the JSON object's."""
        found: dict[str, list[Judged]] = {}
        paths = dict(self.sets())
        for name, path in paths.items():
            found[name] = self.reported(name, path)
            yield f"=== {name}"
            yield from report.many(found[name])
            yield ""
        for name, path in paths.items():
            others = [m for m in self.models if m != self.first(name)]
            for model in sorted(others, key=lambda m: m in SHARED):  # whose encoder is taken comes first
                bundle = self.trained(name, path, model, 1)
                if bundle:
                    found[name].append(self.judged(path, bundle, floors=False))
            if others:
                yield f"=== {name}, the zoo" + (f" (at most {self.epochs_max} epochs each)" if self.epochs_max else "")
                yield from report.many(found[name])
                yield ""
        yield json.dumps({name: summary(name, judged) for name, judged in found.items()})

    def first(self, name: str) -> str:
        """The model that is reported of a set: any other one, if it is not asked for."""
        return REPORTED[name] if REPORTED[name] in self.models else self.models[0]

    def reported(self, name: str, path: Path) -> list[Judged]:
        """Each seed's bundle; with more than one, their mean before them. Of a model with a gate what that is worth."""
        model = self.first(name)
        made: list[Judged] = []
        for seed in SEEDS[name]:
            bundle = self.trained(name, path, model, seed)
            if bundle is None:
                continue
            made.append(self.judged(path, bundle, floors=not made))
            if name == "sea" and model == "guard":
                self.worth(path, bundle, made[-1][1]["owner"])
        if not made:
            self.say(f"{name}: {model} could not be trained; judging the shipped {SHIPPED}")
            return [self.judged(path, Path(__file__).parents[2] / SHIPPED, floors=True)]
        return [*mean_of(made, model), *made]

    def judged(self, path: Path, bundle: Path, floors: bool) -> Judged:
        def make() -> tuple[dict[str, Result], dict[str, float]]:
            data = folders.open_folder(path)
            return judge.judge(self.dce, data, bundle, (), 1, self.say, floors=floors), judge.costs(bundle)

        return bundle, *self.kept(path, bundle, f"floors {floors}", make)

    def kept(self, path: Path, bundle: Path, what: str, make: Callable[[], T]) -> T:
        """What was judged before, if set, bundle, package and dce are the same: an hour's work may be broken off."""
        sources = sorted(Path(__file__).parents[1].rglob("*.py"))
        known = digest([*sources, bundle / "manifest.toml", self.dce]) + hashlib.sha256(what.encode()).hexdigest()[:6]
        file = self.work / "judged" / f"{path.name}-{bundle.name}-{known}.pickle"
        if file.is_file():
            made: T = pickle.loads(file.read_bytes())
            return made
        made = make()
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(".part")
        draft.write_bytes(pickle.dumps(made))
        draft.rename(file)
        return made

    def worth(self, path: Path, bundle: Path, result: Result) -> None:
        """Two lines more: with every session folded, by the pipeline; with no stranger's ever, in Python."""
        opened = bundle.with_name(bundle.name + "-open")
        run = bundle.with_suffix(".pt")
        if not opened.is_dir() and not self.command(["export", "--run", run, "--out", opened, "--gate-open"]):
            return

        def make() -> tuple[Method | None, Method | None]:
            data = folders.open_folder(path)
            settled = ("provisional.every_events=0",)  # no need for what is known early
            folded = judge.judge(self.dce, data, opened, settled, 1, self.say, floors=False)["owner"].judged
            return folded, worth.bound(self.dce, data, opened, (), 1)

        folded, bound = self.kept(path, opened, "worth", make)
        for method, name in ((folded, "every session folded"), (bound, worth.NAME)):
            if method:
                method.name = name
                result.methods.insert(sum(not m.floor for m in result.methods), method)

    def sets(self) -> Iterator[tuple[str, Path]]:
        """Each set's folder, made when it is not there yet."""
        converters = {"sea": sea.convert, "globo": globo.convert}
        for name, convert in converters.items():
            file = self.data / FILES[name] if self.data else None
            if file is None or not file.is_file():
                self.say(f"{name} is left out: {file or FILES[name]} is not there (DCE_DATA names the folder)")
                continue
            path = self.work / "sets" / f"{name}-{digest([Path(convert.__code__.co_filename)])}"
            if not path.is_dir():
                self.say(f"{name}: " + convert(file, path))
            yield name, path
        path = self.work / "sets" / ("generated-" + hashlib.sha256(" ".join(BANK).encode()).hexdigest()[:12])
        if not (path / "labels.csv").is_file():
            self.say("generating a bank")
            path.parent.mkdir(parents=True, exist_ok=True)
            pipeline.run(self.dce, ["generate", *BANK, "--out", path])
        yield "generated", path

    def trained(self, name: str, path: Path, model: str, seed: int) -> Path | None:
        """The bundle; kept from an earlier run if the package and the set are the same."""
        sources = sorted(p for p in Path(__file__).parents[1].rglob("*.py") if "evaluate" not in p.parts)
        where = "" if self.device == "cpu" else "-" + self.device.replace(":", "")
        home = self.work / "runs" / f"{path.name}-{digest(sources)}{where}"
        short = self.epochs_max if model != REPORTED[name] else 0
        bundle = home / (f"{model}-{seed}" + (f"-{short}-epochs" if short else ""))
        if (bundle / "manifest.toml").is_file():
            return bundle
        home.mkdir(parents=True, exist_ok=True)
        run = bundle.with_suffix(".pt")
        self.say(f"{name}: training {model}, seed {seed}")
        train: list[str | Path] = ["train", "--data", path, "--model", model, "--seed", str(seed)]
        train += ["--dce", self.dce, "--device", self.device, "--out", run]
        if short:
            train += ["--epochs-max", str(short)]
        shared = sorted(home.glob("dce-1*.pt"))
        if model in SHARED and shared:
            train += ["--encoder", shared[0]]
        draft = bundle.with_suffix(".part")
        if not self.command(train) or not self.command(["export", "--run", run, "--out", draft]):
            return None
        draft.rename(bundle)
        return bundle

    def command(self, arguments: list[str | Path]) -> bool:
        """A command of this package in a process of its own, so that its memory goes with it."""
        done = subprocess.run([sys.executable, "-m", "dce_models", *arguments], check=False, stdout=sys.stderr)
        if done.returncode:
            self.say(f"`{arguments[0]}` ended with {done.returncode}: this model is left out")
        return done.returncode == 0


def digest(files: list[Path]) -> str:
    whole = hashlib.sha256()
    for file in files:
        whole.update(file.read_bytes())
    return whole.hexdigest()[:12]


def available(asked: str) -> list[str]:
    """The models asked for (names with blanks between; empty: all), without those that are not there."""
    names = asked.split() or list(MODELS)
    unknown = [name for name in names if name not in MODELS]
    if unknown:
        raise SpecError(f"model {unknown[0]!r}: must be one of {', '.join(MODELS)}")
    return [name for name in names if found(MODELS[name])]


def found(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def mean_of(seeds: list[Judged], model: str) -> list[Judged]:
    """A line of its own, beside it the floors; the intervals are those of the seeds' mean."""
    if len(seeds) < 2:
        return []
    results: dict[str, Result] = {}
    for task, first in seeds[0][1].items():
        of_seeds = [r[task].methods for _, r, _ in seeds]
        methods = []
        for m in first.methods:
            same = [found for ms in of_seeds if (found := next((x for x in ms if x.name == m.name), None))]
            if m.floor or len(same) == len(seeds):
                methods.append(m if m.floor else mean(same, m.name))
        early = [r[task].extra.get("early", {}) for _, r, _ in seeds]
        extra = {"early": {k: {"auc": average([e[k]["auc"] for e in early])} for k in early[0]}} if all(early) else {}
        results[task] = replace(first, methods=methods, extra=extra)
    costs = {key: average([c[key] for _, _, c in seeds]) for key in seeds[0][2]}
    return [(Path(f"{model}, mean of {len(seeds)}"), results, costs)]


def average(values: list[float]) -> float:
    return round(sum(values) / len(values), 5)


def summary(name: str, judged: list[Judged]) -> dict[str, Any]:
    """The reported model's figures (the mean of its seeds', where there are more), with the best floor's."""
    path, results, costs = judged[0]
    tasks = {task: figures(task, result) for task, result in results.items()}
    flat = {"sea": "owner", "globo": "next"}.get(name)
    return {"model": path.name, **(tasks.get(flat or "", tasks)), "cost": costs}


def figures(task: str, result: Result) -> dict[str, Any]:
    own = result.judged
    made: dict[str, Any] = {key: rounded(own.figures.get(key)) if own else None for key in KEYS[task]}
    made["floor"] = {key: rounded(report.best(result, key)) for key in KEYS[task]}
    intervals = own.intervals if own else {}
    made["intervals"] = {key: [rounded(x) for x in intervals[key]] for key in KEYS[task] if key in intervals}
    if "early" in result.extra:
        made["early"] = {k: rounded(v["auc"]) for k, v in result.extra["early"].items()}
    for m in result.methods:
        if not m.floor and m is not own:
            made[m.name] = {key: rounded(m.figures.get(key)) for key in KEYS[task]}
    return made


def main(environment: Mapping[str, str], say: Say) -> int:
    """DCE_DATA: folder of the public files; WORK: where everything is kept; MODELS: which of the zoo; EPOCHS_MAX: at
    most so many for what is not reported; DEVICE: where models are trained; DCE: binary."""
    data = Path(environment["DCE_DATA"]) if environment.get("DCE_DATA") else None
    if not environment.get("WORK"):
        raise SpecError("WORK must name the folder in which sets, runs and bundles are kept")
    epochs = environment.get("EPOCHS_MAX") or "0"
    if not epochs.isdigit():
        raise SpecError(f"EPOCHS_MAX is {epochs!r}, must be a whole number")
    models = available(environment.get("MODELS", ""))
    device = environment.get("DEVICE") or "cpu"
    if device != "cpu":
        from ..device import chosen

        device = str(chosen(device, say))
    suite = Suite(pipeline.find(), data, Path(environment["WORK"]), models, say, int(epochs), device)
    for line in suite.run():
        print(line, flush=True)
    return 0
