"""What Google Cloud charges: $ without discounts, in us-central1. Put your own prices in before you decide by them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

AS_OF = "2025"
STORAGE_SOURCE = "list prices at cloud.google.com/storage/pricing; a GB there is 2^30 bytes"
MACHINE_SOURCE = "an assumption of the order of an E2 machine's list price at cloud.google.com/compute/all-pricing"


@dataclass(frozen=True, slots=True)
class StorageClass:
    """Of a bucket in one region; `least_months` are billed even if an object is deleted earlier."""

    name: str
    gib_month: float
    class_a: float
    """Per operation that writes or lists."""
    read_gib: float
    """Per GiB read, beside the network."""
    least_months: float


@dataclass(frozen=True, slots=True)
class MachinePrices:
    """Of a worker's and of Redis' machines."""

    vcpu_hour: float
    gib_hour: float


CLASSES: Mapping[str, StorageClass] = {
    each.name: each
    for each in (
        StorageClass("standard", gib_month=0.020, class_a=0.005 / 1000, read_gib=0, least_months=0),
        StorageClass("nearline", gib_month=0.010, class_a=0.010 / 1000, read_gib=0.01, least_months=1),
        StorageClass("coldline", gib_month=0.004, class_a=0.020 / 1000, read_gib=0.02, least_months=3),
        StorageClass("archive", gib_month=0.0012, class_a=0.050 / 1000, read_gib=0.05, least_months=12),
    )
}
AUTOCLASS_OBJECT_MONTH = 0.0025 / 1000
"""What Autoclass takes for managing an object of 128 KiB or more, per month."""

MACHINES = MachinePrices(vcpu_hour=0.0218, gib_hour=0.0029)
