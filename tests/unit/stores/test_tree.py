"""What a kill or a power cut in the middle of a write to the file store leaves behind."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from worker.stores.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Callable

MUTATIONS = ("mkdir", "fsync", "replace", "link", "unlink", "rmdir")


class Killed(BaseException):
    """What a process does after its kill: nothing."""


class Kill:
    """Lets the process do `steps` system calls that change a directory or sync, then none any more."""

    def __init__(self, steps: int) -> None:
        self.left = steps
        self.log: list[tuple[str, str]] = []
        self._patch = pytest.MonkeyPatch()

    def __enter__(self) -> Self:
        for call in MUTATIONS:
            self._patch.setattr(os, call, self._counted(call, getattr(os, call)))
        return self

    def __exit__(self, *_: object) -> None:
        self._patch.undo()

    def _counted(self, name: str, call: Callable[..., object]) -> Callable[..., object]:
        def step(*arguments: object, **options: object) -> object:
            if self.left == 0:
                raise Killed
            self.left -= 1
            target = arguments[-1] if name in ("replace", "link") else arguments[0]
            path = Path(f"/proc/self/fd/{target}").readlink() if name == "fsync" else target
            self.log.append((name, str(path)))
            return call(*arguments, **options)

        return step


def steps_of(work: Callable[[], object]) -> list[tuple[str, str]]:
    with Kill(steps=-1) as kill:
        work()
    return kill.log


def test_the_blobs_name_comes_last_and_everything_it_needs_is_synced_before(tmp_path: Path) -> None:
    root = tmp_path / "new"
    log = steps_of(lambda: Tree(root).add("a/b", b"data", b"{}"))

    calls = [call for call, _ in log]
    commit = calls.index("link")
    assert log[commit] == ("link", str(root / "a/b"))
    assert calls.index("replace") < commit
    synced_before = [path for call, path in log[:commit] if call == "fsync"]
    assert len([path for path in synced_before if "/.tmp/" in path]) == 2
    assert {str(root / ".metadata/a"), str(root / ".metadata"), str(root), str(root.parent)} <= set(synced_before)
    synced_after = [path for call, path in log[commit:] if call == "fsync"]
    assert synced_after == [str(root / "a"), str(root)]


def test_a_taken_name_is_synced_before_it_is_reported(tmp_path: Path) -> None:
    """Its writer may have died between giving the name and syncing it."""
    Tree(tmp_path).add("a/b", b"data", b"{}")

    log = steps_of(lambda: Tree(tmp_path).add("a/b", b"data", b"{}"))

    assert ("fsync", str(tmp_path / "a")) in log


def test_a_kill_at_any_step_of_a_create_leaves_all_or_nothing_and_a_repeat_completes_it(tmp_path: Path) -> None:
    new, described = b"data" * 1000, b'{"metadata": {}}'
    every = steps_of(lambda: Tree(tmp_path).add("0/b", new, described))
    assert len(every) > 10
    outcomes = []
    for steps in range(len(every)):
        tree, name = Tree(tmp_path / str(steps)), "a/b"
        with Kill(steps), pytest.raises(Killed):
            tree.add(name, new, described)

        there = tree.found(name) is not None
        assert tree.read(name) == (new if there else None)
        assert not there or tree.read_metadata(name) == described
        assert tree.add(name, new, described) is not there
        assert (tree.read(name), tree.read_metadata(name)) == (new, described)
        outcomes.append(there)
    assert sorted(set(outcomes)) == [False, True]
    assert outcomes == sorted(outcomes)


def test_a_kill_at_any_step_of_a_delete_leaves_all_or_nothing_and_the_name_usable(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "measured")
    tree.add("a/b", b"old", b"{}")
    every = steps_of(lambda: tree.remove("a/b"))
    outcomes = []
    for steps in range(len(every)):
        tree = Tree(tmp_path / str(steps))
        tree.add("a/b", b"old", b"{}")
        with Kill(steps), pytest.raises(Killed):
            tree.remove("a/b")

        there = tree.found("a/b") is not None
        assert not there or (tree.read("a/b"), tree.read_metadata("a/b")) == (b"old", b"{}")
        assert tree.remove("a/b") is there
        assert tree.add("a/b", b"new", b'{"new": 1}')
        assert (tree.read("a/b"), tree.read_metadata("a/b")) == (b"new", b'{"new": 1}')
        outcomes.append(there)
    assert outcomes[0] is True
    assert outcomes[-1] is False


def test_a_kill_at_any_step_of_marking_a_directory_leaves_one_id_or_none(tmp_path: Path) -> None:
    every = steps_of(lambda: Tree(tmp_path / "measured").mark())
    outcomes = []
    for steps in range(len(every)):
        tree = Tree(tmp_path / str(steps))
        with Kill(steps), pytest.raises(Killed):
            tree.mark()

        left = tree.marker()
        assert len(left) in (0, 32)
        assert left in ("", tree.mark())
        assert len(tree.marker()) == 32
        outcomes.append(bool(left))
    assert sorted(set(outcomes)) == [False, True]
    assert outcomes == sorted(outcomes)
