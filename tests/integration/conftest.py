"""What every test of whole runs needs: the profiles that others have made."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def _shared(shared_profiles):
    """Profile nothing twice."""
