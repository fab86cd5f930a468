"""A run to a bundle. What `check` refuses is not left behind."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from . import bundle, check
from .golden import golden
from .parts import Parts


def export(parts: Parts, out: Path, version: str | None = None) -> list[str]:
    """Writes the bundle and gives the reasons to refuse it: none, or nothing was written."""
    if version:
        parts = replace(parts, spec=replace(parts.spec, version=version))
    files = {f"{name}.onnx": content for name, content in parts.graphs.items()}
    files |= {f"heads/{head.name}.onnx": head.onnx for head in parts.heads}
    files["vocabulary.json"] = (json.dumps(parts.vocabulary, indent=1, ensure_ascii=False) + "\n").encode()
    files["golden.json"] = golden(parts)
    return keep(parts, files, out)


def keep(parts: Parts, files: dict[str, bytes], out: Path) -> list[str]:
    """Lets the files through if they pass; heads that an older bundle left in the folder go."""
    with TemporaryDirectory() as scratch:
        bundle.write(Path(scratch), parts.spec, files, parts.heads)
        wrong = check.check(Path(scratch))
        if not wrong:
            shutil.rmtree(out / "heads", ignore_errors=True)
            for name in (*files, "manifest.toml"):
                (out / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(Path(scratch) / name, out / name)
    return wrong
