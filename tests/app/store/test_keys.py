import pytest
from sqlalchemy import text

from app.store import keys
from app.store.errors import KeyNotFound
from app.store.scopes import Scope

SHA = "ab" * 32


@pytest.fixture
def make(db):
    def make(sha256=SHA, scope=Scope.READ, owner="zoo", lifetime_seconds=None):
        return keys.create_key(db, sha256=sha256, scope=scope, owner=owner, lifetime_seconds=lifetime_seconds)

    return make


def test_a_key_is_found_by_its_sha256_and_is_what_it_was_made_as(db, make):
    made = make(lifetime_seconds=60)
    assert keys.find_key(db, SHA) == made
    assert (made.scope, made.owner, made.usable) == (Scope.READ, "zoo", True)
    assert made.expires_at == pytest.approx(made.created_at + 60, abs=1)
    assert keys.find_key(db, "cd" * 32) is None


def test_a_sha256_that_only_begins_as_a_keys_finds_nothing(db, make):
    made = make()
    other = SHA[:-1] + "c"
    assert keys.key_id(other) == made.id
    assert keys.find_key(db, other) is None


def test_a_keys_name_does_not_say_its_sha256(db, make):
    made = make()
    assert made.id == "key_" + SHA[:16]
    assert SHA not in repr(made)


def test_a_key_without_a_lifetime_does_not_expire_and_one_whose_end_has_come_has(db, make):
    assert make().usable
    assert not make("cd" * 32, lifetime_seconds=-1).usable
    found = keys.find_key(db, "cd" * 32)
    assert found is not None
    assert found.expired


def test_a_revoked_key_stays_and_is_of_no_use(db, make):
    made = make()
    revoked = keys.revoke_key(db, made.id)
    assert revoked.revoked_at is not None
    assert not revoked.usable
    assert keys.find_key(db, SHA) == revoked
    assert keys.revoke_key(db, made.id) == revoked  # twice changes nothing, not even the time


def test_revoking_a_key_that_is_not_there_is_told(db, make):
    make()
    with pytest.raises(KeyNotFound, match="there is no key key_0; `thaw keys list`"):
        keys.revoke_key(db, "key_0")
    assert keys.list_keys(db)[0].usable


@pytest.mark.promise("A server that has had a key never opens again by itself")
def test_a_key_counts_as_one_that_there_was_when_it_is_of_no_use_any_more(db, make):
    assert not keys.any_key(db)
    assert not keys.any_usable_key(db)
    expired = make(lifetime_seconds=-1)
    assert keys.any_key(db)
    assert not keys.any_usable_key(db)
    made = make("cd" * 32)
    assert keys.any_usable_key(db)
    for key in (made, expired):
        keys.revoke_key(db, key.id)
    assert keys.any_key(db)
    assert not keys.any_usable_key(db)


def test_keys_are_listed_the_newest_first(db, make):
    made = [make(f"{number:02x}" * 32, owner=f"o{number}") for number in range(3)]
    assert keys.list_keys(db) == sorted(made, key=lambda key: (-key.created_at, key.id))


def test_a_scope_that_there_is_not_cannot_be_stored(db, make):
    make()
    with pytest.raises(Exception, match="ck_api_keys_scope"), db.write() as connection:
        connection.execute(text("UPDATE api_keys SET scope = 'root'"))


@pytest.mark.parametrize(
    ("has", "may"),
    [
        (Scope.READ, [Scope.READ]),
        (Scope.SUBMIT, [Scope.READ, Scope.SUBMIT]),
        (Scope.ADMIN, [Scope.READ, Scope.SUBMIT, Scope.ADMIN]),
    ],
)
def test_a_scope_allows_what_those_before_it_do(has, may):
    assert [scope for scope in Scope if has.allows(scope)] == may
