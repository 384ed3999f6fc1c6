"""The pictures of the page of figures are those that the code draws, and the page shows all of them."""

import importlib.util
import re
import sys

import pytest
from docs_pages import DOCS


@pytest.fixture(scope="module")
def gallery():
    spec = importlib.util.spec_from_file_location("docs_gallery", DOCS / "gallery.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def texts(svg):
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def drawn_by(svg):
    return re.search(r"Matplotlib v[\d.]+", svg)[0]


@pytest.mark.slow
def test_the_pictures_are_what_the_code_draws(gallery, tmp_path):
    """To the byte where the matplotlib is that which drew them; other versions place things otherwise."""
    for path in gallery.draw_all(tmp_path):
        drawn, kept = path.read_text(encoding="utf-8"), (DOCS / "images" / path.name).read_text(encoding="utf-8")
        assert len(texts(drawn)) > 5
        if drawn_by(drawn) == drawn_by(kept):
            assert drawn == kept, f"run: PYTHONPATH=. python docs/gallery.py ({path.name})"
        else:
            assert set(texts(drawn)) & set(texts(kept))


def test_the_page_shows_every_picture(gallery):
    page = (DOCS / "guides" / "figures.md").read_text(encoding="utf-8")
    assert set(re.findall(r"images/(\w+)\.svg", page)) == set(gallery.FIGURES)
