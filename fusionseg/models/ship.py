"""Put a trained model into the package: ``python -m fusionseg.models.ship CHECKPOINT NAME --card FILE``.

The auxiliary heads, which inference has no use for, and the folders of the machine that trained are left out, floats
get 16 bits, and the card is written beside the weights.
"""

import argparse
import hashlib
import json
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fusionseg.config import TrainConfig, from_dict, load_config, to_dict
from fusionseg.files import atomic_write
from fusionseg.models.build import build_model
from fusionseg.models.checkpoint import Checkpoint, load_checkpoint, model_inputs, save_checkpoint
from fusionseg.models.segmenter import AUXILIARY, Segmenter
from fusionseg.models.shipped import WEIGHTS, About, Card, shipped_names

MAX_BYTES = 10_000_000
_NON_COMMERCIAL = re.compile(r"\bNC\b|non-?\s?commercial", re.IGNORECASE)


def ship(
    checkpoint: str | Path, name: str, about: About, folder: Path = WEIGHTS, average: str | Path | None = None
) -> Card:
    """Write ``NAME.safetensors``, ``NAME.json`` and ``NAME.md`` into ``folder``, in place of those of that name.

    ``average`` is a second checkpoint, the one that the first began with: what ships is the mean of their weights. A
    model between both ends of fine-tuning keeps most of what either does best (Wortsman et al., CVPR 2022).

    Raises:
        FileNotFoundError: no such checkpoint.
        ValueError: not a checkpoint, checkpoints of two networks, a name that is none, terms of the training data that
            forbid it, weights that 16 bits cannot hold, or more than 10 MB of weights in all.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
        raise ValueError(f"name is {name!r}; expected small letters, digits, - and _")
    for item in about.training_data:
        if _NON_COMMERCIAL.search(item.licence):
            raise ValueError(f"{item.name} is under {item.licence}; a shipped model learns from no such data")
    found = load_checkpoint(checkpoint)
    if average is not None:
        _average(found.model, load_checkpoint(average).model)
    config = _public_config(found.config)
    model = _stripped(found, config)
    content = _content(model, config, found)
    others = sum((folder / f"{n}.safetensors").stat().st_size for n in shipped_names(folder) if n != name)
    if len(content) + others > MAX_BYTES:
        raise ValueError(
            f"{name} needs {len(content) / 1e6:.1f} MB beside {others / 1e6:.1f} MB of other models; "
            f"all weights together may take {MAX_BYTES / 1e6:.0f} MB"
        )
    card = Card(
        sha256=hashlib.sha256(content).hexdigest(),
        file_bytes=len(content),
        parameters=sum(p.numel() for p in model.parameters()),
        size=config.data.size,
        classes=found.table.name,
        about=about,
    )
    facts = json.dumps(to_dict(card), indent=2, allow_nan=False) + "\n"
    for suffix, data in ((".safetensors", content), (".json", facts.encode()), (".md", card_text(name, card).encode())):
        with atomic_write(folder / f"{name}{suffix}") as file:
            file.write(data)
    return card


def _average(model: Segmenter, other: Segmenter) -> None:
    """Give ``model`` the mean of both networks' numbers."""
    own, others = (
        {name: t for name, t in m.state_dict().items() if not name.startswith(AUXILIARY)} for m in (model, other)
    )
    if {name: t.shape for name, t in own.items()} != {name: t.shape for name, t in others.items()}:
        raise ValueError("the two checkpoints are of different networks; average those of one run and its start")
    means = {name: (t + others[name]) / 2 for name, t in own.items() if t.is_floating_point()}
    model.load_state_dict(means, strict=False)


def _public_config(config: TrainConfig) -> TrainConfig:
    """The config without auxiliary heads and without the folders of the machine that trained."""
    values = to_dict(config)
    values["model"] |= {"auxiliary": False, "pretrained": False}
    for source in values["data"]["train"] + values["data"]["val"]:
        source["path"] = Path(source["path"]).name
    values["data"]["cache"] = None
    values["init"] = values["init"] and Path(values["init"]).name
    if values["distill"] is not None:
        values["distill"]["teachers"] = [Path(name).name for name in values["distill"]["teachers"]]
        values["distill"]["unlabelled"] = []
    return from_dict(TrainConfig, values)


def _stripped(found: Checkpoint, config: TrainConfig) -> Segmenter:
    model = build_model(config.model, classes=len(found.table), **model_inputs(found.model))
    tensors = found.model.state_dict()
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or name.startswith(AUXILIARY):
            continue
        if not tensor.half().isfinite().all():
            raise ValueError(f"{name} holds values that 16 bits cannot ({tensor.abs().max():.3g}); train again")
    model.load_state_dict({name: t for name, t in tensors.items() if not name.startswith(AUXILIARY)})
    return model.eval()


def _content(model: Segmenter, config: TrainConfig, found: Checkpoint) -> bytes:
    extra = {key: value for key, value in found.metadata.items() if key not in ("format", "version")}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_checkpoint(path, model, config, found.table, extra, half=True)
        return path.read_bytes()


def card_text(name: str, card: Card) -> str:
    """The card as Markdown."""
    about = card.about
    height, width = card.size
    lines = [
        f"# Model card: {name}",
        "",
        about.summary,
        "",
        f"- File: `{name}.safetensors`, {card.file_bytes:,} bytes, SHA-256 `{card.sha256}`, checked at every load",
        f"- Parameters: {card.parameters:,}; input {height}x{width}; classes `{card.classes}`",
        f"- Config: `{about.config}`",
        f"- Licence of the weights: {about.licence}",
        "",
        "## Training data",
        "",
        "| data | part | licence |",
        "| --- | --- | --- |",
        *(f"| {item.name} | {item.part} | {item.licence} |" for item in about.training_data),
        "",
        "## Metrics",
        "",
        "Shares between 0 and 1.",
    ]
    for item in about.metrics:
        names, values = list(item.values), [f"{value:.3f}" for value in item.values.values()]
        lines += ["", f"{item.data}: {item.figure}", "", f"| {' | '.join(names)} |", "|" + " --- |" * len(names)]
        lines += [f"| {' | '.join(values)} |", "", f"    {item.command}"]
    if about.speed:
        lines += ["", "## Speed", "", f"{about.speed.fps:.1f} frames per second on {about.speed.machine}:", ""]
        lines += [f"    {about.speed.command}"]
    lines += ["", "## Limits", "", *(f"- {limit}" for limit in about.limits)]
    if about.notes:
        lines += ["", about.notes.strip()]
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """The command; 0 when the model is in the package, 2 on an error."""
    parser = argparse.ArgumentParser(prog="python -m fusionseg.models.ship", description="Ship a trained model.")
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=Path, help="file that training wrote")
    parser.add_argument("name", metavar="NAME", help="what it will be called")
    parser.add_argument("--card", metavar="FILE", required=True, help="YAML with what About in shipped.py lists")
    parser.add_argument("--average", metavar="CHECKPOINT", type=Path, help="mean of its weights and those of this one")
    parser.add_argument("--folder", metavar="DIR", type=Path, default=WEIGHTS, help="default: the package's own")
    args = parser.parse_args(argv)
    try:
        card = ship(args.checkpoint, args.name, load_config(args.card, kind=About), args.folder, args.average)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{args.folder / args.name}.safetensors: {card.file_bytes / 1e6:.2f} MB, {card.parameters:,} parameters")
    return 0


if __name__ == "__main__":
    sys.exit(main())
