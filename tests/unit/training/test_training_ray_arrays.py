"""Arrays that travel as one come out as they went in."""

import pickle

import numpy as np
import pytest

from neulite_sim.training.ray_arrays import Packed, as_readonly_tensors

LARGE = np.arange(20_000, dtype=np.float32).reshape(100, 200)
ARRAYS = {
    "scalar": np.array(3.0, dtype=np.float32),
    "empty": np.zeros((0, 4), dtype=np.float32),
    "ids": np.array([1, -2], dtype=np.int64),
    "large": LARGE,
    "turned": np.arange(6, dtype=np.float64).reshape(2, 3).T,
    "flags": np.array([True, False, True]),
}


@pytest.mark.parametrize("travels", [False, True])
def test_names_order_values_and_types_stay(travels):
    packed = Packed(ARRAYS)
    found = pickle.loads(pickle.dumps(packed, protocol=5)) if travels else packed
    assert list(found) == list(ARRAYS)
    assert len(found) == len(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert np.array_equal(found[name], array)
    assert found.nbytes == sum(array.nbytes for array in ARRAYS.values())


def test_small_ones_are_one_buffer_and_large_ones_are_not_copied():
    buffers = []
    packed = Packed(ARRAYS)
    pickle.dumps(packed, protocol=5, buffer_callback=buffers.append)
    assert len(buffers) == 2
    assert packed["large"] is LARGE


def test_tensors_share_their_memory_with_the_buffer():
    packed = Packed({"a": np.zeros(2, dtype=np.float32), "b": np.zeros(3, dtype=np.float32)})
    tensors = as_readonly_tensors(packed)
    packed["b"][1] = 7
    assert tensors["b"].tolist() == [0, 7, 0]
    assert tensors["a"].tolist() == [0, 0]


def test_a_name_that_is_not_there_is_missed_as_in_any_mapping():
    with pytest.raises(KeyError):
        Packed(ARRAYS)["other"]
    assert "other" not in Packed(ARRAYS)
