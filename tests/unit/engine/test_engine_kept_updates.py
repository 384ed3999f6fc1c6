"""What a journal keeps of an update: the line that is made without JSON says the same."""

import json
import math

from neulite_sim.engine.replay import _entry_of, _line_of
from neulite_sim.methods.contract import Update


def test_the_line_of_an_update_of_which_nothing_is_known_is_its_entry_in_json():
    update = Update(device=4, submodel="full", num_samples=12, tensors={}, loss=math.nan)
    line = _line_of(7, update)
    assert isinstance(line, bytes)
    assert json.loads(line) == _entry_of(7, update)
    assert line == json.dumps(_entry_of(7, update), separators=(",", ":")).encode()
