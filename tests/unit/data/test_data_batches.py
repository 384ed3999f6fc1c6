"""Batches: the cut of an epoch, normalisation and augmentation, worked by hand."""

import pytest
import torch

from neulite_sim.data.batches import augment_crop_flip, batch_slices, largest_batch, normalise, num_batches
from neulite_sim.seeding import stream


def sizes(num_samples, batch_size):
    return [len(batch) for batch in batch_slices(num_samples, batch_size, stream(0, "test-batches"))]


@pytest.mark.parametrize(
    ("num_samples", "batch_size", "expected"),
    [
        (0, 4, []),
        (1, 4, [1]),
        (2, 4, [2]),
        (4, 4, [4]),
        (5, 4, [5]),
        (6, 4, [4, 2]),
        (9, 4, [4, 5]),
        (3, 2, [3]),
        (3, 1, [1, 1, 1]),
        (500, 128, [128, 128, 128, 116]),
    ],
)
def test_a_last_batch_of_one_joins_the_one_before(num_samples, batch_size, expected):
    assert sizes(num_samples, batch_size) == expected
    assert num_batches(num_samples, batch_size) == len(expected)
    assert largest_batch(num_samples, batch_size) == max(expected, default=0)


def test_the_order_comes_from_the_stream():
    first, again, other = (
        [batch.tolist() for batch in batch_slices(10, 4, stream(seed, "epoch"))] for seed in (1, 1, 2)
    )
    assert first == again != other


def test_two_epochs_of_one_stream_differ():
    rng = stream(0, "epoch")
    assert [b.tolist() for b in batch_slices(10, 4, rng)] != [b.tolist() for b in batch_slices(10, 4, rng)]


def test_uint8_images_are_scaled_centred_and_divided_per_channel():
    images = torch.tensor([[[[0, 255]], [[51, 102]]]], dtype=torch.uint8)
    result = normalise(images, mean=(0.5, 0.2), std=(0.25, 0.1), pixel_scale=255.0)
    torch.testing.assert_close(result, torch.tensor([[[[-2.0, 2.0]], [[0.0, 2.0]]]]))
    assert result.dtype == torch.float32


def test_float_images_are_left_as_they_were():
    images = torch.ones(2, 1, 3, 3)
    result = normalise(images, mean=(1.0,), std=(2.0,), pixel_scale=1.0)
    assert (result == 0).all()
    assert (images == 1).all()


def test_a_mean_per_channel_is_needed():
    with pytest.raises(RuntimeError, match="size of tensor"):
        normalise(torch.ones(1, 3, 2, 2), mean=(0.0, 0.0), std=(1.0, 1.0), pixel_scale=1.0)


def numbered_images(batch, side):
    """Every pixel of every image has its own number from 1."""
    return torch.arange(1, batch * side * side + 1, dtype=torch.float32).view(batch, 1, side, side)


def test_each_augmented_image_is_a_crop_of_its_padded_self_or_of_its_mirror():
    images = numbered_images(64, 16)
    result = augment_crop_flip(images, torch.Generator().manual_seed(0))
    seen = set()
    for image, changed in zip(images[:, 0], result[:, 0], strict=True):
        padded = torch.nn.functional.pad(image, (2, 2, 2, 2))
        crops = {(y, x): padded[y : y + 16, x : x + 16] for y in range(5) for x in range(5)}
        found = [(y, x, mirrored) for (y, x), crop in crops.items() for mirrored in (False, True)
                 if torch.equal(changed, crop.flip(1) if mirrored else crop)]  # fmt: skip
        assert len(found) == 1
        seen.update(found)
    assert {place[0] for place in seen} == {place[1] for place in seen} == {0, 1, 2, 3, 4}
    assert {place[2] for place in seen} == {False, True}


def test_channels_of_an_image_move_together():
    images = torch.arange(16 * 64.0).view(16, 1, 8, 8).repeat(1, 3, 1, 1)
    result = augment_crop_flip(images, torch.Generator().manual_seed(1))
    assert torch.equal(result[:, 0], result[:, 1])
    assert torch.equal(result[:, 0], result[:, 2])


def test_small_images_are_only_mirrored():
    images = numbered_images(20, 4)
    result = augment_crop_flip(images, torch.Generator().manual_seed(0))
    mirrored = [not torch.equal(a, b) for a, b in zip(images, result, strict=True)]
    expected = torch.stack([image.flip(2) if flip else image for image, flip in zip(images, mirrored, strict=True)])
    assert torch.equal(result, expected)
    assert 0 < sum(mirrored) < 20


def test_uint8_stays_uint8_and_shapes_stay():
    images = torch.zeros(3, 2, 9, 17, dtype=torch.uint8)
    result = augment_crop_flip(images, torch.Generator().manual_seed(0))
    assert (result.dtype, result.shape) == (images.dtype, images.shape)
    assert result.is_contiguous()


def test_the_same_generator_state_augments_alike():
    images = numbered_images(8, 16)
    first, again = (augment_crop_flip(images, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again)
