"""Are the programs that Thaw stands on here, and new enough?"""

import platform
from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import Requirement

from app.doctor.findings import Finding, error, warning, well
from app.store.sqlite_faults import warning_of

ABOUT = "versions"
NAMED = ("torch", "torchvision", "sqlalchemy", "pydantic", "fastapi")


def look(database_url: str) -> Iterator[Finding]:
    """Python, the packages that Thaw's own metadata asks for, and SQLite's known fault."""
    wrong = list(_wrong_packages())
    if wrong:
        yield error(ABOUT, "; ".join(wrong), "install Thaw again: `make setup`, or `pip install --upgrade .`")
    else:
        named = ", ".join(f"{name} {_version(name)}" for name in NAMED)
        yield well(ABOUT, f"Python {platform.python_version()}, {named}")
    fault = warning_of(database_url)
    if fault:
        remedy = "a Python with SQLite 3.51.3 or newer, or THAW_DATABASE_URL=postgresql://…; back up often"
        yield warning(ABOUT, fault.partition(":")[0], remedy)


def _wrong_packages() -> Iterator[str]:
    try:
        wanted = metadata.requires("thaw") or []
    except metadata.PackageNotFoundError:
        yield "Thaw itself is not installed in this Python"
        return
    for line in wanted:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        found = _version(requirement.name)
        if found is None:
            yield f"{requirement.name} is not installed"
        elif not requirement.specifier.contains(found, prereleases=True):
            yield f"{requirement.name} {found} is installed, and Thaw needs {requirement.specifier}"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
