"""Where fetched data lies: the folder that ``PYROLVM_DATA`` names, or the platform's cache."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "PYROLVM_DATA"


def cache_folder() -> Path:
    """The folder that holds one folder for each fetched data set; it need not exist yet.

    Returns:
        ``$PYROLVM_DATA`` if that is set, else the cache folder of the platform.
    """
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named).expanduser()
    import pooch

    return Path(pooch.os_cache("pyrolvm"))
