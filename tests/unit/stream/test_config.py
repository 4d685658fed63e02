"""What Redis records of a store: by whoever comes first, per STORE_URL, and another one is refused with a way out."""

from __future__ import annotations

import re

import pytest

from tests.support.partition_owner import Raw
from worker.errors import SettingsError
from worker.stream.client import Client
from worker.stream.config import record_or_check, record_or_check_store, record_settings
from worker.stream.keys import Keys

URL = "file:///var/lib/recordings"


async def test_the_first_to_come_records_a_store_and_others_must_have_the_same(client: Client, keys: Keys) -> None:
    for _ in range(2):
        await record_or_check_store(client, keys, URL, "one")
    await record_or_check_store(client, keys, f"{URL}/elsewhere", "two")
    with pytest.raises(SettingsError, match=rf"STORE_URL is {URL}, .*one, this one is two.* may not be mounted"):
        await record_or_check_store(client, keys, URL, "two")


async def test_an_empty_directory_is_not_taken_for_the_store_and_not_recorded(
    client: Client, keys: Keys, raw: Raw
) -> None:
    await record_or_check_store(client, keys, URL, "")
    assert await raw.hgetall(keys.config) == {}
    await record_or_check_store(client, keys, URL, "one")
    with pytest.raises(SettingsError, match="this one is empty"):
        await record_or_check_store(client, keys, URL, "")


async def test_the_command_in_the_sentence_accepts_the_new_directory(client: Client, keys: Keys, raw: Raw) -> None:
    await record_or_check_store(client, keys, URL, "one")
    with pytest.raises(SettingsError) as caught:
        await record_or_check_store(client, keys, URL, "two")
    command = re.search(r"redis-cli (HDEL \S+ store:[0-9a-f]{8})$", str(caught.value))
    assert command is not None
    await raw.execute_command(*command[1].split())
    await record_or_check_store(client, keys, URL, "two")


@pytest.mark.parametrize(
    ("record", "allowed", "total"),
    [
        ({"partitions": "8", "contract": "1"}, [8], 8),  # of a version without layouts
        ({"layouts": "8,64", "contract": "1"}, [8, 64], 64),
        ({"partitions": "8", "layouts": "8,64", "contract": "1"}, [8, 64], 64),
        ({"partitions": "8", "layouts": "64", "contract": "1"}, [64], 64),  # the list is what counts
    ],
)
async def test_each_listed_number_of_partitions_is_allowed_and_no_other(
    client: Client, keys: Keys, raw: Raw, record: dict[str, str], allowed: list[int], total: int
) -> None:
    await raw.hset(keys.config, mapping=record)
    for number in (8, 64, 16):
        if number in allowed:
            assert (await record_or_check(client, keys, number)).total == total
        else:
            with pytest.raises(SettingsError, match=f"PARTITIONS is {number}, but"):
                await record_or_check(client, keys, number)
    assert (await record_or_check(client, keys, None)).total == total
    assert await client.run(record_settings(keys, 16)) == [
        str(record.get("partitions", "8")).encode(),
        b"1",
        str(record.get("layouts", "8")).encode(),
    ]
