"""A bundle's files: the manifest is written and read here, and nowhere else."""

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .spec import CONTRACT, Context, Number, Spec, SpecError, parse

if TYPE_CHECKING:
    from .parts import Head

GRAPHS = ("session_encoder", "session_step", "customer_step", "customer_read")
TOLERANCE = 1e-5


@dataclass
class Bundle:
    spec: Spec
    raw: dict[str, Any]  # the manifest as written
    folder: Path

    @property
    def graphs(self) -> dict[str, Path]:
        """Heads are named heads/NAME."""
        found = {name: self.folder / entry["file"] for name, entry in self.raw["graphs"].items()}
        return found | {f"heads/{n}": self.folder / e["file"] for n, e in self.raw.get("heads", {}).items()}

    @property
    def files(self) -> dict[str, str]:
        """Every file that the manifest names, with its sha256."""
        entries = [self.raw["vocabulary"], self.raw["golden"]]
        entries += [*self.raw["graphs"].values(), *self.raw.get("heads", {}).values()]
        return {entry["file"]: entry["sha256"] for entry in entries}

    def json(self, part: str) -> Any:  # noqa: ANN401
        return json.loads((self.folder / self.raw[part]["file"]).read_text(encoding="utf-8"))


def read(folder: Path) -> Bundle:
    raw = tomllib.loads((folder / "manifest.toml").read_text(encoding="utf-8"))
    if raw.get("contract") != CONTRACT:
        raise SpecError(f"contract is {raw.get('contract')}, this is for {CONTRACT}")
    spec = parse(raw)
    missing = [name for name in GRAPHS if name not in raw.get("graphs", {})]
    missing += [part for part in ("vocabulary", "golden") if part not in raw]
    if missing:
        raise SpecError(f"manifest.toml does not name {', '.join(missing)}")
    return Bundle(spec, raw, folder)


def write(folder: Path, spec: Spec, files: Mapping[str, bytes], heads: "Sequence[Head]" = ()) -> None:
    """`files` maps file names to contents: NAME.onnx for each graph, heads/NAME.onnx for each head, vocabulary.json,
    golden.json."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "manifest.toml").write_text(manifest(spec, files, heads), encoding="utf-8")


def manifest(spec: Spec, files: Mapping[str, bytes], heads: "Sequence[Head]" = ()) -> str:
    def named(file: str) -> list[str]:
        return [f"file = {quoted(file)}", f'sha256 = "{hashlib.sha256(files[file]).hexdigest()}"']

    d = spec.dimensions
    parts = [
        [
            f"contract = {CONTRACT}",
            f"name = {quoted(spec.name)}",
            f"version = {quoted(spec.version)}",
            f"timezone = {quoted(spec.timezone)}",
            f"opset = {spec.opset}",
        ],
        [
            "[dimensions]",
            f"session = {d.session}",
            f"hidden = {d.hidden}",
            f"state = {d.state}",
            f"embedding = {d.embedding}",
        ],
        ["[vocabulary]", *named("vocabulary.json")],
        *(["[[fields]]", f"source = {quoted(f.source)}", f"buckets = {f.buckets}"] for f in spec.fields),
        *(["[[numbers]]", f"source = {quoted(n.source)}", *scaling(n)] for n in spec.numbers),
        *(["[[context]]", f"name = {quoted(c.name)}", *scaling(c)] for c in spec.context),
        *([f"[graphs.{name}]", *named(f"{name}.onnx")] for name in GRAPHS),
        *([f"[heads.{key(h.name)}]", *named(f"heads/{h.name}.onnx"), *described(h)] for h in heads),
        ["[golden]", *named("golden.json"), f"tolerance = {TOLERANCE}"],
    ]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def scaling(column: Number | Context) -> list[str]:
    return [f'transform = "{column.transform}"', f"mean = {column.mean!r}", f"scale = {column.scale!r}"]


def described(head: "Head") -> list[str]:
    lines = [f"inputs = {listed(head.inputs)}"]
    if head.task:
        lines.append(f"task = {quoted(head.task)}")
    if head.classes:
        lines.append(f"classes = {listed(head.classes)}")
    return lines


def key(name: str) -> str:
    """Bare where TOML allows it."""
    return quoted(name) if "." in name else name


def listed(texts: Sequence[str]) -> str:
    return f"[{', '.join(map(quoted, texts))}]"


def quoted(text: str) -> str:
    """A JSON string in Unicode is a TOML basic string, once DEL is escaped too."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
