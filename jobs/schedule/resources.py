"""What a job and its machine use, from /proc: memory of a process group, memory and disk that are left."""

import shutil
from collections.abc import Iterator
from pathlib import Path

MEGABYTE = 1_000_000
_GROUPS, _OWN_GROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
# Of a control group, version 2 and version 1: its limit, what it uses, and what of this the kernel can take back.
_LIMITS = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def group_memory(group: int) -> int:
    """Bytes of memory of all processes of a group or session: what the kernel cannot take back by itself.

    That is resident anonymous and shared memory. Pages of mapped files, as of an extract, are left out.
    """
    total = 0
    for place in Path("/proc").glob("[0-9]*"):
        try:
            fields = (place / "stat").read_text().rpartition(")")[2].split()
            if group in (int(fields[2]), int(fields[3])):
                total += own_memory(place)
        except (OSError, IndexError, ValueError):  # it has ended meanwhile
            continue
    return total


def available_memory() -> int:
    """Bytes that processes may still take: of the machine or, when that is less, of a control group they are in.

    A container is such a group, and so is a unit of systemd with MemoryMax.
    """
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(lines["MemAvailable"].split()[0]) * 1024
    return min([free, *(left for group in _groups_of_memory() if (left := _left_in(group)) is not None)])


def _groups_of_memory() -> Iterator[Path]:
    """The folders of the control group of this process, and of those around it."""
    try:
        lines = _OWN_GROUP.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            root = _GROUPS / controllers
            group = root / path.strip("/")
            yield from (place for place in (group, *group.parents) if place.is_relative_to(root))


def _left_in(group: Path) -> int | None:
    """Bytes that are left in a control group; None: it has no limit, or is not visible here."""
    for limit, used, reclaimable in _LIMITS:
        try:
            most = (group / limit).read_text().strip()
            if most == "max":
                return None
            stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            return int(most) - int((group / used).read_text()) + int(stat[reclaimable])
        except (OSError, KeyError, ValueError):
            continue
    return None


def free_disk(folder: Path) -> int:
    """Bytes that are free where a folder is, or will be."""
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    return shutil.disk_usage(existing).free


def own_memory(place: Path) -> int:
    """Bytes of memory of one process, counted as for a group. place: its folder in /proc."""
    total = 0
    for line in (place / "status").read_text().splitlines():
        if line.startswith(("RssAnon:", "RssShmem:")):
            total += int(line.split()[1]) * 1024
    return total
