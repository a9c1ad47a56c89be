"""Pictures and tables of runs, as one HTML file; the only package that needs matplotlib."""

from stagewise.errors import ConfigError

try:
    import matplotlib  # noqa: F401
except ImportError:
    raise ConfigError("a report needs matplotlib: type `pip install 'stagewise[report]'`.") from None
