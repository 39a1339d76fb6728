import pytest


def test_without_keys_everybody_is_the_admin(api):
    assert api.get("/v1/caller").json() == {
        "object": "caller",
        "scope": "admin",
        "owner": None,
        "key": None,
        "expires_at": None,
    }


@pytest.mark.parametrize("scope", ["read", "submit", "admin"])
def test_the_caller_is_what_the_key_says(holder, owner, scope):
    somebody = holder(scope, owner("zoo"), lifetime_seconds=600)
    found = somebody.http.get("/v1/caller").json()
    assert (found["scope"], found["owner"], found["key"]) == (scope, owner("zoo"), somebody.row.id)
    assert found["expires_at"] == somebody.row.expires_at
    assert somebody.key not in str(found)


def test_a_key_that_names_no_owner_and_does_not_end_says_so(holder):
    found = holder("read").http.get("/v1/caller").json()
    assert (found["owner"], found["expires_at"]) == (None, None)
