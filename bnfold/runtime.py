"""How is a model run? The only file that knows ONNX Runtime.

Nothing here is imported before it is needed: `import bnfold` works without a runtime, and the
first session without one ends in `RuntimeUnavailable` with the two commands that install it.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

import numpy as np
import onnx
from numpy.typing import NDArray

from bnfold.cpus import cores
from bnfold.errors import InputError, ProviderUnavailable, RuntimeUnavailable
from bnfold.files import utf8
from bnfold.modelio import Model, byte_size, open_model, save_model
from bnfold.scratch import scratch_folder, writing_scratch
from bnfold.stored import StoredModel

Array = NDArray[Any]
Feeds = Mapping[str, Array]
Level = Literal["disable", "basic", "extended", "all"]
Provider = str | tuple[str, Mapping[str, str]]
"""A provider by alias or by ONNX Runtime's name, with options where given."""

THREADS = "BNFOLD_THREADS"
"""The environment variable with the threads of a session where none are asked for."""
LEVELS: tuple[Level, ...] = get_args(Level)
CPU = "CPUExecutionProvider"
GPU_PROVIDERS = frozenset(
    {"CUDAExecutionProvider", "TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider"}
)
"""Providers whose inputs and outputs can be bound on the device as "cuda"."""

FOLDER = "session.model_external_initializers_file_folder_path"
"""The setting of a session that says where external data is, for a model that is no file."""

BN_FUSIONS = ("ConvBNFusion", "MatMul_BatchNormalization_Fusion")
"""ONNX Runtime's own folds of BatchNormalization, by the names `disabled_optimizers` knows
(core/optimizer/conv_bn_fusion.h and matmul_bn_fusion.h)."""

ALIASES: Mapping[str, str] = {
    "acl": "ACLExecutionProvider",
    "cann": "CANNExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "cpu": CPU,
    "cuda": "CUDAExecutionProvider",
    "directml": "DmlExecutionProvider",
    "dml": "DmlExecutionProvider",
    "dnnl": "DnnlExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
    "nnapi": "NnapiExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "qnn": "QNNExecutionProvider",
    "rocm": "ROCMExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "trt": "TensorrtExecutionProvider",
    "trtrtx": "NvTensorRTRTXExecutionProvider",
    "vitisai": "VitisAIExecutionProvider",
    "webgpu": "WebGpuExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
}

_DEFAULT_OPTIONS: Mapping[str, Mapping[str, str]] = {
    # TF32 keeps ten bits of mantissa: with it on, float32 weights cannot be told from their
    # neighbours and a proof would prove nothing.
    "CUDAExecutionProvider": {"use_tf32": "0"},
}

_ORT_LEVELS: Mapping[Level, str] = {
    "disable": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
_PROTOBUF_LIMIT = (
    2**31 - 2**20
)  # a serialized protobuf cannot pass 2 GiB; leave room for the graph
_SILENT = 4  # ORT's severity "fatal": what matters arrives as an exception

_DTYPES: Mapping[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int8)": np.int8,
    "tensor(int16)": np.int16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(uint8)": np.uint8,
    "tensor(uint16)": np.uint16,
    "tensor(uint32)": np.uint32,
    "tensor(uint64)": np.uint64,
    "tensor(bool)": np.bool_,
}


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output as the runtime sees it; unknown dimensions are None or a symbol."""

    name: str
    kind: str
    """ONNX Runtime's spelling of the type, "tensor(float)"."""
    shape: tuple[int | str | None, ...]

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """The NumPy type; None for what NumPy cannot hold."""
        kind = _DTYPES.get(self.kind)
        return None if kind is None else np.dtype(kind)


@dataclass(frozen=True, slots=True)
class Session:
    """A model loaded on one provider at one level."""

    provider: str
    level: Level
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    create_ms: float
    """How long the runtime took to load and optimize the model."""
    handle: Any = field(repr=False)
    """The `onnxruntime.InferenceSession`."""

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """All outputs by name. `feeds` may hold more than the model asks for.

        Raises InputError where a feed does not fit, RuntimeUnavailable where a kernel fails.
        """
        wanted = {port.name: feeds[port.name] for port in self.inputs if port.name in feeds}
        try:
            values = self.handle.run(None, wanted)
        except Exception as error:  # ORT's exceptions share no base but Exception
            raise _run_error(error, self, wanted) from error
        return dict(zip((port.name for port in self.outputs), values, strict=True))


def ort() -> Any:
    """The onnxruntime module. Raises RuntimeUnavailable when it is not installed."""
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise RuntimeUnavailable(
            "onnxruntime is not installed",
            'pip install "bnfold[cpu]", or pip install "bnfold[gpu]" on a machine with CUDA',
        ) from error


def available_providers() -> tuple[str, ...]:
    """The providers that the installed runtime offers, its preferred one first."""
    return tuple(ort().get_available_providers())


def provider_name(provider: Provider) -> str:
    """ONNX Runtime's name of a provider. Raises ProviderUnavailable for an unknown alias."""
    name = provider if isinstance(provider, str) else provider[0]
    known = {full.lower(): full for full in (*ALIASES.values(), *ort().get_all_providers())}
    full = ALIASES.get(name.lower()) or known.get(name.lower())
    if full is None:
        raise ProviderUnavailable(
            f"{name} is not a provider that onnxruntime knows",
            f"choose among {', '.join(sorted(ALIASES))}",
        )
    return full


def resolve_provider(provider: Provider) -> tuple[str, dict[str, str]]:
    """A provider's name and options. Raises ProviderUnavailable when it is not offered."""
    name = provider_name(provider)
    if name not in available_providers():
        raise ProviderUnavailable(
            f"{name} is not available in onnxruntime {ort().__version__} "
            f"(it has {', '.join(available_providers())})",
            _provider_hint(name),
        )
    given = {} if isinstance(provider, str) else dict(provider[1])
    return name, {**_DEFAULT_OPTIONS.get(name, {}), **given}


def _provider_hint(name: str) -> str:
    if name in GPU_PROVIDERS:
        return 'pip uninstall onnxruntime, then pip install "bnfold[gpu]"'
    return f"install a build of onnxruntime that has {name}, or choose another provider"


def open_session(
    model: Model,
    *,
    provider: Provider = CPU,
    level: Level = "all",
    threads: int | None = None,
    without: Sequence[str] = (),
    outputs: Sequence[str] = (),
    save_optimized: Path | None = None,
    config: Mapping[str, str] = MappingProxyType({}),
) -> Session:
    """Load a model.

    `without` names optimizers of the runtime to switch off (`BN_FUSIONS`), `outputs` tensors to
    expose beside the graph's own outputs, `save_optimized` where the runtime leaves the graph
    it made, `config` further settings of the session. Raises ProviderUnavailable when another
    provider than the one asked for would answer, RuntimeUnavailable when the runtime cannot
    load the model.
    """
    name, options = resolve_provider(provider)
    settings = _settings(level, threads, save_optimized)
    for key, value in config.items():
        settings.add_session_config_entry(key, value)
    fallback = [] if name == CPU else [CPU]  # for nodes that the provider does not know
    with _loadable(model, outputs) as (source, folder):
        if folder is not None:
            settings.add_session_config_entry(FOLDER, folder)
        start = time.perf_counter()
        try:
            handle = ort().InferenceSession(
                source,
                settings,
                providers=[(name, options), *fallback],
                disabled_optimizers=list(without),
            )
        except Exception as error:  # ORT's exceptions share no base but Exception
            raise _load_error(error, level) from error
        elapsed = 1e3 * (time.perf_counter() - start)
    _refuse_fallback(handle, name)
    ports = (_ports(handle.get_inputs()), _ports(handle.get_outputs()))
    return Session(name, level, *ports, create_ms=elapsed, handle=handle)


def _settings(level: Level, threads: int | None, save_optimized: Path | None) -> Any:
    if level not in LEVELS:
        raise InputError(
            f"{level!r} is not an optimization level", f"choose among {', '.join(LEVELS)}"
        )
    settings = ort().SessionOptions()
    settings.graph_optimization_level = getattr(ort().GraphOptimizationLevel, _ORT_LEVELS[level])
    settings.log_severity_level = _SILENT
    threads = threads or _threads_of_environment()
    if threads is not None:
        settings.intra_op_num_threads = threads
        settings.inter_op_num_threads = 1
    if save_optimized is not None:
        settings.optimized_model_filepath = utf8(save_optimized) or str(save_optimized)
    return settings


def _threads_of_environment() -> int | None:
    """Threads of a session where nothing else was asked for, so that many can share a machine."""
    text = os.environ.get(THREADS, "")
    return int(text) if text.isascii() and text.isdecimal() and int(text) > 0 else None


def default_threads() -> int:
    """Threads of a session for which no number was asked."""
    return _threads_of_environment() or cores()


def _refuse_fallback(handle: Any, name: str) -> None:
    """ONNX Runtime falls back with a warning; an answer by another provider is no proof."""
    got = handle.get_providers()[0]
    if got != name:
        raise ProviderUnavailable(
            f"{name} could not start: onnxruntime {ort().__version__} fell back to {got}",
            "look at the driver and the libraries that this provider needs",
        )


def _ports(arguments: Sequence[Any]) -> tuple[Port, ...]:
    return tuple(Port(a.name, a.type, tuple(a.shape)) for a in arguments)


@contextmanager
def _loadable(model: Model, outputs: Sequence[str]) -> Iterator[tuple[str | bytes, str | None]]:
    """What InferenceSession takes, and the folder in which it finds the weights of bytes."""
    if isinstance(model, (str, Path)) and not outputs and (path := utf8(model)) is not None:
        yield path, None
        return
    stored = open_model(model)
    folder = None if stored.folder is None else utf8(stored.folder)
    if stored.is_light and folder is None:  # something in it was computed, or has no name here
        stored = StoredModel(stored.whole())
    exposed = stored.over(expose(stored.proto, outputs)) if outputs else stored
    if byte_size(exposed.proto) < _PROTOBUF_LIMIT:
        is_whole = not stored.is_light
        yield exposed.proto.SerializeToString(), None if is_whole else folder
        return
    with scratch_folder() as name:
        file = name / "model.onnx"
        save_model(exposed, file, external=True)
        yield utf8(file) or str(file), None


def write_loadable(model: onnx.ModelProto | StoredModel, folder: Path) -> Path:
    """Write a model where a session can load it from, its weights beside it where need be."""
    path = folder / "model.onnx"
    save_model(model, path)
    return path


def write_scratch(model: onnx.ModelProto, folder: Path) -> Path:
    """The model as a file in a new folder. Raises OutputError where it cannot be written."""
    with writing_scratch():
        folder.mkdir()
        return write_loadable(model, folder)


def expose(model: onnx.ModelProto, tensors: Sequence[str]) -> onnx.ModelProto:
    """A copy whose graph outputs also hold `tensors`; their types are left to the runtime."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    present = {output.name for output in copy.graph.output}
    for tensor in tensors:
        if tensor not in present:
            copy.graph.output.add().name = tensor
    return copy


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text.removeprefix("[ONNXRuntimeError] : ")[:400]


def _load_error(error: Exception, level: str) -> RuntimeUnavailable:
    return RuntimeUnavailable(
        f"onnxruntime {ort().__version__} cannot load the model at level {level}: "
        f"{_first_line(error)}",
        "see whether the model is valid (onnx.checker) and whether this runtime is new enough "
        "for its opset and operators",
    )


def _run_error(
    error: Exception, session: Session, feeds: Feeds
) -> InputError | RuntimeUnavailable:
    shapes = ", ".join(f"{name} {tuple(a.shape)} {a.dtype}" for name, a in feeds.items())
    missing = [port.name for port in session.inputs if port.name not in feeds]
    if missing:
        return InputError(
            f"no data for input {', '.join(missing)}",
            f"the model's inputs are {', '.join(port.name for port in session.inputs)}",
        )
    if type(error).__name__ == "InvalidArgument":
        return InputError(
            f"the model does not accept {shapes}: {_first_line(error)}",
            "choose other sizes, for example with --input NAME=1x3x224x224",
        )
    return RuntimeUnavailable(
        f"onnxruntime {ort().__version__} failed on {session.provider} with {shapes}: "
        f"{_first_line(error)}",
        "other sizes may work: --input NAME=1x3x224x224",
    )


def environment() -> dict[str, str]:
    """Versions and machine, as reports print them."""
    import platform

    return {
        "onnxruntime": str(ort().__version__),
        "onnx": onnx.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": f"{platform.system().lower()}-{platform.machine()}",
    }
