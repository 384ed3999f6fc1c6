"""From arrays that somebody hands over to a dataset: images, numbers or tokens, standardised, with a test part."""

from __future__ import annotations

import mmap
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from neulite_sim.bounds import ClassCount, Share
from neulite_sim.data.contract import AnyDataset, Dataset, Given, ImageDatasetOptions
from neulite_sim.data.handing import Array, Handed, array_of, refusal
from neulite_sim.data.holding_out import held_out
from neulite_sim.data.image_files import Sentences
from neulite_sim.data.labelling import Labels, labels_of
from neulite_sim.data.layout import (
    Meaning,
    as_pixels,
    channels_first,
    image_scale,
    meaning_of,
    moments,
    require_numbers,
    scaled_numbers,
)
from neulite_sim.data.numbers import Numbers, id_type
from neulite_sim.data.preparation import chosen_samples, prepared, require_samples
from neulite_sim.data.resampling import Images
from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.room import require_room
from neulite_sim.samples import InputSpec

TEST_SHARE = 0.2


class HandedOptions(ImageDatasetOptions):
    """How arrays are read; what is not said is found out, told in a notice, or asked for."""

    inputs: Literal["auto", "images", "numbers", "tokens"] = "auto"
    """What a sample is; `auto` tells by its shape and type."""
    channels: Literal["auto", "first", "last"] = "auto"
    """Where the channels of images stand: `first` is [N, C, H, W], `last` is [N, H, W, C]."""
    normalise: bool = True
    """Whether mean and deviation of the training part are taken out: per channel of images, per column of numbers."""
    classes: ClassCount | None = None
    """Number of classes; labels are then 0 to `classes` - 1 as they stand, also where some do not occur."""
    vocabulary: Annotated[int, Field(ge=2, le=2**31 - 1)] | None = None
    """Number of tokens; one more than the largest id where it is not given."""
    test_share: Annotated[Share, Field(lt=1)] = TEST_SHARE
    """Share of the samples that is held out for tests where no test part is given, the classes alike in both parts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """Both parts, their classes and the owners of training samples, and how they came."""

    train: Array
    test: Array
    labels: Labels
    test_labels: NDArray[np.int64]
    groups: NDArray[np.int64] | None
    given: Given
    handed: Handed


def dataset_of(handed: Handed, options: HandedOptions, sentences: Sentences, seed: int) -> AnyDataset:
    """Return the dataset that arrays make, named `sentences.kind`; `seed` acts only on subsets.

    The same arrays give the same dataset to the bit, whatever their layout or type of number was.

    Raises:
        ScenarioError: the arrays are no samples with classes, or an option does not go with them; the message names
            the sample where one is wrong.
    """
    name = sentences.kind
    train, test = _inputs(handed, name)
    meaning = meaning_of(name, train, "tokens" if options.vocabulary and options.inputs == "auto" else options.inputs)
    _require_fitting(name, options, meaning, has_test=test is not None)
    labels = labels_of(
        handed.train_labels,
        handed.test_labels if test is not None else None,
        classes=handed.classes if options.classes is None else options.classes,
        per_place=meaning == "tokens" and np.ndim(handed.train_labels) == 2 and np.shape(handed.train_labels)[1] > 1,
        place=handed.place,
        sentences=sentences,
    )
    for part, inputs, classes in (("train", train, labels.train), ("test", test, labels.test)):
        if inputs is not None and classes is not None:
            _require_pairs(name, part, inputs, classes)
            require_numbers(name, part, inputs, handed.place)
    groups = _groups(handed, len(labels.train), sentences)
    if test is None or labels.test is None:
        parts = _held_out(train, labels, groups, handed, options.test_share, sentences)
    else:
        given = Given(numbers=np.arange(len(train)), count=len(train))
        parts = _Parts(
            train=train,
            test=test,
            labels=labels,
            test_labels=labels.test,
            groups=groups,
            given=given,
            handed=handed,
        )
    if parts.train.shape[1:] != parts.test.shape[1:]:
        found = f"test samples have shape {parts.test.shape[1:]}, training samples {parts.train.shape[1:]}"
        raise refusal(name, found, "give both the same shape")
    if meaning == "images":
        return _images(parts, options, sentences, seed)
    return _numbers(parts, options, sentences, seed, meaning)


def _inputs(handed: Handed, name: str) -> tuple[Array, Array | None]:
    train = array_of(name, "train inputs", handed.train_inputs)
    test = None if handed.test_inputs is None else array_of(name, "test inputs", handed.test_inputs)
    for part, inputs in (("training", train), ("test", test)):
        if inputs is not None and not inputs.size:
            raise refusal(name, f"the {part} part is empty (shape {inputs.shape})", "give at least one sample")
    is_flat = train.ndim == 1
    return (train[:, None] if is_flat else train), (test[:, None] if is_flat and test is not None else test)


def _require_fitting(name: str, options: HandedOptions, meaning: Meaning, *, has_test: bool) -> None:
    """Refuse options that do not act on what the data are.

    Raises:
        ScenarioError: all of them at once.
    """
    usual = type(options).model_fields
    conditions = {
        "channels": ("images", meaning == "images"),
        "image_size": ("images", meaning == "images"),
        "augmentation": ("images", meaning == "images"),
        "normalise": ("images and numbers", meaning != "tokens"),
        "vocabulary": ("tokens", meaning == "tokens"),
    }
    inert = [key for key, (_, acts) in conditions.items() if not acts and getattr(options, key) != usual[key].default]
    problems = [
        Problem.advising(
            key=f"data.{key}",
            found=f"{name}: acts only on {conditions[key][0]}, and these are {meaning}",
            hint="remove it",
        )
        for key in inert
    ]
    if has_test and options.test_share != TEST_SHARE:
        found = f"{name}: acts only where no test part is given, and there is one"
        problems.append(Problem.advising(key="data.test_share", found=found, hint="remove it"))
    if problems:
        raise ScenarioError(problems)


def _require_pairs(name: str, part: str, inputs: Array, labels: NDArray[np.int64]) -> None:
    if len(inputs) != len(labels):
        found = f"the {part} part has {len(inputs):,} inputs and {len(labels):,} labels"
        raise refusal(name, found, "give one label per input")
    if labels.ndim == 2 and labels.shape != inputs.shape:
        found = f"{part} labels have shape {labels.shape}, tokens {inputs.shape}"
        raise refusal(name, found, "give one class per token, or one per sequence")


def _groups(handed: Handed, count: int, sentences: Sentences) -> NDArray[np.int64] | None:
    if handed.groups is None:
        return None
    owners = array_of(sentences.kind, "groups", handed.groups)
    if owners.shape != (count,):
        raise refusal(sentences.kind, f"groups have shape {owners.shape}", f"give one per training sample, ({count},)")
    if owners.dtype.kind == "f" and not np.isfinite(owners).all():
        wrong = int(np.argmin(np.isfinite(owners)))
        raise refusal(sentences.kind, f"{handed.place('train', wrong)} has no group", "fill it in or remove the sample")
    values, codes = np.unique(owners, return_inverse=True)
    sentences.say(f"{len(values):,} groups, numbered in sorted order")
    return codes.astype(np.int64).reshape(-1)


def _held_out(
    inputs: Array,
    labels: Labels,
    groups: NDArray[np.int64] | None,
    handed: Handed,
    share: float,
    sentences: Sentences,
) -> _Parts:
    """Return both parts of samples that came in one.

    Raises:
        ScenarioError: there are too few samples for two parts.
    """
    count = len(labels.train)
    is_test = held_out(labels.train, share, sentences.kind)
    keep, test = np.flatnonzero(~is_test), np.flatnonzero(is_test)
    sentences.say(
        f"no test part was given: {len(test):,} of {count:,} samples are held out for it, the same in every run"
    )
    return _Parts(
        train=inputs[keep],
        test=inputs[test],
        labels=replace(labels, train=labels.train[keep]),
        test_labels=labels.train[test],
        groups=None if groups is None else groups[keep],
        given=Given(numbers=keep, count=count),
        handed=handed,
    )


def _images(parts: _Parts, options: HandedOptions, sentences: Sentences, seed: int) -> Dataset:
    name = sentences.kind
    train, test = as_pixels(
        channels_first(name, parts.train, options.channels, sentences),
        channels_first(name, parts.test, options.channels),
    )
    mean, std, pixel_scale = image_scale(train, normalises=options.normalise)
    native = Dataset(
        name=name,
        train_images=train,
        train_labels=parts.labels.train,
        test_images=test,
        test_labels=parts.test_labels,
        num_classes=parts.labels.num_classes,
        mean=mean,
        std=std,
        pixel_scale=pixel_scale,
        groups=parts.groups,
        left_out=tuple(sentences.told),
        given=parts.given,
    )
    made = prepared(native, options, seed)
    return replace(made, train_images=_in_memory(made.train_images), test_images=_in_memory(made.test_images))


def _in_memory(images: Images) -> Images:
    """Return images that do not change with the file that they were mapped from."""
    base: object = images
    while isinstance(base, np.ndarray):
        base = base.base
    return images.copy() if isinstance(base, mmap.mmap) else images


def _numbers(parts: _Parts, options: HandedOptions, sentences: Sentences, seed: int, meaning: Meaning) -> Numbers:
    name, train, test, unscaled = sentences.kind, parts.train, parts.test, parts.handed.unscaled
    require_samples(name, options, train=len(train), test=len(test))
    kept = chosen_samples(len(train), options.train_samples, seed, "train-samples")
    tested = chosen_samples(len(test), options.test_samples, seed, "test-samples")
    shape = train.shape[1:]
    vocabulary = None
    if meaning == "tokens":
        vocabulary = _vocabulary(train, test, options.vocabulary, parts.handed, sentences)
        first, second = (part.astype(id_type(vocabulary)) for part in (train[kept], test[tested]))
    else:
        if train.dtype.kind in "iu" and len(shape) == 1 and shape[0] > 1:
            sentences.say("whole numbers are read as quantities; for ids of tokens set inputs: tokens")
        advice = "set data.train_samples"
        require_room(4 * (train.size + test.size), f"the numbers of {name}", key="data", advice=advice)
        mean, std = moments(train) if options.normalise else (np.zeros(shape[-1:]), np.ones(shape[-1:]))
        if unscaled is not None:
            mean, std = np.where(unscaled, 0.0, mean), np.where(unscaled, 1.0, std)
        first, second = (scaled_numbers(part, mean, std) for part in (train[kept], test[tested]))
    return Numbers(
        name=name,
        spec=InputSpec(
            shape=shape,
            num_classes=parts.labels.num_classes,
            vocabulary=vocabulary,
            target_shape=parts.labels.train.shape[1:],
        ),
        train_inputs=first,
        train_labels=parts.labels.train[kept],
        test_inputs=second,
        test_labels=parts.test_labels[tested],
        groups=None if parts.groups is None else parts.groups[kept],
        left_out=tuple(sentences.told),
        given=parts.given.chosen(kept),
    )


def _vocabulary(train: Array, test: Array, wished: int | None, handed: Handed, sentences: Sentences) -> int:
    """Return the number of tokens.

    Raises:
        ScenarioError: an id is negative or beyond it.
    """
    most = 1 + max(int(train.max()), int(test.max()))
    vocabulary = max(2, most if wished is None else wished)
    for part, ids in (("train", train), ("test", test)):
        is_right = ((ids >= 0) & (ids < vocabulary)).all(axis=1)
        if not is_right.all():
            wrong = int(np.argmin(is_right))
            value = int(ids[wrong][(ids[wrong] < 0) | (ids[wrong] >= vocabulary)][0])
            found = f"{handed.place(part, wrong)} holds the id {value}"
            raise refusal(sentences.kind, found, f"ids are 0 to {vocabulary - 1}, the vocabulary being {vocabulary}")
    if vocabulary > 2**31 - 1:
        raise refusal(sentences.kind, f"the largest id is {most - 1}", "use ids below 2147483647")
    if wished is None:
        sentences.say(f"vocabulary {vocabulary:,}, one more than the largest id; data.vocabulary may say it")
    return vocabulary
