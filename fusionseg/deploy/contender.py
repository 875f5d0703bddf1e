"""What a benchmark compares: models of ours and image-only peers, opened from a recipe here or in a fresh process."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from fusionseg.data.prepare import fit_size
from fusionseg.deploy.peers import PEERS, Peer, build_peer, export_peer, open_forward, peer_costs
from fusionseg.deploy.result import STAGES
from fusionseg.deploy.runtime import RUNTIMES, Model, load
from fusionseg.sample import Sample

SPEED_ONLY = "speed only (random weights)"
REPORTED = ("load", *STAGES, "total", "end_to_end")
Run = Callable[[Sample], dict[str, float]]
"""Label one sample; milliseconds of each stage and their ``total``."""
Score = Callable[[Model], dict[str, Any] | None]
"""How right a model is at its input size: plain JSON, or None without labels."""


@dataclass(frozen=True)
class Recipe:
    """How to open a contender; plain enough for JSON.

    Attributes:
        model: shipped name, file or exported folder; for a peer its name in ``PEERS``.
        runtime, precision: as ``load`` takes them; None for what the model itself says.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        compiled: let torch.compile make one program of a checkpoint's network.
        threads: of the network.
        size: (height, width) of the network input, or None for the model's own.
        whole_sweep: label the points outside the image too, through virtual views.
        peer_file: a peer's exported file ("" in torch); None for a model of ours.
    """

    model: str
    runtime: str | None = None
    precision: str | None = None
    device: str = "cpu"
    threads: int = 1
    size: tuple[int, int] | None = None
    whole_sweep: bool = False
    compiled: bool = False
    peer_file: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON, which ``from_dict`` reads."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Recipe":
        """The same recipe in another process."""
        return cls(**values | {"size": values["size"] and tuple(values["size"])})


@dataclass(eq=False, kw_only=True)
class Contender:
    """One that takes part.

    Attributes:
        name, runtime, precision: what it is called in reports.
        recipe: how it was opened.
        run: labels a sample.
        size: (height, width) of the network input.
        model: of ours; None for a peer.
        spent_ms: stage -> one value a round.
        status: what its figures stand for.
        facts: whatever else is found out about it, by its key in the report.
    """

    name: str
    runtime: str
    precision: str
    recipe: Recipe
    run: Run
    size: tuple[int, int]
    model: Model | None
    status: str = "ok"
    spent_ms: dict[str, list[float]] = field(default_factory=lambda: {stage: [] for stage in REPORTED})
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What tells it from all others."""
        return f"{self.name} ({self.runtime}, {self.precision})"

    def keep(self, load_ms: float, timing: dict[str, float]) -> None:
        """Add one round."""
        values = {"load": load_ms, **timing, "end_to_end": load_ms + timing["total"]}
        for stage in REPORTED:
            self.spent_ms[stage].append(values[stage])


@dataclass(frozen=True)
class Failed:
    """A peer that cannot run here, and why."""

    name: str
    reason: str
    runtime: str | None = None


def parse_model(word: str) -> tuple[str, str | None, str | None]:
    """Model, runtime and precision of ``M``, ``M@RUNTIME`` or ``M@RUNTIME:PRECISION``.

    Raises:
        ValueError: no such runtime.
    """
    model, at, rest = word.rpartition("@")
    if not at or Path(word).exists():
        return word, None, None
    runtime, _, precision = rest.partition(":")
    if runtime not in RUNTIMES:
        raise ValueError(f"{word}: runtime is {runtime!r}; write MODEL@RUNTIME with one of {', '.join(RUNTIMES)}")
    return model, runtime, precision or None


def open_model(recipe: Recipe) -> Model:
    """A model of ours.

    Raises:
        FileNotFoundError: no such model.
        ValueError: it cannot be run as the recipe says.
    """
    return load(
        recipe.model,
        runtime=recipe.runtime,
        precision=recipe.precision,
        device=recipe.device,
        threads=recipe.threads,
        compiled=recipe.compiled,
    )


def run_of(model: Model, recipe: Recipe) -> Run:
    """What labels a sample with a model of ours."""
    return lambda sample: model(sample, whole_sweep=recipe.whole_sweep, size=recipe.size).timing


def run_of_peer(recipe: Recipe) -> Run:
    """What labels the image of a sample with a peer.

    Raises:
        ValueError: the peer, its runtime or a package is missing.
    """
    assert recipe.runtime and recipe.size and recipe.peer_file is not None  # a peer has none of its own
    forward = open_forward(recipe.model, recipe.runtime, Path(recipe.peer_file), recipe.threads, recipe.device)
    return Peer(recipe.model, recipe.size, forward).run


def open_run(recipe: Recipe) -> Run:
    """What labels a sample, ours or a peer's."""
    return run_of(open_model(recipe), recipe) if recipe.peer_file is None else run_of_peer(recipe)


def enter_model(recipe: Recipe, sample: Sample, score: Score) -> Contender:
    """A model of ours that takes part, at the size of the recipe in the shape of the image of ``sample``.

    Raises:
        FileNotFoundError: no such model.
        ValueError: it cannot be run as the recipe says.
    """
    model = open_model(recipe)
    model.size = fit_size(recipe.size or model.size, sample.camera)
    recipe = replace(recipe, size=model.size)
    return Contender(
        name=model.name,
        runtime=model.session.name,
        precision=model.session.precision,
        recipe=recipe,
        run=run_of(model, recipe),
        size=model.size,
        model=model,
        facts={"accuracy": score(model)},
    )


def enter_peers(ours: Sequence[Contender], folder: Path) -> list[Contender | Failed]:
    """The peers, at the input size of the first of ``ours`` and in every runtime of theirs, or why one cannot run.

    Args:
        ours: whom they are compared with.
        folder: of the files they are exported to.
    """
    runtimes = list(dict.fromkeys(contender.runtime for contender in ours))
    return [item for name in PEERS for item in _enter_peer(name, runtimes, ours[0], folder / f"{name}.onnx")]


def _enter_peer(name: str, runtimes: Sequence[str], model: Contender, file: Path) -> Iterator[Contender | Failed]:
    try:
        network = build_peer(name)
        facts = peer_costs(network, model.size)
        if set(runtimes) != {"torch"}:
            export_peer(network, file, model.size)
    except ValueError as error:
        yield Failed(name, str(error))
        return
    del network
    for runtime in runtimes:
        path = "" if runtime == "torch" else str(file)
        recipe = replace(model.recipe, model=name, runtime=runtime, precision="fp32", size=model.size, peer_file=path)
        try:
            run = run_of_peer(recipe)
        except ValueError as error:
            yield Failed(name, str(error), runtime)
            continue
        yield Contender(
            name=name,
            runtime=runtime,
            precision="fp32",
            recipe=recipe,
            run=run,
            size=model.size,
            model=None,
            status=SPEED_ONLY,
            facts=dict(facts),
        )
