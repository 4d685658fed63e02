"""A page on the shared Redis and a directory, and clients of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.archive_fixtures import local_folder
from tests.support.web_page import web_page

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import aiohttp

    from tests.support.web_page import WebPage
    from worker.settings import Settings

__all__ = ["local_folder"]


@pytest.fixture
async def page(settings: Callable[..., Settings]) -> AsyncIterator[WebPage]:
    async with web_page(settings()) as served:
        yield served


@pytest.fixture
async def http(page: WebPage) -> AsyncIterator[aiohttp.ClientSession]:
    """A client that has used the link."""
    async with page.entered() as session:
        yield session
