"""What is a model run on? Data that the user gives, and generated data from a printed seed."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bnfold.arrays import Stored, load_all, read_npy, read_npz, read_tensor
from bnfold.errors import BnfoldError, InputError
from bnfold.ranges import IntegerRange, integer_range, known_sizes
from bnfold.regular import opened, unreadable
from bnfold.sizes import Dims, InputSpec, describe, find_sizes, input_specs

Array = NDArray[Any]
Feeds = Mapping[str, Array]
Unread = Mapping[str, Array | Stored]
"""Arrays by input name, those of files not read yet."""
Data = str | Path | Array | Feeds | Iterable[Feeds]
Runs = Callable[[Feeds], object]
"""Runs the model; a BnfoldError means that it does not accept the feeds."""

SAMPLES = 8


@dataclass(frozen=True, slots=True)
class Sample:
    """One set of inputs. `name` says it in words: "normal, batch 3"."""

    name: str
    feeds: Feeds


@dataclass(frozen=True, slots=True)
class Samples:
    """What to run on, in order, and what there is to say about it."""

    items: tuple[Sample, ...]
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Each sample in words."""
        return tuple(sample.name for sample in self.items)


def make_samples(
    model: onnx.ModelProto,
    run: Runs,
    *,
    data: Data | None = None,
    dims: Dims | None = None,
    samples: int = SAMPLES,
    seed: int = 0,
    prefer: int | None = None,
) -> Samples:
    """The user's data where given, else `samples` generated sets of inputs.

    `run` tries sizes, `prefer` first; those that the model refuses are skipped with a note.
    Raises InputError when the data does not fit or no size runs.
    """
    if data is not None:
        return Samples(tuple(load_data(model, data)))
    if samples < 1:
        raise InputError(f"{samples} samples prove nothing", "ask for at least one")
    return generate(model, run, dims=dims, samples=samples, seed=seed, prefer=prefer)


# --- generated -----------------------------------------------------------------------------


def generate(
    model: onnx.ModelProto,
    run: Runs,
    *,
    dims: Dims | None,
    samples: int,
    seed: int,
    prefer: int | None = None,
) -> Samples:
    """Samples of several distributions at several sizes, the same for the same seed."""
    specs = input_specs(model, dims)
    maker = _Maker(model, specs, seed)
    count = min(samples, 4)
    found, notes = find_sizes(
        model, specs, lambda sizes: _refusal(run, maker("normal", sizes)), count, prefer
    )
    # Every size sees normal data first; then the other distributions take the sizes in turn.
    plan = [("normal", sizes) for sizes in found]
    others = [name for name in DISTRIBUTIONS if name != "normal"]
    plan += [(name, found[i % len(found)]) for i, name in enumerate(others)]
    while len(plan) < samples:
        plan.append(("normal", found[len(plan) % len(found)]))
    made = [maker(name, sizes, draw) for draw, (name, sizes) in enumerate(plan[:samples])]
    return Samples(tuple(made if specs else made[:1]), tuple(notes))


def _refusal(run: Runs, sample: Sample) -> BnfoldError | None:
    try:
        run(sample.feeds)
    except BnfoldError as error:
        return error
    return None


class _Maker:
    """Makes samples of one model."""

    def __init__(self, model: onnx.ModelProto, specs: Sequence[InputSpec], seed: int) -> None:
        self.specs = specs
        self.seed = seed
        known = known_sizes(model)
        self.ranges = {s.name: integer_range(model.graph, s.name, known) for s in specs}

    def __call__(self, distribution: str, sizes: Mapping[str, int], draw: int = 0) -> Sample:
        """One sample; each input has a random stream of its own."""
        feeds = {}
        for spec in self.specs:
            rng = np.random.default_rng([self.seed, draw, zlib.crc32(spec.name.encode())])
            shape = spec.at(sizes)
            feeds[spec.name] = fill(distribution, rng, shape, spec.dtype, self.ranges[spec.name])
        name = f"{distribution}, {describe(sizes)}" if sizes else distribution
        return Sample(name, feeds)


def fill(
    distribution: str,
    rng: np.random.Generator,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    allowed: IntegerRange,
) -> Array:
    """One input. Whole numbers and booleans ignore the distribution, except "zeros"."""
    if dtype.kind == "b":
        return rng.random(shape) < (0.0 if distribution == "zeros" else 0.5)
    if dtype.kind in "iu":
        high = min(allowed.high, int(np.iinfo(dtype).max) + 1)
        if distribution == "zeros":
            return np.full(shape, allowed.low, dtype)
        return rng.integers(allowed.low, high, shape).astype(dtype)
    values = DISTRIBUTIONS[distribution](rng, shape, float(np.finfo(dtype).tiny))
    return values.astype(dtype)


def _channels(rng: np.random.Generator, shape: tuple[int, ...], _: float) -> Array:
    """Each channel (axis 1) holds one number, as a padded or a blank image does."""
    kept = tuple(size if axis < 2 else 1 for axis, size in enumerate(shape))
    return np.broadcast_to(rng.standard_normal(kept), shape)


DISTRIBUTIONS: Mapping[
    str, Callable[[np.random.Generator, tuple[int, ...], float], NDArray[np.float64]]
] = {
    "normal": lambda rng, shape, _: rng.standard_normal(shape),
    "uniform": lambda rng, shape, _: rng.random(shape),  # an image scaled to [0, 1)
    "wide": lambda rng, shape, _: 30 * rng.standard_normal(shape),  # reaches saturation
    "constant channels": _channels,
    "zeros": lambda _rng, shape, _: np.zeros(shape),
    "sparse": lambda rng, shape, _: rng.standard_normal(shape) * (rng.random(shape) < 0.1),
    "pixels": lambda rng, shape, _: rng.integers(0, 256, shape).astype(np.float64),
    "subnormal": lambda rng, shape, tiny: tiny * rng.uniform(-1, 1, shape),
}
"""How floating-point inputs are drawn; the last argument is the type's smallest normal number."""


# --- given by the user ---------------------------------------------------------------------


def load_data(model: onnx.ModelProto, data: Data) -> Iterator[Sample]:
    """The user's samples, checked against the model. Raises InputError where they do not fit."""
    specs = input_specs(model, _shapeless(model))
    count = 0
    for name, feeds in _read(data, specs):
        _check(feeds, specs, name)
        yield Sample(name, _loaded(name, {spec.name: feeds[spec.name] for spec in specs}))
        count += 1
    if not count:
        raise InputError("the data holds no sample", "give at least one set of inputs")


def _loaded(name: str, feeds: Mapping[str, Array | Stored]) -> Feeds:
    """The arrays, once it is known that they fit."""
    stored = {key: value for key, value in feeds.items() if isinstance(value, Stored)}
    read = load_all(stored, name)
    return {key: read[key] if key in read else np.asarray(feeds[key]) for key in feeds}


def _shapeless(model: onnx.ModelProto) -> Dims:
    """Inputs that declare no rank: the data itself says what it is."""
    unknown = [v for v in model.graph.input if not v.type.tensor_type.HasField("shape")]
    return {value.name: () for value in unknown}


def _read(data: Data, specs: Sequence[InputSpec]) -> Iterator[tuple[str, Unread]]:
    if isinstance(data, (str, Path)):
        yield from _read_path(Path(data), specs)
    elif isinstance(data, np.ndarray):
        yield "given", {_only(specs).name: data}
    elif isinstance(data, Mapping):
        yield "given", data
    elif isinstance(data, Iterable):
        for index, feeds in enumerate(data):
            yield f"given {index}", feeds
    else:
        raise InputError(
            f"{type(data).__name__} is neither a path, an array, a dict nor several dicts",
            "map each input's name to its array",
        )


def _read_path(path: Path, specs: Sequence[InputSpec]) -> Iterator[tuple[str, Unread]]:
    try:
        if path.is_dir():
            yield from _read_test_sets(path, specs)
            return
    except (OSError, ValueError) as error:  # ValueError: a null character
        raise unreadable(path, error) from None
    if path.suffix == ".npz":
        yield path.name, read_npz(path)
    elif path.suffix == ".npy":
        yield path.name, {_only(specs).name: read_npy(path)}
    else:
        with opened(path):  # what is no file at all has no suffix to speak of
            raise InputError(
                f"{path} is neither .npz, .npy nor a folder of test sets",
                "numpy.savez(path, input_name=array) writes a fitting file",
            )


def _only(specs: Sequence[InputSpec]) -> InputSpec:
    if len(specs) == 1:
        return specs[0]
    raise InputError(
        f"one array was given, but the model has {len(specs)} inputs: "
        f"{', '.join(map(str, specs))}",
        "name them: an .npz file, or a dict of arrays",
    )


def _read_test_sets(folder: Path, specs: Sequence[InputSpec]) -> Iterator[tuple[str, Unread]]:
    """ONNX test sets: test_data_set_0/input_0.pb, in the order of the inputs or named."""
    sets = sorted(folder.glob("test_data_set_*")) or [folder]
    found = False
    for one in sets:
        files = sorted(one.glob("input_*.pb"), key=lambda path: _number(path.stem))
        if files:
            found = True
            yield one.name, dict(_read_tensors(files, specs))
    if not found:
        raise InputError(
            f"{folder} holds no test_data_set_*/input_*.pb",
            "give a folder of ONNX test sets, or an .npz file",
        )


def _number(stem: str) -> int:
    digits = stem.rsplit("_", 1)[-1]
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 20 else 0


def _read_tensors(
    files: Sequence[Path], specs: Sequence[InputSpec]
) -> Iterator[tuple[str, Stored]]:
    names = {spec.name for spec in specs}
    for index, path in enumerate(files):
        name, tensor = read_tensor(path)
        position = specs[index].name if index < len(specs) else path.stem
        yield (name if name in names else position), tensor


def _check(feeds: Unread, specs: Sequence[InputSpec], where: str) -> None:
    if not isinstance(feeds, Mapping):
        raise InputError(
            f"{where}: expected a dict of arrays, found {type(feeds).__name__}",
            "map each input's name to its array",
        )
    expected = ", ".join(map(str, specs))
    names = {spec.name for spec in specs}
    if names.symmetric_difference(feeds):
        found = ", ".join(sorted(map(str, feeds))) or "nothing"
        raise InputError(
            f"{where}: expected {expected}; found {found}",
            "name the arrays after the model's inputs",
        )
    sizes: dict[str, int] = {}
    shapes = [_check_array(feeds[spec.name], spec, sizes, where) for spec in specs]
    if specs and not any(math.prod(shape) for shape in shapes):
        raise InputError(
            f"{where} holds no numbers, and nothing can be told from that",
            "give at least one row",
        )


def _check_array(
    value: Array | Stored, spec: InputSpec, sizes: dict[str, int], where: str
) -> tuple[int, ...]:
    """The shape of an array that fits its input; `sizes` remembers symbols so that equal names
    stay equal."""
    array = value if isinstance(value, Stored) else _as_array(value, spec, where)
    found = f"{array.dtype} {array.shape}"
    if array.dtype != spec.dtype:
        raise InputError(
            f"{where}: input {spec} was given {found}",
            f"convert it: array.astype({str(spec.dtype)!r})",
        )
    fits = not spec.shape or len(array.shape) == len(spec.shape)
    for want, got in zip(spec.shape, array.shape, strict=False):
        known = sizes.setdefault(want, got) if isinstance(want, str) else want
        fits = fits and known == got
    if not fits:
        symbols = (d for d in spec.shape if isinstance(d, str))
        seen = ", ".join(f"{s} is {sizes[s]}" for s in dict.fromkeys(symbols) if s in sizes)
        raise InputError(
            f"{where}: input {spec} was given {found}" + (f", where {seen}" if seen else ""),
            "reshape the data to the model's sizes",
        )
    return array.shape


def _as_array(value: Any, spec: InputSpec, where: str) -> Array:
    try:
        return np.asarray(value)
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{where}: what was given as input {spec} is no array: {error}",
            "give numpy.asarray(value, type)",
        ) from None
