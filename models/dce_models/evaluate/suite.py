"""`make eval`: the public sets and a generated bank, the zoo trained on each, one table, one JSON object."""

import hashlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .. import dce as pipeline
from .. import folder as folders
from ..datasets import globo, sea
from ..spec import SpecError
from ..zoo import MODELS
from . import judge, report
from .result import Result, rounded

FILES = {"sea": "sea_masquerade.csv.zst", "globo": "globo_clicks_user8.csv.zst"}
BANK = ("--customers", "1500", "--days", "60", "--takeovers", "0.15", "--seed", "1")
SEEDS = {"sea": (1, 2, 3), "globo": (1,), "generated": (1,)}  # of the model that is reported; the others have one
REPORTED = ("guard", "dce")  # the first one that there is
SHIPPED = "bank-small"
KEYS = {
    "owner": ("auc", "ap", "hit_at_5", "hit_at_1"),
    "label": ("auc", "ap", "hit_at_1", "log_loss"),
    "next_session": ("accuracy", "top_3", "mrr", "log_loss"),
    "next": ("recall_at_10", "mrr_at_20"),
}

Say = Callable[[str], None]
Judged = tuple[Path, dict[str, Result], dict[str, float]]


@dataclass
class Suite:
    dce: Path
    data: Path | None  # the folder of the public sets' files
    work: Path  # sets, runs and bundles stay here
    models: list[str]
    say: Say

    def run(self) -> Iterator[str]:
        """Lines of the tables; the last one is the JSON object's."""
        import json

        whole: dict[str, Any] = {}
        for name, path in self.sets():
            found = self.judged(name, path)
            yield f"=== {name}"
            yield from report.many(found)
            yield ""
            whole[name] = summary(name, found)
        yield json.dumps(whole)

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

    def judged(self, name: str, path: Path) -> list[Judged]:
        """Each bundle's results on one set."""
        data = folders.open_folder(path)
        made: list[Judged] = []
        for bundle in self.bundles(name, path):
            results = judge.judge(self.dce, data, bundle, (), 1, self.say, floors=not made)
            made.append((bundle, results, judge.costs(bundle)))
        return made

    def bundles(self, name: str, path: Path) -> list[Path]:
        """Trained on the set, by the seeds of SEEDS for the model that is reported; without any, the shipped one."""
        reported = next((m for m in REPORTED if m in self.models), None)
        made = []
        for model in sorted(self.models, key=lambda m: m != reported):
            for seed in SEEDS[name] if model == reported else (1,):
                bundle = self.trained(name, path, model, seed)
                if bundle:
                    made.append(bundle)
        if not made:
            self.say(f"{name}: no model could be trained; judging the shipped {SHIPPED}")
            made.append(Path(__file__).parents[2] / SHIPPED)
        return made

    def trained(self, name: str, path: Path, model: str, seed: int) -> Path | None:
        """The bundle; kept from an earlier run if the package and the set are the same."""
        sources = sorted(p for p in Path(__file__).parents[1].rglob("*.py") if "evaluate" not in p.parts)
        home = self.work / "runs" / f"{path.name}-{digest(sources)}"
        bundle = home / f"{model}-{seed}"
        if (bundle / "manifest.toml").is_file():
            return bundle
        home.mkdir(parents=True, exist_ok=True)
        run = home / f"{model}-{seed}.pt"
        self.say(f"{name}: training {model}, seed {seed}")
        train: list[str | Path] = [
            "train",
            "--data",
            path,
            "--model",
            model,
            "--seed",
            str(seed),
            "--dce",
            self.dce,
            "--out",
            run,
        ]
        draft = home / f"{model}-{seed}.part"
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


def summary(name: str, judged: list[Judged]) -> dict[str, Any]:
    """The reported model's figures, the mean over its seeds, with the best floor's."""
    first = judged[0][0].name.rsplit("-", 1)[0]
    seeds = [results for path, results, _ in judged if path.name.rsplit("-", 1)[0] == first]
    floors = judged[0][1]
    tasks = {task: figures(task, [r[task] for r in seeds if task in r], floors[task]) for task in floors}
    flat = {"sea": "owner", "globo": "next"}.get(name)
    made: dict[str, Any] = {"model": first, "seeds": len(seeds)}
    return made | tasks.get(flat or "", tasks)


def figures(task: str, results: list[Result], floors: Result) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key in KEYS[task]:
        values = [v for r in results if r.judged and (v := r.judged.figures.get(key)) is not None]
        made[key] = rounded(sum(values) / len(values)) if values else None
    made["floor"] = {key: rounded(report.best(floors, key)) for key in KEYS[task]}
    intervals = next((r.judged.intervals for r in results if r.judged), {})
    made["intervals"] = {key: [rounded(x) for x in intervals[key]] for key in KEYS[task] if key in intervals}
    early = next((r.extra["early"] for r in results if "early" in r.extra), None)
    if early is not None:
        made["early"] = {k: rounded(v["auc"]) for k, v in early.items()}
    return made


def main(environment: Mapping[str, str], say: Say) -> int:
    """DCE_DATA: folder of the public files; WORK: where everything is kept; MODELS: which of the zoo; DCE: binary."""
    data = Path(environment["DCE_DATA"]) if environment.get("DCE_DATA") else None
    if not environment.get("WORK"):
        raise SpecError("WORK must name the folder in which sets, runs and bundles are kept")
    suite = Suite(pipeline.find(), data, Path(environment["WORK"]), available(environment.get("MODELS", "")), say)
    for line in suite.run():
        print(line, flush=True)
    return 0
