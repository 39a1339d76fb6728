"""What is known of a dataset's files, kept for the next check: a Parquet file for each dataset.

Nothing depends on it. One that is absent, damaged, or of other versions is made anew; a disk that is full
keeps nothing. Of two processes that write at once the last one's file stays, whole.
"""

import hashlib
import json
import os
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import imagehash
import PIL
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import features

from finetune.data import facts, looks, opening
from finetune.data.facts import FileFacts
from finetune.data.looks import Look

ABANDONED_AFTER = 3600.0  # seconds after which nobody writes a temporary file any more

# What facts depend on besides the file.
MAKERS = json.dumps(
    [
        PIL.__version__,
        features.version("jpg"),
        imagehash.__version__,
        *(
            hashlib.sha256(Path(source).read_bytes()).hexdigest()
            for source in (__file__, facts.__file__, looks.__file__, opening.__file__)
        ),
    ]
).encode()

SCHEMA = pa.schema(
    {
        "name": pa.binary(),
        "size": pa.int64(),
        "mtime_ns": pa.int64(),
        "ctime_ns": pa.int64(),
        "verdict": pa.string(),
        "reason": pa.string(),
        "sha256": pa.string(),
        "width": pa.int32(),
        "height": pa.int32(),
        "format": pa.string(),
        "entropy": pa.float64(),
        "hash": pa.binary(),
        "thumbnail": pa.binary(),
    },
    metadata={b"thaw": MAKERS},
)

Facts = Mapping[str, FileFacts]  # by path relative to the data root


def file_of(checks_dir: Path, root: Path, dataset: str) -> Path:
    """Where the facts of a dataset below a data root are kept."""
    key = hashlib.sha256(repr((os.fspath(root), dataset)).encode()).hexdigest()
    return checks_dir / f"{key}.parquet"


def load(file: Path) -> dict[str, FileFacts]:
    """What is kept; nothing where it is absent or of no use."""
    try:
        with pq.ParquetFile(file, page_checksum_verification=True) as parquet:
            if not parquet.schema_arrow.equals(SCHEMA, check_metadata=True):
                return {}
            rows = parquet.read().to_pylist()
        return {os.fsdecode(row["name"]): _facts(row) for row in rows}
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        return {}


def save(file: Path, facts: Facts) -> None:
    """Keeps facts that would be found again, instead of what was kept before."""
    rows = [_row(name, one) for name, one in facts.items() if one.lasts]
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(file)
        try:
            table = pa.Table.from_pylist(rows, schema=SCHEMA)
            pq.write_table(table, temporary, write_page_checksum=True)
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)


def _remove_abandoned(file: Path) -> None:
    for left in file.parent.glob(f".{file.name}.*"):
        if abs(time.time() - left.stat().st_mtime) > ABANDONED_AFTER:
            left.unlink(missing_ok=True)


def _row(name: str, one: FileFacts) -> dict[str, object]:
    size, mtime_ns, ctime_ns = one.stamp
    return {
        "name": os.fsencode(name),
        "size": size,
        "mtime_ns": mtime_ns,
        "ctime_ns": ctime_ns,
        "verdict": one.verdict,
        "reason": one.reason,
        "sha256": one.sha256,
        "width": one.width,
        "height": one.height,
        "format": one.format,
        **vars(one.look),
    }


def _facts(row: dict[str, Any]) -> FileFacts:
    fields = {name: value for name, value in row.items() if name != "name"}
    stamp = (fields.pop("size"), fields.pop("mtime_ns"), fields.pop("ctime_ns"))
    look = Look(**{name: fields.pop(name) for name in ("entropy", "hash", "thumbnail")})
    return FileFacts(stamp=stamp, look=look, **fields)
