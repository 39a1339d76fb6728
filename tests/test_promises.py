import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from tests.promises import BEGIN, END, Promise, insert, machine, table

ROOT = Path(__file__).parent.parent
SUITE = """
import pytest

pytestmark = pytest.mark.promise("Doors close.")


@pytest.mark.parametrize("door", [1, 2])
def test_doors(door, tried):
    tried(10)
    assert door == 1


def test_gates():
    pass


@pytest.fixture
def lock():
    raise RuntimeError("there is no lock")


@pytest.mark.promise("Locks hold.")
def test_locks(lock):
    pass
"""
DOCUMENT = f"# Doors\n\nbefore\n\n{BEGIN}\nold\n{END}\n\nafter\n"


@pytest.fixture
def run(tmp_path):
    """Runs tests that are partly broken, with options."""
    (tmp_path / "test_doors.py").write_text(SUITE)
    (tmp_path / "doors.md").write_text(DOCUMENT)

    def start(*options):
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.conftest"]
        command += ["-c", "/dev/null", "--rootdir", str(tmp_path), *options, str(tmp_path / "test_doors.py")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout, (tmp_path / "doors.md").read_text()

    return start


def test_a_run_writes_what_it_tried_and_what_failed_into_the_document(run, tmp_path):
    printed, written = run("--promises", str(tmp_path / "doors.md"))
    assert "2 promises, 22 tries, 2 failures" in printed
    assert "| Doors close. | 21 | 1 |\n| Locks hold. | 1 | 1 |" in written
    assert "\nold\n" not in written
    assert written.startswith("# Doors\n\nbefore\n")
    assert written.endswith(f"{END}\n\nafter\n")
    assert f"On {date.today().isoformat()}, on " in written


def test_a_run_that_is_broken_off_writes_nothing(run, tmp_path):
    printed, written = run("--promises", str(tmp_path / "doors.md"), "-x")
    assert "1 promises, 20 tries, 1 failures\nbroken: Doors close.\n" in printed
    assert written == DOCUMENT


def test_a_document_that_is_not_there_is_told_before_the_tests_run(run, tmp_path):
    printed, _ = run("--promises", str(tmp_path / "no.md"))
    assert "promises," not in printed


def test_without_a_document_the_figures_are_printed_alone(run):
    printed, written = run()
    assert "2 promises, 22 tries, 2 failures" in printed
    assert written == DOCUMENT


def test_a_document_without_a_place_for_the_table_is_refused():
    with pytest.raises(ValueError, match="table promises"):
        insert("# Doors\n", "content")


def test_the_reliability_document_has_a_place_for_the_table():
    assert "content" in insert((ROOT / "docs" / "reliability.md").read_text(), "content")


def test_large_numbers_can_be_read():
    row = table([Promise("Doors close.", 12_345, 0)], date(2026, 1, 2), "a machine").splitlines()[-1]
    assert row == "| Doors close. | 12,345 | 0 |"


def test_the_machine_is_told_without_its_name(monkeypatch):
    monkeypatch.setattr("platform.node", lambda: pytest.fail("the machine's name was asked for"))
    assert "cores" in machine()
    assert "PostgreSQL" in machine()
