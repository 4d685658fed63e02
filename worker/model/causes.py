"""Why something was refused, read again or given up: short words, the same in the code, in metrics and in logs."""

from __future__ import annotations

from enum import StrEnum


class StreamCause(StrEnum):
    """Why a request to Redis failed: `StreamError.cause`."""

    CONNECTION = "connection"  # it does not answer
    READONLY = "readonly"  # it is a replica
    REFUSED = "refused"  # it refuses this request
    LARGE = "large"  # its reply is more than may be held, and was given up
    LEASE = "lease"  # the lease is not ours any more
    CONFIG = "config"  # other programs are configured otherwise


class StoreCause(StrEnum):
    """Why a request to the store failed: `StoreError.cause`."""

    NETWORK = "network"  # it can't be reached
    TIMEOUT = "timeout"  # it does not answer in time
    SERVER = "server"  # HTTP 5xx
    THROTTLED = "throttled"  # HTTP 429, or 403 for a quota
    PERMISSION = "permission"
    MISSING_BUCKET = "missing-bucket"
    CREDENTIALS = "credentials"  # there is no access token to be had
    REQUEST = "request"  # HTTP 400
    CORRUPT = "corrupt"  # it has other bytes than were written
    UNEXPECTED = "unexpected"  # its answer does not fit the request
    INCONSISTENT = "inconsistent"  # it says that a name is taken, and shows no such object
    NAMES_TAKEN = "names-taken"  # the name of a batch and those after it are taken
    UNMOUNTED = "unmounted"  # the volume of a directory is not there
    FULL = "full"  # the disk of a directory
    DISK = "disk"  # another error of that disk
    NAME = "name"  # a file can't have that name
    EXISTS = "exists"  # a create-only write found the name taken
    MISSING = "missing"  # there is no such object
    CLOSED = "closed"  # the program ends


class SpoolCause(StrEnum):
    """Why the spool did not take a blob: `SpoolRefused.cause`."""

    FULL = "full"  # by SPOOL_MAX_BYTES
    NO_SPACE = "no_space"  # the volume is full
    PERMISSION = "permission"
    TIMEOUT = "timeout"  # the volume does not answer
    DISK = "disk"  # another error of the volume


class RewindCause(StrEnum):
    """Why a partition must be taken over, and its stream read from the start."""

    NEW = "new"  # it was never taken over
    HANDOVER = "handover"  # another worker shall have it
    REDIS_CHANGED = "redis_changed"  # another server answers, or one that may have lost writes
    REFUSED = "refused"  # Redis refuses something for this partition
    FAILED = "failed"  # a delivery failed in an unforeseen way
    PART = "part"  # a batch is not stored as it was sealed
    SUSPECT = "suspect"  # Redis failed while suspects were held
    DELETED = "deleted"  # its audio was deleted on demand, or may have been
    RECOVERED = "recovered"  # all conversations in doubt were looked up in the store
    FOREIGN = "foreign"  # another consumer has pending entries
    OTHER = "other"  # the first entry is sealed already, with another composition
    VANISHED = "vanished"  # entries of a batch are gone from the stream
    ABANDONED = "abandoned"  # the partition is not ours any more


COUNTED_REWINDS = tuple(cause for cause in RewindCause if cause not in (RewindCause.NEW, RewindCause.ABANDONED))
"""Those after which the same owner begins again."""


class LastOwner(StrEnum):
    """How the last owner of a partition left it."""

    RELEASED = "released"
    DIED = "died"


class DeadLetterKind(StrEnum):
    """Why entries went to the dead letters."""

    INVALID = "invalid"  # they are neither chunks nor ends
    POISON = "poison"  # workers ended while they processed their conversation


class GapHandling(StrEnum):
    """What became of a gap between timestamps."""

    SILENCE = "silence"  # it was filled
    CLOSED = "closed"  # it closed the batch


class Verdict(StrEnum):
    """What an object that was found is to the batch at hand."""

    SAME = "same"  # this very batch: our own upload whose reply was lost, or another owner's
    PART = "part"  # it holds other chunks than the seal says, ours among them: what it holds is stored
    FOREIGN = "foreign"  # nothing proves that it has anything to do with our chunks
    DAMAGED = "damaged"  # it claims to be such a blob, but its bytes are not those that were uploaded


class DoneOutcome(StrEnum):
    """How the done step of a batch ended."""

    DONE = "done"  # its entries and its seal have left Redis, and the event tells
    ADOPTED = "adopted"  # the same, of audio that the store was found to hold already
    GONE = "gone"  # its seal was gone: another owner finished it, or Redis forgot it
    WITHDRAWN = "withdrawn"  # whoever made the object removes it, so that it must not count
    CHANGED = "changed"  # another server answers than expected, which may have forgotten a deletion
    DELETED = "deleted"  # its audio was deleted on demand: its entries are dropped, and the object must go


class OrphanFate(StrEnum):
    """What became of an object whose upload lost its seal."""

    WAITING = "waiting"  # its entries are still in the stream: whoever reads them may find it and count it
    COUNTED = "counted"  # an event tells of it: it stays
    UNCOUNTED = "uncounted"  # it stands for nothing: it is removed
    UNKNOWN = "unknown"  # older events are gone, one of them may have told of it: it stays


SETTLED_FATES = tuple(fate for fate in OrphanFate if fate is not OrphanFate.WAITING)


class SpoolOutcome(StrEnum):
    """What became of a spooled blob."""

    STORED = "stored"
    RENAMED = "renamed"  # stored under a later name, because another object had its own
    DELETED = "deleted"  # not stored: its audio was deleted on demand, or its upload given up
