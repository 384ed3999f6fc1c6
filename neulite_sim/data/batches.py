"""From a device's samples to what a network sees: order and cut of an epoch, normalisation, augmentation.

Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from neulite_sim.later import F, Tensor, torch


def num_batches(num_samples: int, batch_size: int) -> int:
    """Return how many batches `batch_slices` cuts from an epoch; 0 without samples."""
    full, rest = divmod(num_samples, batch_size)
    return full + (rest > 1 or (rest == 1 and full == 0))


def largest_batch(num_samples: int, batch_size: int) -> int:
    """Return the size of an epoch's largest batch: up to `batch_size` + 1, where a single sample was merged."""
    if num_samples > batch_size > 1 and num_samples % batch_size == 1:
        return batch_size + 1
    return min(num_samples, batch_size)


def batch_slices(num_samples: int, batch_size: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Return the positions (0 to `num_samples` - 1) of each batch of one epoch, shuffled by `rng`.

    BatchNorm cannot train on one sample, so a last batch of one joins the batch before it and is not dropped. Batches
    of one are left where nothing else is possible (a single sample) or asked for (`batch_size` 1).
    """
    order = rng.permutation(num_samples)
    starts = range(0, num_batches(num_samples, batch_size) * batch_size, batch_size)
    # Slice by slice: `np.split` takes several times as long for a few.
    return [order[first:after] for first, after in itertools.pairwise((*starts, num_samples))]


def normalise(images_BCHW: Tensor, *, mean: Sequence[float], std: Sequence[float], pixel_scale: float) -> Tensor:
    """Return `(image / pixel_scale - mean) / std` as float32, one mean and one deviation per channel.

    Takes uint8 or float images and leaves them as they are; the result lies on their device.
    """
    factor = torch.tensor([1.0 / (pixel_scale * deviation) for deviation in std], device=images_BCHW.device)
    offset = torch.tensor([-centre / deviation for centre, deviation in zip(mean, std, strict=True)],
                          device=images_BCHW.device)  # fmt: skip
    return (images_BCHW.to(torch.float32) * factor.view(-1, 1, 1)).add_(offset.view(-1, 1, 1))


def augment_crop_flip(images_BCHW: Tensor, generator: torch.Generator) -> Tensor:
    """Return each image at a random place in a frame of zeros an eighth of its side wide, mirrored with chance 1/2.

    For 32x32 images this is the usual random crop with padding 4 and horizontal flip. Zero is black before
    `normalise`, which is where the usual pipelines crop. Sides below 8 are only mirrored. Same shape and dtype.
    """
    batch, _, height, width = images_BCHW.shape
    device = images_BCHW.device
    pad_y, pad_x = height // 8, width // 8
    padded = F.pad(images_BCHW, (pad_x, pad_x, pad_y, pad_y))
    top = torch.randint(2 * pad_y + 1, (batch, 1), generator=generator, device=generator.device).to(device)
    left = torch.randint(2 * pad_x + 1, (batch, 1), generator=generator, device=generator.device).to(device)
    mirrored = torch.randint(2, (batch, 1), generator=generator, device=generator.device).to(device).bool()
    rows = top + torch.arange(height, device=device)
    columns = left + torch.where(mirrored, torch.arange(width - 1, -1, -1, device=device),
                                 torch.arange(width, device=device))  # fmt: skip
    image = torch.arange(batch, device=device)[:, None, None]
    return padded[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()
