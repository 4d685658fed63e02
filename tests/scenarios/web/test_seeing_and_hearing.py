"""The page in a real browser: every view with real data behind it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import numpy as np

from tests.support.noises import tone
from tests.support.stored_blobs import T0

if TYPE_CHECKING:
    from tests.support.browser import Window
    from tests.support.stored_blobs import ConversationFolder
    from tests.support.web_page import WebPage

RATE = 16000
