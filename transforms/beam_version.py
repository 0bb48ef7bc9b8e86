"""The one version of Beam whose worker the plugins change: they replace what another version may have moved."""

from typing import Final

import apache_beam

PINNED: Final = "2.70.0"


def check(plugin: str) -> None:
    """RuntimeError when the Beam that is installed is another one; `plugin` is the module that asks.

    Not an ImportError: of that a worker only writes a warning, and goes on without the plugin.
    """
    if apache_beam.__version__ != PINNED:
        raise RuntimeError(
            f"{plugin} changes Beam's worker as it is in {PINNED}, and apache-beam is {apache_beam.__version__}; "
            "install the pinned requirements, or look at each change that the module makes"
        )
