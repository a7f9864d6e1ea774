"""pytest finds the suite's hooks here, unless the installed package brings them."""

import os
from importlib.metadata import entry_points

_installed = any(
    point.value == "conformance.plugin" for point in entry_points(group="pytest11")
)
_autoload = not os.environ.get("PYTEST_DISABLE_PLUGIN_AUTOLOAD")

pytest_plugins = ["pytester"]
if not (_installed and _autoload):
    pytest_plugins.append("conformance.plugin")
