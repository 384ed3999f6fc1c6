"""The texts below attributes, as Pydantic would have read them."""

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

import neulite_sim
from neulite_sim import docstrings
from neulite_sim.docstrings import attribute_docstrings

SOURCES = sorted(Path(neulite_sim.__file__).parent.rglob("*.py"))


class Read(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class Base(Read):
    first: int = 1
    """One line."""
    second: int = 2
    """Several lines:

        indented
    and not.
    """
    third: int = 3
    silent: int = 4


class Derived(Base):
    third: int = 5
    """Said below."""
    first: int = 6
    """Said anew."""
    second: int = 7

    class Inner(Read):
        own: str = ""
        """Inside."""


def test_texts_are_those_that_pydantic_reads():
    for kind in (Base, Derived, Derived.Inner):
        read = {name: info.description for name, info in kind.model_fields.items() if info.description}
        assert dict(attribute_docstrings(kind)) == read
    assert len(attribute_docstrings(Derived)) == 2


def test_classes_within_functions_are_found():
    class Local(Read):
        field: int = 0
        """Here."""

    assert dict(attribute_docstrings(Local)) == {"field": "Here."}


def test_a_class_without_a_source_has_none():
    made = type("Made", (), {"__module__": "nowhere", "__annotations__": {"field": int}})
    assert dict(attribute_docstrings(made)) == dict(attribute_docstrings(int)) == {}


@pytest.mark.slow
def test_what_is_read_of_own_modules_alone_is_what_stands_in_them():
    def classes(source, *, of_classes):
        found = {}
        docstrings._gather(docstrings._parsed(source, of_classes=of_classes), "", found)
        return {name: texts for name, texts in found.items() if "<locals>" not in name}

    found = {path: classes(path.read_bytes(), of_classes=True) for path in SOURCES}
    assert found == {path: classes(path.read_bytes(), of_classes=False) for path in SOURCES}
    assert sum(map(len, found.values())) > 500
