"""Columns of Arrow tables as arrays: numbers, texts, lists of equal length, pictures. Needs pyarrow."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from neulite_sim.data.handing import Array, refusal
from neulite_sim.data.image_files import Sentences
from neulite_sim.data.pictures import FORMATS, MOST_FILE_BYTES, MOST_PIXELS
from neulite_sim.data.reading_datasets import picture_array
from neulite_sim.errors import NeuliteError
from neulite_sim.outside import read_regular

INSTALL = "python -m pip install 'neulite-sim[huggingface]'"


def arrow() -> Any:
    """Return pyarrow.

    Raises:
        NeuliteError: it is not installed.
    """
    try:
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError:
        raise NeuliteError(
            "data huggingface needs pyarrow, which is not installed", hint=f"install it: {INSTALL}"
        ) from None
    return pyarrow


def kind_of(table: Any, column: str, feature: Any) -> str:
    """Return what a column holds: "picture", "class", "number", "text", "list" or "other"."""
    kind = feature.get("_type") if isinstance(feature, Mapping) else None
    if kind in ("Image", "ClassLabel"):
        return "picture" if kind == "Image" else "class"
    types = arrow().types
    found = table.schema.field(column).type
    if types.is_dictionary(found):
        found = found.value_type
    if types.is_struct(found) and {"bytes", "path"} <= {found.field(number).name for number in range(found.num_fields)}:
        return "picture"
    while types.is_list(found) or types.is_large_list(found) or types.is_fixed_size_list(found):
        found = found.value_type
        if types.is_integer(found) or types.is_floating(found) or types.is_boolean(found):
            return "list"
    if types.is_integer(found) or types.is_floating(found) or types.is_boolean(found):
        return "number"
    return "text" if types.is_string(found) or types.is_large_string(found) else "other"


def column_array(table: Any, column: str, part: str, kind: str, side: int | None, sentences: Sentences) -> Array:
    """Return a column as an array; pictures are resampled to squares where `side` is given.

    Raises:
        ScenarioError: a value is missing, lists differ in length, or a picture cannot be read.
    """
    values = table.column(column).combine_chunks()
    # Older versions of Arrow keep several chunks where a type cannot be joined.
    if hasattr(values, "num_chunks"):
        values = values.chunk(0) if values.num_chunks else arrow().array([], values.type)
    if values.null_count:
        first = int(np.argmax(np.asarray(values.is_null())))
        found = f"column {column!r} has no value in {part} sample {first:,}"
        raise refusal(sentences.kind, found, "fill it in or remove the sample")
    if kind == "picture":
        return _pictures(values, column, part, side, sentences)
    if kind == "list":
        return _lists(values, column, part, sentences.kind)
    if arrow().types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if kind == "text":
        return np.array(values.to_pylist(), str)
    numbers: Array = values.to_numpy(zero_copy_only=False)
    return numbers


def _lists(values: Any, column: str, part: str, name: str) -> Array:
    types, shape, count = arrow().types, [len(values)], len(values)
    while types.is_list(values.type) or types.is_large_list(values.type) or types.is_fixed_size_list(values.type):
        lengths = np.asarray(arrow().compute.list_value_length(values))
        if len(lengths) and (lengths != lengths[0]).any():
            wrong = int(np.argmax(lengths != lengths[0]))
            at = wrong // max(1, len(lengths) // max(1, count))
            differ = f"{lengths[0]} first, {lengths[wrong]} in {part} sample {at:,}"
            found = f"column {column!r} has lists of different lengths: {differ}"
            raise refusal(name, found, "pad or cut them to one length, as tokenizer(padding='max_length') does")
        shape.append(int(lengths[0]) if len(lengths) else 0)
        values = values.flatten()
    if values.null_count:
        first = int(np.argmax(np.asarray(values.is_null()))) // max(1, int(np.prod(shape[1:])))
        raise refusal(
            name, f"column {column!r} has a gap in {part} sample {first:,}", "fill it in or remove the sample"
        )
    numbers: Array = values.to_numpy(zero_copy_only=False).reshape(shape)
    return numbers


def _pictures(values: Any, column: str, part: str, side: int | None, sentences: Sentences) -> Array:
    pictures: list[Array] = []
    num_outside = 0
    for number, value in enumerate(values):
        held = value.as_py()
        content = held.get("bytes")
        num_outside += content is None
        pictures.append(_picture(held, column, part, number, side, sentences.kind))
    if num_outside:
        sentences.say(
            f"{num_outside:,} pictures of column {column!r} lie in files elsewhere, of which no checksum is kept"
        )
    if not pictures:
        raise refusal(sentences.kind, f"column {column!r} of the {part} part is empty", "give at least one sample")
    if len({picture.ndim for picture in pictures}) > 1:
        sentences.say(f"grey pictures of column {column!r} are read as colours, as others of it are")
        pictures = [np.repeat(each[..., None], 3, axis=2) if each.ndim == 2 else each for each in pictures]
    other = next((place for place, each in enumerate(pictures) if each.shape != pictures[0].shape), None)
    if other is not None:
        sizes = [f"{each.shape[1]}x{each.shape[0]}" for each in (pictures[0], pictures[other])]
        found = f"pictures of column {column!r} differ in size: {part} sample 0 is {sizes[0]}, {other:,} is {sizes[1]}"
        raise refusal(sentences.kind, found, "give a side to resample them to", key="data.image_size")
    return np.stack(pictures)


def _picture(held: Mapping[str, Any], column: str, part: str, number: int, side: int | None, name: str) -> Array:
    try:
        content = held.get("bytes")
        if content is None:
            content = read_regular(str(held.get("path")), most_bytes=MOST_FILE_BYTES)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
                width, height = picture.size
                if width * height > MOST_PIXELS:
                    raise ValueError(f"it has {width}x{height} pixels; at most {MOST_PIXELS:,} are read")
                return picture_array(picture, side)
    except Exception as failure:
        why = getattr(failure, "strerror", None) or str(failure) or type(failure).__name__
        found = f"column {column!r} of {part} sample {number:,} cannot be read as a picture ({why})"
        raise refusal(name, found, "replace or remove the sample") from None
