"""What the server loads once, for all requests."""

import asyncio
import gc
import time

from app.main import create_app
from app.settings import Settings
from app.store.migrate import migrate


def test_loaded_backbones_are_not_searched_for_garbage_until_the_server_ends(tmp_path):
    settings = Settings(home_dir=tmp_path / "home", data_dir=tmp_path / "data")
    migrate(settings.database_url)
    app = create_app(settings)
    gc.collect()

    async def serve():
        async with app.router.lifespan_context(app):
            searched = len(gc.get_objects())
            until = time.monotonic() + 60
            while not gc.get_freeze_count() and time.monotonic() < until:
                await asyncio.sleep(0.05)
            assert gc.get_freeze_count() > searched / 2  # torch alone is more than half of what there is
            assert len(gc.get_objects()) < searched / 2

    asyncio.run(serve())
    assert gc.get_freeze_count() == 0
