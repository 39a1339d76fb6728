from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    ColumnElement,
    Double,
    Enum,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    select,
)

from app.store.scopes import NOBODY, Scope
from app.store.states import Status

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

_JSON = JSON(none_as_null=True)
_SERIAL = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up only INTEGER keys
_STATUS = Enum(
    Status,
    name="status",
    native_enum=False,
    create_constraint=True,
    length=16,
    values_callable=lambda statuses: [status.value for status in statuses],
)
_SCOPE = Enum(
    Scope,
    name="scope",
    native_enum=False,
    create_constraint=True,
    length=16,
    values_callable=lambda scopes: [scope.value for scope in scopes],
)


def _owner(default: str | None = None) -> Column[str]:
    return Column("owner", String(100), nullable=False, server_default=default)


def _job_seq(*, primary_key: bool = False) -> Column[int]:
    return Column(
        "job_seq", ForeignKey("jobs.seq", ondelete="CASCADE"), primary_key=primary_key, nullable=False
    )


experiments = Table(
    "experiments",
    metadata,
    Column("seq", _SERIAL, primary_key=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("name", Text),
    Column("metadata", _JSON, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("spec", _JSON, nullable=False),
    Column("variants", _JSON, nullable=False),
    Column("seeds", _JSON, nullable=False),
    Column("metric", String(64), nullable=False),
    Column("idempotency_key", Text),
    Column("request_hash", String(128)),
    _owner(NOBODY),
    UniqueConstraint("owner", "idempotency_key", name="uq_experiments_owner_idempotency_key"),
    sqlite_autoincrement=True,
)
Index("ix_experiments_owner", experiments.c.owner, experiments.c.seq)

jobs = Table(
    "jobs",
    metadata,
    Column("seq", _SERIAL, primary_key=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("name", Text),
    Column("status", _STATUS, nullable=False),
    Column("status_reason", Text, nullable=False),
    Column("error_code", String(64)),
    Column("error_message", Text),
    Column("error_param", Text),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("priority", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),  # the fencing number: it only ever grows
    Column("lost_attempts", Integer, nullable=False),
    Column("max_attempts", Integer, nullable=False),
    Column("worker", String(64)),
    Column("lease_until", Double),
    Column("parent", String(64)),  # no foreign key: the parent may be deleted
    Column("spec", _JSON, nullable=False),
    Column("resolved_spec", _JSON, nullable=False),
    Column("progress", _JSON),
    Column("best", _JSON),
    Column("result", _JSON),
    Column("idempotency_key", Text),
    Column("request_hash", String(128)),
    # What of an experiment the job runs; none of the three where it is a job of its own.
    Column("experiment", ForeignKey("experiments.id", ondelete="CASCADE")),
    Column("variant", Text),
    Column("seed", BigInteger),
    Column("dataset_fingerprint", String(64)),  # of the data that it trains on; set by its first attempt
    Column("branched_from", String(64)),  # a checkpoint; it is kept for as long as the branch has not ended
    _owner(NOBODY),
    CheckConstraint(
        "(status IN ('running', 'pausing', 'cancelling')) = (worker IS NOT NULL AND lease_until IS NOT NULL)",
        name="held_while_active",
    ),
    CheckConstraint(
        "(experiment IS NULL) = (variant IS NULL) AND (experiment IS NULL) = (seed IS NULL)",
        name="variant_and_seed_of_an_experiment",
    ),
    UniqueConstraint("owner", "idempotency_key", name="uq_jobs_owner_idempotency_key"),
    sqlite_autoincrement=True,  # the number of a deleted job is never given again
)
Index("ix_jobs_claim", jobs.c.status, jobs.c.priority.desc(), jobs.c.seq)
Index("ix_jobs_list", jobs.c.status, jobs.c.seq)
Index("ix_jobs_sweep", jobs.c.status, jobs.c.lease_until)
Index("ix_jobs_experiment", jobs.c.experiment, jobs.c.seq)
Index("ix_jobs_branched_from", jobs.c.branched_from, jobs.c.status)
Index("ix_jobs_finished_at", jobs.c.finished_at)
Index("ix_jobs_owner", jobs.c.owner, jobs.c.seq)
Index("ix_jobs_owner_status", jobs.c.owner, jobs.c.status, jobs.c.seq)

job_metadata = Table(
    "job_metadata",
    metadata,
    _job_seq(primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
Index("ix_job_metadata_filter", job_metadata.c.key, job_metadata.c.value, job_metadata.c.job_seq)

attempts = Table(
    "attempts",
    metadata,
    _job_seq(primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("worker", String(64), nullable=False),
    Column("started_at", Double, nullable=False),
    Column("ended_at", Double),
    Column("outcome", String(16)),
    Column("reason", Text),
)

epochs = Table(
    "epochs",
    metadata,
    _job_seq(primary_key=True),
    Column("stage_index", Integer, primary_key=True),
    Column("epoch", Integer, primary_key=True),
    Column("global_epoch", Integer, nullable=False),
    Column("stage", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("record", _JSON, nullable=False),
    Column("created_at", Double, nullable=False),
)
Index("ix_epochs_poll", epochs.c.job_seq, epochs.c.global_epoch)

events = Table(
    "events",
    metadata,
    Column("id", _SERIAL, primary_key=True),
    _job_seq(),
    Column("type", String(64), nullable=False),
    Column("level", String(16), nullable=False),
    Column("message", Text, nullable=False),
    Column("data", _JSON, nullable=False),
    Column("created_at", Double, nullable=False),
    sqlite_autoincrement=True,  # streams resume after an id, so none is given twice
)
Index("ix_events_poll", events.c.job_seq, events.c.id)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("seq", _SERIAL, primary_key=True),
    Column("id", String(64), nullable=False, unique=True),
    _job_seq(),
    Column("attempt", Integer, nullable=False),
    Column("stage", Text, nullable=False),
    Column("stage_index", Integer, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("global_epoch", Integer, nullable=False),
    Column("path", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("state_path", Text),
    Column("state_size", BigInteger),
    Column("state_sha256", String(64)),
    Column("metric", Text),
    Column("value", Double),
    Column("created_at", Double, nullable=False),
    Column("exports", _JSON),  # by format: files in other formats, and how far their outputs differ
    sqlite_autoincrement=True,
)
Index("ix_checkpoints_job", checkpoints.c.job_seq, checkpoints.c.seq)

# Where the job could go on in the middle of an epoch, if anywhere. There is one at most.
states = Table(
    "states",
    metadata,
    _job_seq(primary_key=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("attempt", Integer, nullable=False),
    Column("stage", Text, nullable=False),
    Column("stage_index", Integer, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("global_epoch", Integer, nullable=False),  # this epoch counted, too
    Column("step", Integer, nullable=False),
    Column("after_seq", BigInteger, nullable=False),  # of the newest checkpoint then; 0 where there was none
    Column("path", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("created_at", Double, nullable=False),
)

reports = Table(
    "reports",
    metadata,
    _job_seq(primary_key=True),
    Column("checkpoint", String(64), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("path", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("predictions_path", Text, nullable=False),
    Column("predictions_size", BigInteger, nullable=False),
    Column("predictions_sha256", String(64), nullable=False),
    Column("created_at", Double, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(64), primary_key=True),  # the beginning of the SHA-256, see app.store.keys
    Column("sha256", String(64), nullable=False, unique=True),  # the key itself is nowhere
    Column("scope", _SCOPE, nullable=False),
    _owner(),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("revoked_at", Double),
)
Index("ix_api_keys_owner", api_keys.c.owner, api_keys.c.id)

# Whose an uploaded dataset is. What lies in the data root without a row here was put there by the operator.
uploads = Table(
    "uploads",
    metadata,
    Column("name", String(100), primary_key=True),
    _owner(),
    Column("size", BigInteger, nullable=False),
    Column("created_at", Double, nullable=False),
)
Index("ix_uploads_owner", uploads.c.owner)


def of_job(table: Table, job_id: str) -> ColumnElement[bool]:
    """Return the condition that a row of `table` belongs to the job."""
    condition: ColumnElement[bool] = (
        table.c.job_seq == select(jobs.c.seq).where(jobs.c.id == job_id).scalar_subquery()
    )
    return condition
