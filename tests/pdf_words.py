"""The text of a PDF file, as `pdftotext` finds it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

needs_pdftotext = pytest.mark.skipif(shutil.which("pdftotext") is None, reason="needs pdftotext (poppler-utils)")


def pdf_text(path: Path) -> str:
    """Return the text of a PDF file, with one blank for any space between words."""
    asked = ["pdftotext", "-layout", str(path), "-"]
    return " ".join(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split())
