"""Tensors of the Open Inference Protocol: JSON and binary, to texts and from results.

A binary tensor's bytes stand behind the JSON, in the order of the inputs (outputs); the header
Inference-Header-Content-Length tells where the JSON ends. An element of BYTES is a little-endian
uint32, its length, and that many bytes.

Source: https://github.com/kserve/open-inference-protocol and Triton's binary tensor data extension.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType

from bert_rt.errors import InputError
from bert_rt.tasks.forms.http import HttpForm

__all__ = ["InferRequest", "Tensor", "is_binary", "output_tensors", "read_texts", "split_body"]

_DTYPES: dict[str, np.dtype[Any]] = {"FP32": np.dtype("<f4"), "INT64": np.dtype("<i8")}
_BYTES = "BYTES"


class Tensor(msgspec.Struct):
    """A tensor of a request.

    Attributes:
        name: As in the model's metadata.
        shape: Its shape.
        datatype: BYTES.
        parameters: binary_data_size, where the elements stand behind the JSON.
        data: The elements, nested or flat, else.
    """

    name: str
    shape: list[Annotated[int, Meta(ge=0)]]
    datatype: str
    parameters: dict[str, Any] | None = None
    data: Any = None


class RequestedOutput(msgspec.Struct):
    """An output that a request names.

    Attributes:
        name: As in the model's metadata.
        parameters: binary_data.
    """

    name: str
    parameters: dict[str, Any] | None = None


class InferRequest(msgspec.Struct):
    """The JSON of a request; fields that are not known are ignored, as the protocol wants.

    Attributes:
        inputs: The tensors.
        id: Comes back with the response.
        parameters: timeout (microseconds), priority, top_k, binary_data_output, the task's own.
        outputs: Those wanted; none for all.
    """

    inputs: list[Tensor]
    id: str | UnsetType = UNSET
    parameters: dict[str, Any] | None = None
    outputs: list[RequestedOutput] | None = None


def split_body(body: bytes, header: str | None) -> tuple[bytes, memoryview]:
    """Split a body into its JSON and the bytes behind it.

    Args:
        body: The body.
        header: Inference-Header-Content-Length, if it was there.

    Returns:
        Both parts.

    Raises:
        InputError: The header is no number up to the body's length.
    """
    if header is None:
        return body, memoryview(b"")
    if not header.isdecimal() or int(header[:20]) > len(body):
        raise InputError(
            f"Inference-Header-Content-Length: got {header[:100]!r}, want a number up to "
            f"{len(body)}, the length of the body"
        )
    length = int(header)
    return body[:length], memoryview(body)[length:]


def read_texts(request: InferRequest, rest: memoryview, form: HttpForm) -> dict[str, list[str]]:
    """Read the texts of a request's tensors.

    Args:
        request: The JSON.
        rest: The bytes behind it.
        form: Which inputs the task has.

    Returns:
        The elements by the name of the input.

    Raises:
        InputError: An input is missing, unknown, given twice, or not what it says.
    """
    known = (*form.inputs, *form.optional_inputs)
    texts: dict[str, list[str]] = {}
    for tensor in request.inputs:
        place = f"inputs[{tensor.name[:100]!r}]"
        if tensor.name not in known or tensor.name in texts:
            fault = "twice" if tensor.name in texts else "an unknown input"
            raise InputError(f"{place}: got {fault}, want one of each of {', '.join(known)}")
        if tensor.datatype != _BYTES:
            raise InputError(f"{place}.datatype: got {tensor.datatype[:100]!r}, want BYTES")
        size = (tensor.parameters or {}).get("binary_data_size")
        if size is None:
            elements = _from_json(place, tensor.data)
        else:
            if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(rest):
                raise InputError(
                    f"{place}.parameters.binary_data_size: got {size!r:.100}, want a number up to "
                    f"{len(rest)}, the bytes that are left"
                )
            elements = _from_bytes(place, rest[:size])
            rest = rest[size:]
        if len(elements) != math.prod(tensor.shape):
            raise InputError(
                f"{place}: got {len(elements)} elements, want as many as the shape "
                f"{tensor.shape[:10]} has"
            )
        texts[tensor.name] = elements
    missing = [name for name in form.inputs if name not in texts]
    if missing:
        raise InputError(f"inputs: got none of the name {missing[0]!r}, want {', '.join(known)}")
    if rest:
        raise InputError(f"body: got {len(rest)} bytes behind the last input, want none")
    return texts


def _from_json(place: str, data: Any) -> list[str]:
    """Flatten nested lists of strings; the shape says how they were nested."""
    if data is None:
        raise InputError(f"{place}: got neither data nor parameters.binary_data_size, want one")
    flat = data
    while isinstance(flat, list) and flat and all(isinstance(item, list) for item in flat):
        flat = [element for item in flat for element in item]
    if not isinstance(flat, list) or not all(isinstance(element, str) for element in flat):
        raise InputError(f"{place}.data: got something else than strings, want a list of strings")
    return flat


def _from_bytes(place: str, data: memoryview) -> list[str]:
    elements = []
    position = 0
    while position < len(data):
        if position + 4 > len(data):
            raise InputError(f"{place}: got {len(data) - position} bytes at the end, want a length")
        (length,) = struct.unpack_from("<I", data, position)
        position += 4
        if position + length > len(data):
            raise InputError(
                f"{place}: got an element of {length} bytes where {len(data) - position} are left"
            )
        try:
            elements.append(str(data[position : position + length], "utf-8"))
        except UnicodeDecodeError as error:
            raise InputError(
                f"{place}: element {len(elements)} is not UTF-8 at byte {error.start}"
            ) from None
        position += length
    return elements


def is_binary(request: InferRequest, name: str) -> bool:
    """Tell whether an output is wanted as bytes behind the JSON.

    Args:
        request: Its outputs say it each by itself, else its parameters for all.
        name: The output.

    Returns:
        Whether it is wanted so.
    """
    for output in request.outputs or ():
        parameters = output.parameters or {}
        if output.name == name and "binary_data" in parameters:
            return parameters["binary_data"] is True
    return (request.parameters or {}).get("binary_data_output") is True


def output_tensors(
    request: InferRequest, values: Mapping[str, Sequence[Any]], form: HttpForm
) -> tuple[list[dict[str, Any]], bytes]:
    """Make a response's tensors.

    Args:
        request: Says which outputs it wants, and how.
        values: The elements of every output.
        form: Says their datatypes.

    Returns:
        The outputs as JSON values, and the bytes that stand behind the JSON.

    Raises:
        InputError: An output is wanted that there is not.
    """
    wanted = [output.name for output in request.outputs or ()] or list(form.outputs)
    entries: list[dict[str, Any]] = []
    parts: list[bytes] = []
    for name in wanted:
        if name not in form.outputs:
            raise InputError(f"outputs: got {name[:100]!r}, want one of {', '.join(form.outputs)}")
        elements, datatype = values[name], form.outputs[name]
        entry: dict[str, Any] = {"name": name, "datatype": datatype, "shape": [len(elements)]}
        if is_binary(request, name):
            parts.append(_to_bytes(elements, datatype))
            entry["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            entry["data"] = list(elements)
        entries.append(entry)
    return entries, b"".join(parts)


def _to_bytes(elements: Sequence[Any], datatype: str) -> bytes:
    if datatype != _BYTES:
        data: bytes = np.array(elements, _DTYPES[datatype]).tobytes()
        return data
    encoded = [element.encode("utf-8") for element in elements]
    return b"".join(struct.pack("<I", len(element)) + element for element in encoded)
