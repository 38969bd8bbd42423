"""Memory of a process on Linux."""

from pathlib import Path


def resident_megabytes(process="self"):
    """What a process has in memory now, its files included, in units of 2**20 bytes.

    Args:
        process: int, its id; "self" for this one.
    """
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024
