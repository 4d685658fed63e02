from tests.support.stored_blobs import T0
from tests.support.speech import speech
import asyncio
from pathlib import Path

async def test_smoke(page, window, local_folder):
    for m in range(6):
        await local_folder.put(".opus.enc", T0 + 10*m + (5 if m > 3 else 0), speech(10, offset=m), described=True)
    await window.until("document.querySelector('.note')")
    Path("/tmp/now.png").write_bytes(await window.screenshot())
    await window.go(page.url + "/find")
    await window.until("document.querySelector('td')")
    Path("/tmp/find.png").write_bytes(await window.screenshot())
    await window.go(page.url + "/find?uid=user")
    await window.until("document.querySelector('td')")
    Path("/tmp/find2.png").write_bytes(await window.screenshot())
    await window.go(page.url + "/conversation?uid=user&conversation=talk")
    await window.until("document.querySelector('audio').readyState >= 1")
    await window.until("document.querySelector('.note')")
    await asyncio.sleep(1)
    Path("/tmp/conv.png").write_bytes(await window.screenshot())
    print(await window.text(), window.complaints)
    await window.go(page.url + "/letters")
    await window.until("document.querySelector('.note')")
    await window.go(page.url + "/events")
    await window.until("document.querySelector('table')")
    print(window.complaints)
