"""What pages load from the server: our modules and styles, and Plotly from its package.

Addresses hold a digest of what is behind them: browsers may keep it for good, and see an update at once.
"""

import gzip
import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

STATIC = Path(__file__).parent / "static"
TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".html": "text/html; charset=utf-8",
}
LEVEL = 6  # of gzip: Plotly in half a second
PLOTLY = "plotly.min.js"


@dataclass(frozen=True)
class Asset:
    """A file as it is sent: compressed, or to the few that cannot take that, as it is."""

    media_type: str
    content: bytes
    compressed: bytes
    digest: str


def _asset(path: Path) -> Asset:
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:16]
    # The time is left out, so that the same file is the same bytes.
    return Asset(TYPES[path.suffix], content, gzip.compress(content, LEVEL, mtime=0), digest)


@cache
def our_files() -> Mapping[str, Asset]:
    """The files beside this module by name."""
    return {path.name: _asset(path) for path in sorted(STATIC.iterdir()) if path.suffix in TYPES}


@cache
def our_version() -> str:
    """Of all our files together: they load each other by name, and belong together."""
    together = "".join(f"{name} {asset.digest}\n" for name, asset in our_files().items())
    return hashlib.sha256(together.encode()).hexdigest()[:16]


@cache
def plotly() -> Asset:
    """Plotly's bundle.

    Raises:
        FileNotFoundError: the package is not installed.
    """
    return _asset(_plotly_file())


def plotly_version() -> str:
    """Of the package; its bundle changes with it alone."""
    return importlib.metadata.version("plotly")


def _plotly_file() -> Path:
    found = importlib.util.find_spec("plotly")  # not imported: its Python is of no use here
    if found is None or found.origin is None:
        raise FileNotFoundError("the package plotly is not installed")
    return Path(found.origin).parent / "package_data" / PLOTLY
