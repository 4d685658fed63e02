"""One browser for all tests of a session, and a page with real audio behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.archive_fixtures import local_folder
from tests.support.browser import Browser
from tests.support.web_page import web_page
from worker.web.site import PageOptions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.support.browser import Window
    from tests.support.web_page import WebPage
    from worker.settings import Settings

__all__ = ["local_folder"]


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """It starts once per process of tests."""
    started = Browser(tmp_path_factory.mktemp("browser"))
    yield started
    started.close()


@pytest.fixture
async def page(settings: Callable[..., Settings]) -> AsyncIterator[WebPage]:
    """The page, on the shared Redis and a directory."""
    async with web_page(settings(), PageOptions(allow_replay=True)) as served:
        yield served


@pytest.fixture
async def window(browser: Browser, page: WebPage) -> AsyncIterator[Window]:
    """A window that has come in by the link; it must not complain of anything, nor ask another server."""
    async with browser.window() as opened:
        await opened.go(page.link)
        await opened.until("location.pathname === '/' && document.querySelector('h1')")
        yield opened
        assert not opened.complaints
        assert not [url for url in opened.requested if not url.startswith((page.url, "data:", "chrome:", "about:"))]
