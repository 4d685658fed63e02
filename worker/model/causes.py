"""Short words for why a step failed or how it ended: the same words in the code, in metrics and in logs."""

from __future__ import annotations

from enum import StrEnum


class StreamCause(StrEnum):
    """Why a request to Redis failed: `StreamError.cause`."""

    CONNECTION = "connection"  # Redis does not answer
    READONLY = "readonly"  # it is a replica
    REFUSED = "refused"  # it refuses this request
    LARGE = "large"  # its reply is over the limit, and reading it was stopped
    LEASE = "lease"  # the lease is not ours any more
    CONFIG = "config"  # other programs have other settings
    MOVING = "moving"  # the slot of the partition moves to another node of the cluster
    CLUSTER = "cluster"  # the cluster does not serve the slot of the partition


ONE_PARTITION = frozenset({StreamCause.REFUSED, StreamCause.MOVING, StreamCause.CLUSTER})
"""Causes that concern single partitions: others on the same server are well."""


class StoreCause(StrEnum):
    """Why a request to the store failed: `StoreError.cause`."""

    NETWORK = "network"  # the store can't be reached
    TIMEOUT = "timeout"  # it does not answer in time
    SERVER = "server"  # HTTP 5xx
    THROTTLED = "throttled"  # HTTP 429, or 403 for a quota
    PERMISSION = "permission"
    HELD = "held"  # a hold or a retention period protects the object
    BILLING = "billing"  # the project of the bucket has no active billing account
    REQUESTER_PAYS = "requester-pays"  # the bucket bills whoever asks
    MISSING_BUCKET = "missing-bucket"
    CREDENTIALS = "credentials"  # an access token can't be fetched
    REQUEST = "request"  # HTTP 400
    CORRUPT = "corrupt"  # it has other bytes than were written to it
    UNEXPECTED = "unexpected"  # its answer does not fit the request
    INCONSISTENT = "inconsistent"  # it says that a name is taken, but has no such object
    NAMES_TAKEN = "names-taken"  # the name of a batch and the names after it are taken
    UNCHECKED = "unchecked"  # it has not answered since the start
    UNMOUNTED = "unmounted"  # the volume of a directory is not mounted
    FULL = "full"  # the disk of a directory is full
    DISK = "disk"  # another error of that disk
    NAME = "name"  # a file can't have that name
    EXISTS = "exists"  # a create-only write found the name taken
    MISSING = "missing"  # the store has no such object
    CLOSED = "closed"  # this program has closed it


class SpoolCause(StrEnum):
    """Why the spool did not take a blob: `SpoolRefused.cause`."""

    FULL = "full"  # it has SPOOL_MAX_BYTES
    NO_SPACE = "no_space"  # the volume is full
    PERMISSION = "permission"
    TIMEOUT = "timeout"  # the volume does not answer
    DISK = "disk"  # another error of the volume


class RewindCause(StrEnum):
    """Why a partition must be taken over, and its stream read from the start."""

    NEW = "new"  # it was never taken over
    HANDOVER = "handover"  # another worker should have it
    REDIS_CHANGED = "redis_changed"  # another server answers, or one that may have lost writes
    REFUSED = "refused"  # Redis refuses a request for this partition
    MOVED = "moved"  # another node of the cluster has the partition
    FAILED = "failed"  # a delivery failed with an unexpected error
    PART = "part"  # the stored object does not hold all of a sealed batch
    SUSPECT = "suspect"  # Redis failed while suspects were held
    DELETED = "deleted"  # its audio was deleted on demand, or may have been
    RECOVERED = "recovered"  # all conversations in doubt were looked up in the store
    FOREIGN = "foreign"  # another consumer has pending entries
    OTHER = "other"  # the first entry is sealed already, with another composition
    VANISHED = "vanished"  # entries of a batch are gone from the stream
    ABANDONED = "abandoned"  # the partition is not ours any more


COUNTED_REWINDS = tuple(cause for cause in RewindCause if cause not in (RewindCause.NEW, RewindCause.ABANDONED))
"""Causes after which the same owner begins again."""


class LastOwner(StrEnum):
    """How the last owner of a partition left it."""

    RELEASED = "released"
    DIED = "died"


class DeadLetterKind(StrEnum):
    """Why entries went to the dead letters."""

    INVALID = "invalid"  # they are neither chunks nor ends
    POISON = "poison"  # workers died while they processed their conversation


class GapHandling(StrEnum):
    """What became of a gap between timestamps."""

    SILENCE = "silence"  # it was filled
    CLOSED = "closed"  # it closed the batch


class Verdict(StrEnum):
    """How an object that was found relates to a batch."""

    SAME = "same"  # this same batch: our own upload whose reply was lost, or another owner's
    PART = "part"  # its chunks are not exactly those of the seal, but ours are among them: these are stored
    FOREIGN = "foreign"  # nothing proves that it holds any of our chunks
    DAMAGED = "damaged"  # it claims to be such a blob, but its bytes are not those that were uploaded


class DoneOutcome(StrEnum):
    """How the done step of a batch ended."""

    DONE = "done"  # its entries and its seal have left Redis, and the event is added
    ADOPTED = "adopted"  # the same, for audio that the store already had
    GONE = "gone"  # its seal was gone: another owner finished it, or Redis forgot it
    WITHDRAWN = "withdrawn"  # the maker of the object removes it, so it must not count
    CHANGED = "changed"  # another server answers than expected, and it may have forgotten a deletion
    DELETED = "deleted"  # its audio was deleted on demand: its entries are dropped, and the object must be removed


class OrphanFate(StrEnum):
    """What became of an object whose upload lost its seal."""

    WAITING = "waiting"  # its entries are still in the stream: a worker that reads them may find it and count it
    COUNTED = "counted"  # an event names it: it stays
    UNCOUNTED = "uncounted"  # nothing can count it: it is removed
    UNKNOWN = "unknown"  # an event that is gone, or an object that is gone by now, may have been it: it stays


SETTLED_FATES = tuple(fate for fate in OrphanFate if fate is not OrphanFate.WAITING)


class ReplayOutcome(StrEnum):
    """How the replay of a dead letter ended."""

    REPLAYED = "replayed"  # it is an entry again
    GONE = "gone"  # it was pushed again or dropped before
    DELETED = "deleted"  # its conversation or user was deleted since: it must not come back
    FOREIGN = "foreign"  # a worker did not write it
    REFUSED = "refused"  # Redis refuses the step


class MoveOutcome(StrEnum):
    """What became of an entry of a stray stream."""

    MOVED = "moved"  # it is in the stream of its partition, and not in the stray one
    GONE = "gone"  # it was moved or removed before
    OWNED = "owned"  # a worker works on the stream
    DELETED = "deleted"  # its conversation or user was deleted, perhaps after it was pushed
    FOREIGN = "foreign"  # it is neither a chunk nor an end
    REFUSED = "refused"  # Redis refuses the step


class SpoolOutcome(StrEnum):
    """What became of a spooled blob."""

    STORED = "stored"
    RENAMED = "renamed"  # stored under a later name, because another object had its own
    DELETED = "deleted"  # not stored: its audio was deleted on demand, or its upload was given up
