import re

from app.store.ids import new_id


def test_id_names_its_kind_and_is_lowercase():
    assert re.fullmatch(r"job_[0-9a-f]{24}", new_id("job"))


def test_ids_differ():
    assert len({new_id("job") for _ in range(1000)}) == 1000
