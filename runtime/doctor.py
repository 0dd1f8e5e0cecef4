"""python -m runtime.doctor: what this machine can run, what would be chosen, and why."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Sequence
from typing import Any

from bert_rt import __version__
from bert_rt.artifact.artifact import Artifact, default_artifact_path, load_artifact
from bert_rt.engines.base import EngineOptions
from bert_rt.engines.cpu_info import cpu_info
from bert_rt.engines.measured import CpuClass
from bert_rt.engines.registry import choose, engine_names, engine_packages, missing, open_engine
from bert_rt.engines.threads import cpu_budget
from bert_rt.errors import ArtifactNotFoundError, BertRtError
from bert_rt.support.cli import add_json_flag, make_parser, run_command, write_json

__all__ = ["main"]

_PACKAGES = ("numpy", "tokenizers")  # besides what engines need
# What matters for BERT on CPU: /proc/cpuinfo's name, and ours.
_FLAGS = {
    "avx2": "avx2",
    "fma": "fma",
    "f16c": "f16c",
    "avx_vnni": "avxvnni",
    "avx512f": "avx512f",
    "avx512bw": "avx512bw",
    "avx512_vnni": "avx512vnni",
    "avx512_bf16": "avx512bf16",
    "amx_tile": "amx_tile",
    "amx_int8": "amx_int8",
    "amx_bf16": "amx_bf16",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
    "bf16": "bf16",
}

_NO_CLASS = "none: the native engine is not built"


def main(argv: Sequence[str]) -> int:
    """Examine this machine and print what was found.

    Args:
        argv: The arguments.

    Returns:
        0; that something is missing is a finding, no failure.
    """
    parser = make_parser("runtime.doctor", "Say what this machine can run, and why.")
    parser.add_argument(
        "--artifact", metavar="ART", help="ask about this one; left out: the embedded default"
    )
    parser.add_argument("--device", default="cpu", metavar="D", help="ask about this device")
    add_json_flag(parser)
    args = parser.parse_args(argv)
    options = EngineOptions(device=args.device)
    artifact: Artifact | None = None
    artifact_error = ""
    try:
        artifact = load_artifact(args.artifact or default_artifact_path())
    except ArtifactNotFoundError as error:
        if args.artifact is not None:
            raise
        artifact_error = str(error)
    report = {
        "versions": _versions(),
        "cpu": _cpu(),
        "threads": _threads(),
        "native": _native(),
        "artifact": _describe(artifact) if artifact else artifact_error,
        "engines": {name: _check(name, artifact, options) for name in engine_names()},
        "auto": _auto(artifact, options) if artifact else artifact_error,
    }
    write_json(args.json, report)
    _print(report)
    return 0


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {
        "bert-rt": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
    return versions | {package: _version(package) for package in (*_PACKAGES, *engine_packages())}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu() -> dict[str, Any]:
    info = cpu_info()
    sets = [ours for name, ours in _FLAGS.items() if name in info.flags]
    return {"model": info.model, "instruction_sets": sets}


def _threads() -> dict[str, Any]:
    budget = cpu_budget()
    return {
        "default": budget.num_threads,
        "affinity_cpus": budget.affinity_cpus,
        "physical_cores": budget.physical_cores,
        "quota_cpus": budget.quota_cpus,
    }


def _native() -> dict[str, Any] | None:
    """Return what the native module says of this machine, or None where it is not built."""
    try:
        from bert_rt import _native
    except ImportError:
        return None
    return {
        "supported_isas": list(_native.supported_isas()),
        "cpu_features": list(_native.cpu_features()),
        "build": dict(_native.build_info()),
    }


def _describe(artifact: Artifact) -> dict[str, Any]:
    manifest = artifact.manifest
    return {
        "path": str(artifact.path),
        "task": manifest.task,
        "precision": manifest.precision,
        "num_hidden_layers": manifest.architecture.num_hidden_layers,
        "hidden_size": manifest.architecture.hidden_size,
        "receipt": manifest.receipt,
    }


def _check(name: str, artifact: Artifact | None, options: EngineOptions) -> str | None:
    """Return what is missing for an engine, or None."""
    try:
        return missing(name, artifact, options)
    except ModuleNotFoundError as error:
        return f"is not part of this installation ({error})."


def _auto(artifact: Artifact, options: EngineOptions) -> dict[str, Any]:
    """Open what `auto` chooses, which is the only sure way to know that it works."""
    try:
        choice = choose(artifact, options)
        engine = open_engine(choice.name, artifact, options)
    except BertRtError as error:
        return {"error": str(error)}
    info = engine.info
    engine.close()
    return {
        "engine": info.name,
        "version": info.version,
        "isa": info.isa,
        "num_threads": info.num_threads,
        "passed_over": dict(choice.passed_over),
        "cpu_class": None if choice.cpu_class is None else _class(choice.cpu_class),
    }


def _class(row: CpuClass) -> dict[str, Any]:
    return {
        "name": row.name,
        "native_ratio": row.ratio,
        "against": row.against,
        "page": row.page,
        "says": row.describe(),
    }


def _print(report: dict[str, Any]) -> None:
    versions = ", ".join(f"{name} {text}" for name, text in report["versions"].items() if text)
    absent = [name for name, text in report["versions"].items() if text is None]
    print(f"versions   {versions}" + (f"; not installed: {', '.join(absent)}" if absent else ""))
    cpu = report["cpu"]
    print(f"cpu        {cpu['model']}: {' '.join(cpu['instruction_sets']) or 'no SIMD sets found'}")
    threads = report["threads"]
    quota = threads["quota_cpus"]
    print(
        f"threads    {threads['default']}: {threads['physical_cores']} physical cores among "
        f"{threads['affinity_cpus']} CPUs of the affinity mask, "
        + ("no CPU quota" if quota is None else f"a quota of {quota:g} CPUs")
    )
    native = report["native"]
    isas = " ".join(native["supported_isas"]) if native else "the module is not built"
    print(f"native     {isas}")
    artifact = report["artifact"]
    if isinstance(artifact, str):
        print(f"artifact   none: {artifact}")
    else:
        print(f"artifact   {artifact['path']}: {artifact['task']}, {artifact['precision']}")
    for name, reason in report["engines"].items():
        print(f"engine     {name}: {'can run' if reason is None else f'cannot run: {reason}'}")
    auto = report["auto"]
    if isinstance(auto, dict) and "engine" in auto:
        isa = f" with {auto['isa']}" if auto["isa"] else ""
        summary = f"{auto['engine']} {auto['version']}{isa}, {auto['num_threads']} threads"
        print(f"auto       {summary}")
        for name, reason in auto["passed_over"].items():
            print(f"           not {name}: {reason}")
        row = auto["cpu_class"]
        print(f"cpu class  {row['name'] + ': ' + row['says'] if row else _NO_CLASS}")
    else:
        print(f"auto       nothing: {auto['error'] if isinstance(auto, dict) else auto}")


if __name__ == "__main__":
    sys.exit(run_command(main))
