"""The commands. Exit code 0: done; 1: refused or failed; 2: wrong use."""

import argparse
import sys
from pathlib import Path

from .spec import SpecError, load


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="dce_models", description="Trains, exports and checks model bundles.")
    commands = parser.add_subparsers(dest="command", required=True)

    train = commands.add_parser("train", help="clicks and their sessions to a run")
    train.add_argument("--clicks", type=Path, required=True, help="ClickEvents as JSON lines, in arrival order")
    train.add_argument("--sessions", type=Path, required=True, help="what `dce sessions --json` prints of them")
    train.add_argument("--out", type=Path, required=True, help="the run: weights, vocabulary, figures")
    train.add_argument("--config", type=Path, required=True, help="begin with models/bank-small.toml")
    train.add_argument("--seed", type=int, default=1)

    export = commands.add_parser("export", help="a run to a bundle; refuses one that does not pass `check`")
    export.add_argument("--run", type=Path, required=True)
    export.add_argument("--out", type=Path, required=True, help="the bundle's folder")
    export.add_argument("--model-version", help="instead of the configuration's")

    check = commands.add_parser("check", help="what `export` refuses a bundle for; needs no PyTorch")
    check.add_argument("bundle", type=Path)

    dataset = commands.add_parser("dataset", help="a public set's file to a data-set folder")
    dataset.add_argument("set", choices=("sea", "globo"))
    dataset.add_argument("--from", dest="source", type=Path, required=True, help="the set's CSV (.zst too)")
    dataset.add_argument("--out", type=Path, required=True, help="the new folder")

    args = parser.parse_args()
    runs = {"train": run_train, "export": run_export, "check": run_check, "dataset": run_dataset}
    try:
        return runs[args.command](args)
    except (SpecError, OSError) as error:
        say(f"error: {error}")
        return 1


def run_train(args: argparse.Namespace) -> int:
    from . import train

    train.save(train.train(load(args.config), args.clicks, args.sessions, args.seed, say), args.out)
    return 0


def run_export(args: argparse.Namespace) -> int:
    from . import export, train

    return report(export.export(train.load(args.run), args.out, args.model_version))


def run_check(args: argparse.Namespace) -> int:
    from . import check

    return report(check.check(args.bundle))


def run_dataset(args: argparse.Namespace) -> int:
    from .datasets import globo, sea

    say({"sea": sea, "globo": globo}[args.set].convert(args.source, args.out))
    return 0


def report(wrong: list[str]) -> int:
    for line in wrong:
        say(f"refused: {line}")
    say(f"{len(wrong)} reasons to refuse this bundle" if wrong else "ok")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
