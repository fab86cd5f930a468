"""The commands. Exit code 0: done; 1: refused or failed; 2: wrong use."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from . import zoo
from .spec import SpecError, load

DEVICE = "cpu (default), cuda, cuda:N, or auto: cuda:0 where it is there, else the CPU"
SET = "a setting for dce, such as session.gap=20m: to be the same for training, judging and the pipeline itself"


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="dce_models", description="Trains, exports and checks model bundles.")
    commands = parser.add_subparsers(dest="command", required=True)

    train = commands.add_parser("train", help="a data set to a run")
    train.add_argument("--data", type=Path, help="a folder: clicks.ndjson (or .ndjson.zst, .parquet, .csv), labels.csv")
    train.add_argument("--clicks", type=Path, help="instead of it: ClickEvents as JSON lines, in arrival order, and")
    train.add_argument("--sessions", type=Path, help="what `dce sessions --json` prints of them; no heads then")
    train.add_argument("--model", choices=zoo.MODELS, default="dce")
    train.add_argument("--config", type=Path, help="without it, what the data set holds decides")
    train.add_argument("--encoder", type=Path, help="take the session encoder of this run on the same data")
    train.add_argument("--epochs-max", type=int, help="instead of more: a quick trial (guard has its own settings)")
    train.add_argument("--seed", type=int, default=1)
    train.add_argument("--dce", type=Path, help="the dce binary")
    train.add_argument("--out", type=Path, required=True, help="the run: weights, vocabulary, figures")

    export = commands.add_parser("export", help="a run to a bundle; refuses one that does not pass `check`")
    export.add_argument("--run", type=Path, required=True)
    export.add_argument("--out", type=Path, required=True, help="the bundle's folder")
    export.add_argument("--model-version", help="instead of the configuration's")
    export.add_argument(
        "--gate-open", action="store_true", help="guard with every session folded: what is its gate worth?"
    )

    heads = commands.add_parser("heads", help="heads for a bundle as it stands, whatever its model; replaces its own")
    heads.add_argument("--bundle", type=Path, required=True)
    heads.add_argument("--data", type=Path, required=True, help="a folder, as for `train`")
    heads.add_argument("--label", default="label", help="what the head of the task `label` is called")
    heads.add_argument("--seed", type=int, default=1)
    heads.add_argument("--dce", type=Path, help="the dce binary")
    heads.add_argument("--out", type=Path, required=True, help="the new bundle's folder")

    align = commands.add_parser("align", help="a new bundle in an old one's space, so that what reads it goes on")
    align.add_argument("--old", type=Path, required=True)
    align.add_argument("--new", type=Path, required=True)
    align.add_argument("--data", type=Path, required=True, help="a folder, as for `train`: both replay its clicks")
    align.add_argument("--model-version", help="instead of the new bundle's, with -aligned behind it")
    align.add_argument("--dce", type=Path, help="the dce binary")
    align.add_argument("--out", type=Path, required=True, help="the aligned bundle's folder")

    check = commands.add_parser("check", help="what `export` refuses a bundle for; needs no PyTorch")
    check.add_argument("bundle", type=Path)

    dataset = commands.add_parser("dataset", help="a public set's file to a data-set folder")
    dataset.add_argument("set", choices=("sea", "globo"))
    dataset.add_argument("--from", dest="source", type=Path, required=True, help="the set's CSV (.zst too)")
    dataset.add_argument("--out", type=Path, required=True, help="the new folder")

    evaluate = commands.add_parser("evaluate", help="judges a bundle by what `dce replay` makes of a data set with it")
    compare = commands.add_parser("compare", help="several bundles in one table, every figure beside its trivial floor")
    for judging in (evaluate, compare):
        judging.add_argument("--data", type=Path, required=True, help="a data-set folder")
        judging.add_argument("--json", action="store_true", help="the last line is one JSON object")
        judging.add_argument("--bound", action="store_true", help="owner: also with strangers never folded, in Python")
        judging.add_argument("--dce", type=Path, help="the dce binary")
        judging.add_argument("--seed", type=int, default=1, help="of probes, readers and bootstrap")
    evaluate.add_argument("--bundle", type=Path, required=True)
    compare.add_argument("--bundle", type=Path, action="append", required=True, help="give two or more")

    for fitted in (train, heads):
        fitted.add_argument("--device", default="cpu", metavar="DEVICE", help=DEVICE)

    for ruled in (train, heads, evaluate, compare):
        ruled.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE", help=SET)

    commands.add_parser("suite", help="what models/eval.sh runs: the zoo on the public sets and a generated bank")

    args = parser.parse_args()
    runs = {"train": run_train, "export": run_export, "heads": run_heads, "align": run_align, "check": run_check}
    runs |= {"dataset": run_dataset, "evaluate": run_evaluate, "compare": run_compare, "suite": run_suite}
    try:
        return runs[args.command](args)
    except (SpecError, OSError) as error:
        say(f"error: {error}")
        return 1


def run_train(args: argparse.Namespace) -> int:
    from . import dce, device, material, train

    where = device.chosen(args.device, say)
    config = load(args.config) if args.config else None
    if args.data:
        learn = material.of_folder(args.data, config, dce.find(args.dce), say, args.settings)
    elif args.settings:
        raise SpecError("--set needs --data: given sessions are already cut")
    elif args.clicks and args.sessions and config:
        learn = material.of_files(args.clicks, args.sessions, config)
    else:
        raise SpecError("train needs --data, or --clicks, --sessions and --config")
    if args.epochs_max:
        for key in ("session_epochs", "customer_epochs"):
            learn.spec.training[key] = min(args.epochs_max, learn.spec.training.get(key, args.epochs_max))
    if args.encoder:
        if args.model == "guard":
            raise SpecError("--encoder is of no use to guard, which counts names: dce, decay and cosernn take it")
        learn.encoder = train.load(args.encoder)
        if learn.encoder["model"] == "guard" or "encoder" not in learn.encoder:
            raise SpecError(f"{args.encoder}: a run of {learn.encoder['model']} has no session encoder to take")
    train.save(train.train(args.model, learn, args.seed, say, where), args.out)
    return 0


def run_export(args: argparse.Namespace) -> int:
    from . import export, train

    run = train.load(args.run)
    if args.gate_open:
        run = train.opened(run)
    return refusals(export.export(train.parts(run), args.out, args.model_version))


def run_heads(args: argparse.Namespace) -> int:
    from dataclasses import replace

    from . import bundle, dce, device, frozen, material

    where = device.chosen(args.device, say)
    b = bundle.read(args.bundle)
    spec = replace(b.spec, training={"label": args.label})
    learn = material.of_folder(args.data, spec, dce.find(args.dce), say, args.settings)
    return refusals(frozen.add_heads(b, learn, args.out, args.seed, say, where))


def run_align(args: argparse.Namespace) -> int:
    from . import align, bundle, dce, folder

    old, new, data = bundle.read(args.old), bundle.read(args.new), folder.open_folder(args.data)
    return refusals(align.align(old, new, data, dce.find(args.dce), args.out, args.model_version, say))


def run_check(args: argparse.Namespace) -> int:
    from . import check

    return refusals(check.check(args.bundle))


def run_dataset(args: argparse.Namespace) -> int:
    from .datasets import globo, sea

    say({"sea": sea, "globo": globo}[args.set].convert(args.source, args.out))
    return 0


def run_evaluate(args: argparse.Namespace) -> int:
    from . import dce, folder
    from .evaluate import judge, report

    data = folder.open_folder(args.data)
    results = judge.judge(dce.find(args.dce), data, args.bundle, args.settings, args.seed, say)
    if args.bound:
        judge.add_bound(results, dce.find(args.dce), data, args.bundle, args.settings, args.seed)
    costs = judge.costs(args.bundle)
    print("\n".join(report.one(results, costs, data.ignored)))
    if args.json:
        print(json.dumps(judge.as_json(data, args.bundle, results, costs)))
    return 0


def run_compare(args: argparse.Namespace) -> int:
    from . import dce, folder
    from .evaluate import judge, report

    data = folder.open_folder(args.data)
    found: list[tuple[Path, dict[str, Any], dict[str, float]]] = []
    for bundle in args.bundle:
        results = judge.judge(dce.find(args.dce), data, bundle, args.settings, args.seed, say, floors=not found)
        if args.bound:
            judge.add_bound(results, dce.find(args.dce), data, bundle, args.settings, args.seed)
        found.append((bundle, results, judge.costs(bundle)))
    print("\n".join(report.many(found)))
    if args.json:
        print(json.dumps([judge.as_json(data, *one) for one in found]))
    return 0


def run_suite(args: argparse.Namespace) -> int:
    from .evaluate import suite

    return suite.main(os.environ, say)


def refusals(wrong: list[str]) -> int:
    for line in wrong:
        say(f"refused: {line}")
    say(f"{len(wrong)} reasons to refuse this bundle" if wrong else "ok")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
