import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from finetune.cache import DEFAULT_BYTES

PREFIX = "THAW_"

_FACTORY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_HOST = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?")
_DATABASES = re.compile(r"sqlite:///.+|postgresql(\+\w+)?://.+")


class SettingsError(Exception):
    """A setting is not valid; the message is one sentence for the operator."""


def _split(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _check_factory(value: str) -> str:
    if not _FACTORY.fullmatch(value):
        raise ValueError(f"{value!r} is not of the form package.module:factory")
    return value


def _check_host(value: str) -> str:
    name = value.lower()
    if not _HOST.fullmatch(name):
        raise ValueError(
            f"{value!r} is no name of a host, such as thaw.example.org or *.example.org, without a port"
        )
    return name


def _check_proxy(value: str) -> str:
    try:
        ipaddress.ip_network(value)
    except ValueError:
        raise ValueError(f"{value!r} is neither an address nor a network, such as 10.0.0.0/8") from None
    return value


def _check_database(value: str) -> str:
    if not _DATABASES.fullmatch(value) or value.endswith(":memory:"):
        raise ValueError("a database is sqlite:///FILE or postgresql://…")
    return value


def _sqlite_in_home(data: dict[str, Any]) -> str:
    return f"sqlite:///{data['home_dir'] / 'thaw.db'}"


# Absolute, because the server, the worker and its children need not share a working directory.
Folder = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]
Factory = Annotated[str, AfterValidator(_check_factory)]
Host = Annotated[str, AfterValidator(_check_host)]
Proxy = Annotated[str, AfterValidator(_check_proxy)]


class Settings(BaseSettings):
    """What an operator may set, each as the environment variable `THAW_` + the field's name in capitals."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, validate_default=True, allow_inf_nan=False
    )

    home_dir: Folder = Field(
        default=Path("thaw-home"),
        description="Folder of what Thaw writes: its SQLite file, artifacts, downloaded weights, a cache.",
    )
    data_dir: Folder = Field(default=Path("data"), description="Folder with the datasets that jobs may name.")
    weights_dir: Folder = Field(
        default=Path("weights"), description="Folder with the weight files that jobs may name."
    )
    database_url: Annotated[str, AfterValidator(_check_database)] = Field(
        default_factory=_sqlite_in_home,
        repr=False,  # it may hold a password
        description="sqlite:///FILE or postgresql://…; unset: the file thaw.db in THAW_HOME_DIR.",
    )
    host: str = Field(default="127.0.0.1", description="Address that the HTTP server listens on.")
    port: int = Field(
        default=8321, ge=0, le=65535, description="Port of the HTTP server; 0 takes any free one."
    )
    allowed_hosts: Annotated[tuple[Host, ...], NoDecode, BeforeValidator(_split)] = Field(
        default=(),
        description="Names by which clients may call the server, comma-separated, beside localhost, "
        "THAW_HOST and addresses; *.example.org is every name below it.",
    )
    proxies: Annotated[tuple[Proxy, ...], NoDecode, BeforeValidator(_split)] = Field(
        default=(),
        description="Addresses of reverse proxies, comma-separated, whose X-Forwarded-For "
        "says who a client is.",
    )
    requests_per_second: float = Field(
        default=300.0,
        ge=0,
        description="Requests that each client may send on average; twice as many at once. 0: any number.",
    )
    client_seconds: float = Field(
        default=60.0,
        gt=0,
        description="Seconds after which a client that is silent in the middle of a request is given up.",
    )
    backbones: Annotated[tuple[Factory, ...], NoDecode, BeforeValidator(_split)] = Field(
        default=(), description="Backbones of your own, comma-separated, each as package.module:factory."
    )
    device: str = Field(
        default="auto",
        pattern=r"^(auto|(cpu|cuda|mps|xpu)(:\d+)?)$",
        description="Where to train: auto, cpu, cuda, cuda:1, mps, …",
    )
    data_workers: int = Field(
        default=0,
        ge=0,
        description="Processes that load images; 0: a thread does, which is enough once images are decoded.",
    )
    lease_seconds: float = Field(
        default=30.0, gt=0, description="Seconds without a heartbeat after which a worker counts as lost."
    )
    poll_seconds: float = Field(
        default=1.0,
        gt=0,
        description="Seconds between two looks of an idle worker for a job; the server wakes it, if it can.",
    )
    grace_seconds: float = Field(default=20.0, gt=0, description="Seconds that an attempt may take to stop.")
    stall_seconds: float = Field(
        default=900.0,
        gt=0,
        description="Seconds after which a step that has not ended counts as hung, or an attempt that does "
        "nothing.",
    )
    job_days: float = Field(
        default=0.0,
        ge=0,
        description="Days after its end after which a job is deleted with all its files; 0 keeps jobs.",
    )
    checkpoint_days: float = Field(
        default=0.0,
        ge=0,
        description="Days after its end after which a job keeps its best checkpoint alone; 0 keeps all.",
    )

    cache_bytes: int = Field(
        default=DEFAULT_BYTES,
        ge=0,
        description="Bytes of decoded images and features that are kept for later jobs; 0 keeps none.",
    )
    feature_memory_bytes: int = Field(
        default=2 * 2**30,
        ge=0,
        description="Bytes of a stage's features that stay in memory; larger ones are read from the cache.",
    )
    upload_bytes: int = Field(
        default=20 * 2**30,
        ge=0,
        description="Bytes that an uploaded dataset may have, packed and unpacked; 0 refuses uploads.",
    )
    upload_files: int = Field(default=1_000_000, ge=1, description="Files that an uploaded dataset may have.")
    predict_device: str = Field(
        default="cpu",
        pattern=r"^(auto|(cpu|cuda|mps|xpu)(:\d+)?)$",
        description="Where the server predicts: cpu, auto, cuda, cuda:1, mps, …",
    )
    predict_bytes: int = Field(
        default=32 * 2**20, ge=1, description="Bytes that an image to be predicted may have."
    )

    owner_jobs: int = Field(
        default=2000,
        ge=1,
        description="Jobs of one owner that may be queued or paused; admins have no limit.",
    )
    owner_bytes: int = Field(
        default=2**40,
        ge=0,
        description="Bytes of one owner's uploads, checkpoints, exports and reports; admins have no limit.",
    )

    @property
    def artifacts_dir(self) -> Path:
        """Folder of the checkpoints and everything else that jobs leave behind."""
        return self.home_dir / "artifacts"

    @property
    def orphans_file(self) -> Path:
        """File with the artifacts that belong to no row, and when each was first seen."""
        return self.home_dir / "orphans.json"

    @property
    def doorbells_dir(self) -> Path:
        """Folder of what the server wakes workers by; it may be emptied at any time."""
        return self.home_dir / "doorbells"

    @property
    def feed_doorbells_dir(self) -> Path:
        """Folder of what servers with streams are woken by; it may be emptied at any time."""
        return self.home_dir / "feed-doorbells"

    @property
    def checks_dir(self) -> Path:
        """Folder of what is known of the datasets' files."""
        return self.home_dir / "checks"

    @property
    def cache_dir(self) -> Path:
        """Folder of what jobs share and can compute anew; it may be emptied at any time."""
        return self.home_dir / "cache"


def load_settings() -> Settings:
    """Read the settings from the environment.

    Raises:
        SettingsError: a variable is not valid; the message names it and says what is wrong.
    """
    try:
        return Settings()
    except ValidationError as error:
        problems = error.errors(include_url=False)
    raise SettingsError("; ".join(_sentence(problem) for problem in problems) + ".")


def _sentence(problem: ErrorDetails) -> str:
    name = f"{PREFIX}{problem['loc'][0]}".upper()
    if problem["type"] == "value_error":  # our own messages say what they need of the value, and no password
        return f"{name}: {problem['ctx']['error']}"
    message = problem["msg"][:1].lower() + problem["msg"][1:]
    return f"{name} is {str(problem['input'])!r}: {message}"
