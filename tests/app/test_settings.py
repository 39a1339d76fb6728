import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.settings import PREFIX, Settings, SettingsError, load_settings


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch):
    for name in [name for name in os.environ if name.upper().startswith(PREFIX)]:
        monkeypatch.delenv(name)


def _problem(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as problem:
        load_settings()
    return str(problem.value)


def test_nothing_needs_to_be_set(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    settings = load_settings()
    assert settings.home_dir == tmp_path / "thaw-home"
    assert (settings.data_dir, settings.weights_dir) == (tmp_path / "data", tmp_path / "weights")
    assert settings.artifacts_dir == tmp_path / "thaw-home" / "artifacts"
    assert settings.cache_dir == tmp_path / "thaw-home" / "cache"
    assert settings.doorbells_dir == tmp_path / "thaw-home" / "doorbells"
    assert settings.database_url == f"sqlite:///{tmp_path}/thaw-home/thaw.db"
    assert (settings.host, settings.port, settings.device) == ("127.0.0.1", 8321, "auto")
    assert settings.backbones == ()
    assert (settings.lease_seconds, settings.poll_seconds) == (30.0, 1.0)
    assert (settings.grace_seconds, settings.stall_seconds) == (20.0, 900.0)


def test_every_setting_is_explained():
    assert all(field.description for field in Settings.model_fields.values())


def test_every_setting_is_read_from_its_variable(monkeypatch):
    values = {
        "home_dir": "/srv/thaw",
        "data_dir": "/srv/data",
        "weights_dir": "/srv/weights",
        "database_url": "postgresql+psycopg://thaw@db/thaw",
        "host": "0.0.0.0",
        "port": "80",
        "backbones": "zoo.nets:tiny, zoo.nets:small",
        "device": "cuda:1",
        "data_workers": "3",
        "lease_seconds": "5",
        "poll_seconds": "1.5",
        "grace_seconds": "6",
        "stall_seconds": "7",
        "job_days": "90",
        "checkpoint_days": "1.5",
        "cache_bytes": "1000000",
        "feature_memory_bytes": "500000",
        "allowed_hosts": "Thaw.example.org,*.lab",
        "proxies": "10.0.0.0/8,::1",
        "requests_per_second": "12.5",
        "client_seconds": "7",
        "upload_bytes": "2000000",
        "upload_files": "300",
        "predict_device": "cuda:2",
        "predict_bytes": "4000",
        "owner_jobs": "5",
        "owner_bytes": "6000",
    }
    assert set(values) == set(Settings.model_fields)
    for name, value in values.items():
        monkeypatch.setenv(f"THAW_{name.upper()}", value)
    settings = load_settings()
    assert settings.home_dir == Path("/srv/thaw")
    assert settings.database_url == "postgresql+psycopg://thaw@db/thaw"
    assert settings.backbones == ("zoo.nets:tiny", "zoo.nets:small")
    assert settings.allowed_hosts == ("thaw.example.org", "*.lab")
    assert settings.proxies == ("10.0.0.0/8", "::1")
    assert (settings.port, settings.data_workers, settings.poll_seconds) == (80, 3, 1.5)


def test_database_lies_in_the_home_folder_unless_it_is_set(monkeypatch):
    monkeypatch.setenv("THAW_HOME_DIR", "/srv/thaw")
    assert load_settings().database_url == "sqlite:////srv/thaw/thaw.db"


def test_empty_variable_counts_as_unset(monkeypatch):
    monkeypatch.setenv("THAW_PORT", "")
    assert load_settings().port == 8321


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("THAW_PORT", "99999", "THAW_PORT is '99999': input should be less than or equal to 65535."),
        ("THAW_PORT", "http", "THAW_PORT is 'http': input should be a valid integer"),
        ("THAW_DATA_WORKERS", "-1", "THAW_DATA_WORKERS is '-1': input should be greater than or equal to 0"),
        ("THAW_LEASE_SECONDS", "0", "THAW_LEASE_SECONDS is '0': input should be greater than 0"),
        ("THAW_LEASE_SECONDS", "inf", "THAW_LEASE_SECONDS is 'inf': input should be a finite number"),
        ("THAW_DEVICE", "gpu", "THAW_DEVICE is 'gpu': string should match"),
        ("THAW_BACKBONES", "a.b:c,nets", "THAW_BACKBONES: 'nets' is not of the form package.module:factory."),
        (
            "THAW_ALLOWED_HOSTS",
            "a.org,http://b.org",
            "THAW_ALLOWED_HOSTS: 'http://b.org' is no name of a host",
        ),
        ("THAW_ALLOWED_HOSTS", "*", "THAW_ALLOWED_HOSTS: '*' is no name of a host"),
        ("THAW_PROXIES", "proxy.org", "THAW_PROXIES: 'proxy.org' is neither an address nor a network"),
        ("THAW_DATABASE_URL", "sqlite://", "THAW_DATABASE_URL: a database is sqlite:///FILE or"),
        ("THAW_DATABASE_URL", "sqlite:///:memory:", "THAW_DATABASE_URL: a database is sqlite:///FILE or"),
    ],
)
def test_invalid_setting_is_told_in_one_sentence(monkeypatch, name, value, said):
    problem = _problem(monkeypatch, name, value)
    assert problem.startswith(said)
    assert "\n" not in problem


def test_all_invalid_settings_are_told_at_once(monkeypatch):
    monkeypatch.setenv("THAW_PORT", "x")
    problem = _problem(monkeypatch, "THAW_DEVICE", "gpu")
    assert "THAW_PORT" in problem
    assert "THAW_DEVICE" in problem


def test_password_is_neither_printed_nor_complained_about(monkeypatch):
    assert "secret" not in _problem(monkeypatch, "THAW_DATABASE_URL", "mysql://thaw:secret@db/thaw")
    monkeypatch.setenv("THAW_DATABASE_URL", "postgresql://thaw:secret@db/thaw")
    assert "secret" not in repr(load_settings())


def test_settings_do_not_change():
    with pytest.raises(ValidationError):
        setattr(load_settings(), "port", 1)  # noqa: B010 (mypy knows, too)


def test_settings_and_store_load_without_torch():
    code = "import sys, app.settings, app.store.migrate, app.store.attempts; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
