"""The engines that there are, one line each, and which one "auto" takes.

A module is imported when its SPEC is first read; its library only when the engine is opened.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from bert_rt.artifact.artifact import Artifact
from bert_rt.engines.base import Engine, EngineModule, EngineOptions, EngineSpec
from bert_rt.engines.measured import CpuClass, cpu_class
from bert_rt.engines.seq2seq.base import Seq2SeqModule
from bert_rt.engines.seq2seq.generating import GeneratingEngine
from bert_rt.errors import ConfigError, EngineUnavailableError

__all__ = [
    "AUTO",
    "Choice",
    "choose",
    "engine_names",
    "engine_packages",
    "engine_spec",
    "judged_engines",
    "missing",
    "open_engine",
    "register",
]

AUTO = "auto"

_ENGINES: dict[str, str | EngineModule] = {
    "native": "bert_rt.engines.native",
    "onnxruntime": "bert_rt.engines.onnxruntime",
    "openvino": "bert_rt.engines.openvino",
    "torch": "bert_rt.engines.torch",
    "reference": "bert_rt.engines.reference",
}


@dataclass(frozen=True, slots=True)
class Choice:
    """What "auto" chose.

    Attributes:
        name: The engine.
        passed_over: Engine to a sentence, of those that stand before it, or would on another
            class of CPU: why they were not taken.
        cpu_class: What is known of this class of CPU; see bert_rt.engines.measured.cpu_class.
    """

    name: str
    passed_over: Mapping[str, str]
    cpu_class: CpuClass | None


def register(module: EngineModule) -> None:
    """Add an engine to those that can be asked for; one of the same name is replaced.

    Args:
        module: A module, or an object, as bert_rt.engines.base describes it.
    """
    _ENGINES[module.SPEC.name] = module


def engine_names() -> tuple[str, ...]:
    """Return the names of all engines; nothing is imported for it."""
    return tuple(_ENGINES)


def engine_spec(name: str) -> EngineSpec:
    """Return what is known of an engine without opening it.

    Args:
        name: One of engine_names().

    Returns:
        Its SPEC.

    Raises:
        ConfigError: There is no engine of that name.
    """
    return _module(name).SPEC


def engine_packages() -> tuple[str, ...]:
    """Return the packages that engines need, each once, in the order of the engines."""
    specs = [engine_spec(name) for name in _ENGINES]
    return tuple(dict.fromkeys(package for spec in specs for package in spec.packages))


def judged_engines() -> tuple[str, ...]:
    """Return the engines that a receipt speaks of: those that "auto" may choose.

    Returns:
        Their names; those that run float artifacts, too, come first: on the first one the float
        model is measured.
    """
    ranked = _ranked(None)
    return tuple(sorted(ranked, key=lambda name: "float32" not in engine_spec(name).precisions))


def missing(
    name: str, artifact: Artifact | None = None, options: EngineOptions | None = None
) -> str | None:
    """Say why an engine cannot run here.

    Args:
        name: One of engine_names().
        artifact: Where given, the engine must also be able to run this artifact.
        options: Where given, the engine must also be able to run on this device.

    Returns:
        None where the engine can run, else one sentence saying what is missing.

    Raises:
        ConfigError: There is no engine of that name.
    """
    module = _module(name)
    has_decoder = artifact is not None and artifact.manifest.decoder is not None
    if has_decoder and not module.SPEC.generates:
        able = [other for other in _ENGINES if _module(other).SPEC.generates]
        return f"it does not run artifacts with a decoder; {', '.join(able)} do."
    return module.missing(artifact, options or EngineOptions())


def choose(artifact: Artifact, options: EngineOptions) -> Choice:
    """Choose as "auto" does: of those that can run the artifact, the quickest on this CPU.

    Args:
        artifact: The verified artifact.
        options: The device, and what else engines need.

    Returns:
        The engine, and why it was taken.

    Raises:
        EngineUnavailableError: None can run here.
    """
    here = cpu_class()
    usual = _ranked(None)
    reasons: dict[str, str] = {}
    for name in _ranked(here):
        reason = missing(name, artifact, options)
        if reason is None:
            slower = usual[: usual.index(name)]
            passed = {other: reasons.get(other) or _slower(here) for other in slower}
            return Choice(name, {**reasons, **passed}, here)
        reasons[name] = reason
    listed = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    raise EngineUnavailableError(f"engine: none can run this artifact here ({listed})")


def open_engine(name: str, artifact: Artifact, options: EngineOptions) -> Engine:
    """Open an engine by name, or the one that choose takes for "auto".

    Args:
        name: "auto" or one of engine_names().
        artifact: The verified artifact.
        options: Device, threads and what else the engine needs.

    Returns:
        An engine that is ready to run.

    Raises:
        ConfigError: There is no engine of that name.
        EngineUnavailableError: The engine named cannot run here; "auto" found none.
    """
    if name == AUTO:
        name = choose(artifact, options).name
    else:
        reason = missing(name, artifact, options)
        if reason is not None:
            raise EngineUnavailableError(f"engine: {name!r} cannot run here: {reason}")
    decoder = artifact.manifest.decoder
    if decoder is None:
        return _module(name).open_engine(artifact, options)
    seq2seq = cast("Seq2SeqModule", _module(name)).open_seq2seq(artifact, options)
    return GeneratingEngine(seq2seq, decoder)


def _ranked(here: CpuClass | None) -> list[str]:
    """Return the names that "auto" may choose, best first, on a class of CPU or on any."""
    ranks = {name: engine_spec(name).rank for name in _ENGINES}
    if here is not None:
        ranks |= {name: rank for name, rank in here.ranks.items() if name in ranks}
    order = [(rank, name) for name, rank in ranks.items() if rank is not None]
    return [name for _, name in sorted(order, key=lambda entry: entry[0])]


def _slower(here: CpuClass | None) -> str:
    assert here is not None, "only the table of classes changes the order"
    return f"it is not the quickest on this class of CPU ({here.name}): {here.describe()}"


def _module(name: str) -> EngineModule:
    engine = _ENGINES.get(name)
    if engine is None:
        known = ", ".join((AUTO, *_ENGINES))
        raise ConfigError(f"engine: unknown name {name!r}; known are {known}")
    if isinstance(engine, str):
        engine = cast("EngineModule", importlib.import_module(engine))
        _ENGINES[name] = engine
    return engine
