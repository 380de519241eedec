"""What a job and its machine use, from /proc: memory of a process group, memory and disk that are left."""

import shutil
from pathlib import Path

MEGABYTE = 1_000_000


def group_memory(group: int) -> int:
    """Bytes of memory of all processes of a group or session: what the kernel cannot take back by itself.

    That is resident anonymous and shared memory. Pages of mapped files, as of an extract, are left out.
    """
    total = 0
    for place in Path("/proc").glob("[0-9]*"):
        try:
            fields = (place / "stat").read_text().rpartition(")")[2].split()
            if group in (int(fields[2]), int(fields[3])):
                total += _own_memory(place)
        except (OSError, IndexError, ValueError):  # it has ended meanwhile
            continue
    return total


def available_memory() -> int:
    """Bytes that processes may still take: of the machine or, when that is less, of this container."""
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(lines["MemAvailable"].split()[0]) * 1024
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        stat = dict(line.split() for line in Path("/sys/fs/cgroup/memory.stat").read_text().splitlines())
        return free if limit == "max" else min(free, int(limit) - used + int(stat["inactive_file"]))
    except (OSError, KeyError, ValueError):
        return free


def free_disk(folder: Path) -> int:
    """Bytes that are free where a folder is, or will be."""
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    return shutil.disk_usage(existing).free


def _own_memory(place: Path) -> int:
    total = 0
    for line in (place / "status").read_text().splitlines():
        if line.startswith(("RssAnon:", "RssShmem:")):
            total += int(line.split()[1]) * 1024
    return total
