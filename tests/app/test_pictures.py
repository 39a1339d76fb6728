"""A drawer of pictures that does not answer, and one that has too much to do."""

import asyncio
import os
import signal

import httpx
import pytest

from app import pictures
from app.main import create_app
from app.settings import Settings
from app.store.migrate import migrate


@pytest.fixture
def gallery(tmp_path, draw_photographs):
    """An application with a few photographs; calls a coroutine with its client and its pictures."""
    settings = Settings(home_dir=tmp_path / "home", data_dir=tmp_path / "data")
    migrate(settings.database_url)
    draw_photographs(tmp_path / "data" / "insects", train=2, val=1)
    app = create_app(settings)

    async def visit(act):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            listed = (await client.get("/v1/images", params={"dataset": "insects"})).json()["data"]
            addresses = [f"/v1/images/{image['id']}?dataset=insects" for image in listed]
            await act(client, addresses)

    yield app, lambda act: asyncio.run(visit(act))
    app.state.pictures.close()
    app.state.db.dispose()


def test_a_drawer_that_hangs_is_a_503_that_says_when_to_ask_again_and_the_next_one_draws(
    gallery, monkeypatch
):
    app, visit = gallery

    async def hang(client, addresses):
        assert (await client.get(addresses[0])).status_code == 200
        os.kill(app.state.pictures._aside.pid, signal.SIGSTOP)
        monkeypatch.setattr(pictures, "PATIENCE", 0.5)
        response = await client.get(addresses[1])
        assert (response.status_code, response.json()["error"]["code"]) == (503, "unavailable")
        assert int(response.headers["Retry-After"]) > 0
        monkeypatch.undo()
        assert (await client.get(addresses[1])).status_code == 200

    visit(hang)


def test_more_requests_than_may_wait_are_told_so_at_once_and_those_that_wait_are_answered(
    gallery, monkeypatch
):
    _, visit = gallery
    monkeypatch.setattr(pictures, "MOST_WAITING", 2)

    async def crowd(client, addresses):
        assert len(addresses) == 6
        answers = await asyncio.gather(*(client.get(address) for address in addresses))
        assert sorted(answer.status_code for answer in answers) == [200, 200, 503, 503, 503, 503]
        assert (await client.get(addresses[-1])).status_code == 200

    visit(crowd)
