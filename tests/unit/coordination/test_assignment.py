"""The division of partitions: even, stable, and moved about once by a rollout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.coordination.assignment import ROLLOUT_MS, assign
from worker.stream.leases import Member

NOW = 10**12
LONG_AGO = NOW - 2 * ROLLOUT_MS
Owners = Sequence[str | None]


def members(*names: str, revision: str = "a", started: int = LONG_AGO) -> list[Member]:
    return [Member(name, revision, started) for name in names]


def moved(before: Owners, after: Owners) -> int:
    return sum(old is not None and old != new for old, new in zip(before, after, strict=True))


def worlds() -> st.SearchStrategy[tuple[int, list[Member], list[str | None]]]:
    """Partitions, live workers of one revision, and owners of whom some are dead."""
    names = [f"w{number}" for number in range(12)]
    return st.tuples(st.integers(1, 80), st.lists(st.sampled_from(names), min_size=1, unique=True)).flatmap(
        lambda world: st.tuples(
            st.just(world[0]),
            st.just(members(*world[1])),
            st.lists(st.sampled_from([None, *names]), min_size=world[0], max_size=world[0]),
        )
    )


@pytest.mark.slow
@given(worlds())
def test_every_worker_gets_the_floor_or_the_ceiling_of_its_share(
    world: tuple[int, list[Member], list[str | None]],
) -> None:
    partitions, alive, owners = world
    held = Counter(assign(partitions, alive, owners, NOW))
    shares = {held[member.worker] for member in alive}
    assert sum(held[member.worker] for member in alive) == partitions
    assert shares <= {partitions // len(alive), -(-partitions // len(alive))}


@pytest.mark.slow
@given(worlds())
def test_nothing_moves_that_need_not(world: tuple[int, list[Member], list[str | None]]) -> None:
    partitions, alive, owners = world
    held = Counter(owner for owner in owners if owner in {member.worker for member in alive})
    share, larger = divmod(partitions, len(alive))
    by_holding = sorted((held[member.worker] for member in alive), reverse=True)
    least = sum(max(0, count - share - (place < larger)) for place, count in enumerate(by_holding))
    of_dead = sum(owner is not None and owner not in held for owner in owners)
    assert moved(owners, assign(partitions, alive, owners, NOW)) == least + of_dead


@pytest.mark.slow
@given(worlds(), st.randoms())
def test_every_worker_computes_the_same_and_then_it_is_at_rest(
    world: tuple[int, list[Member], list[str | None]], random: object
) -> None:
    partitions, alive, owners = world
    result = assign(partitions, alive, owners, NOW)
    shuffled = list(alive)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert assign(partitions, shuffled, owners, NOW) == result
    assert assign(partitions, alive, result, NOW) == result


def assigned_one_by_one(
    partitions: int, alive: Sequence[Member], owners: Owners, rolled_out: Sequence[str]
) -> list[str | None]:
    """The same division by its definition, in the plainest way: each free partition looks at all receivers."""
    names = sorted(member.worker for member in alive)
    share, larger = divmod(partitions, len(names))
    most_first = sorted(names, key=lambda name: (-list(owners).count(name), name))
    limits = {name: share + (place < larger) for place, name in enumerate(most_first)}
    limits.update(dict.fromkeys(rolled_out, partitions))
    result: list[str | None] = []
    for owner in owners:
        result.append(owner if owner in limits and result.count(owner) < limits[owner] else None)
    for partition in range(partitions):
        if result[partition] is None:
            needs = [
                (result.count(name) - limits[name], result.count(name), name) for name in sorted(rolled_out) or names
            ]
            result[partition] = min(needs)[-1]
    return result


@pytest.mark.slow
@given(worlds(), st.integers(0, 12))
def test_the_division_is_that_of_its_definition(
    world: tuple[int, list[Member], list[str | None]], renewed: int
) -> None:
    """With no, some or all workers of a revision that is being rolled out."""
    partitions, alive, owners = world
    new = [Member(member.worker, "b", NOW - 1) for member in alive[:renewed]]
    mixed = new + alive[renewed:]
    rolled_out = [member.worker for member in new] if 0 < len(new) < len(mixed) else []
    assert assign(partitions, mixed, owners, NOW) == assigned_one_by_one(partitions, mixed, owners, rolled_out)


def test_without_workers_nobody_owns_anything() -> None:
    assert assign(3, [], [None, "w1", None], NOW) == [None] * 3


def test_scaling_from_one_to_four_and_down_to_two_moves_only_what_must() -> None:
    one = assign(64, members("w1"), [None] * 64, NOW)
    four = assign(64, members("w1", "w2", "w3", "w4"), one, NOW)
    assert (moved(one, four), set(Counter(four).values())) == (48, {16})
    left = [owner if owner in ("w1", "w2") else None for owner in four]
    two = assign(64, members("w1", "w2"), left, NOW)
    assert (moved(left, two), set(Counter(two).values())) == (0, {32})


def test_more_workers_than_partitions_leave_some_idle() -> None:
    assert sorted(Counter(assign(3, members(*"abcdef"), [None] * 3, NOW)).values()) == [1, 1, 1]


def test_newest_revision_receives_everything_while_it_is_rolled_out() -> None:
    old = members("o1", "o2")
    owners: Owners = assign(8, old, [None] * 8, NOW)
    new = members("n1", revision="b", started=NOW - 1000)
    free = [None if place < 2 else owner for place, owner in enumerate(owners)]
    after = assign(8, old + new, free, NOW)
    assert set(after[:2]) == {"n1"}


def test_new_worker_gives_nothing_away_during_a_rollout() -> None:
    alive = [*members("o1"), *members("n1", "n2", revision="b", started=NOW - 1000)]
    owners = ["n1"] * 6 + ["o1"] * 2
    assert assign(8, alive, owners, NOW)[:6] == ["n1"] * 6


def test_canary_that_stays_is_a_worker_like_the_others() -> None:
    alive = [*members("o1", "o2"), *members("canary", revision="b", started=NOW - ROLLOUT_MS - 1)]
    assert set(Counter(assign(9, alive, [None] * 9, NOW)).values()) == {3}


def test_revision_counts_as_new_from_its_first_worker() -> None:
    alive = [
        *members("o1"),
        *members("n1", revision="b", started=NOW - ROLLOUT_MS - 1),
        *members("n2", revision="b", started=NOW - 1),
    ]
    assert set(Counter(assign(9, alive, [None] * 9, NOW)).values()) == {3}


def rolling_update(replicas: int, surge: int, partitions: int = 64) -> tuple[int, Owners]:
    """How often partitions change hands while all pods are replaced, new ones first, and the division at the end."""
    alive = members(*(f"o{number}" for number in range(replicas)))
    last: Owners = assign(partitions, alive, [None] * partitions, NOW)
    changes, started = 0, 0

    def settle(owners: Owners) -> None:
        nonlocal changes, last
        wanted = assign(partitions, alive, owners, NOW + started)
        assert assign(partitions, alive, wanted, NOW + started) == wanted
        changes += moved(last, wanted)
        last = wanted

    while any(member.revision == "a" for member in alive):
        while started < replicas and len(alive) < replicas + surge:
            alive.append(Member(f"n{started}", "b", NOW + started))
            started += 1
            settle(last)
        oldest = next(member for member in alive if member.revision == "a")
        alive.remove(oldest)
        settle([None if owner == oldest.worker else owner for owner in last])
    settle(last)
    return changes, last


@given(st.integers(2, 12), st.sampled_from([1, 0.25]))
def test_rolling_update_moves_a_partition_about_once(replicas: int, surge: float) -> None:
    """Once from its old to its new owner; few move again, when the last new pod takes its share."""
    changes, owners = rolling_update(replicas, surge if isinstance(surge, int) else max(1, round(replicas * surge)))
    held = Counter(owners)
    assert set(held) == {f"n{number}" for number in range(replicas)}
    assert max(held.values()) - min(held.values()) <= 1
    assert 64 <= changes <= 64 * 1.5
