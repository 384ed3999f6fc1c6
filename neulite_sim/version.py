"""The version of the package, where every layer can read it."""

import time

__version__ = "0.1.0"

LOADED_AT_S = time.time()
"""When this process began to load the package, on the system's clock: a source that is younger may not be what runs."""
