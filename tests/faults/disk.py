"""What happens to the data folder: full, read-only, deleted under the service, a bit flipped."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from serving import Server, wait_until
from shop import Row, Shop, lost_between, said

PATIENCE = 600.0  # seconds: a machine may be busy
DISK = 128 << 20  # bytes
SHARES = (0.0, 0.3, 0.5, 0.7, 0.85, 0.95)  # of what a night writes, so that each of its steps meets the end of the disk
BLOCK = 4_096  # bytes that the smallest file takes
FILES = (4_096, 16_384, 65_536)  # bytes: the largest file that a night may write


def full(shop: Shop, _asked: Any) -> Iterator[Row]:
    """Too little room for a night, and a disk that became read-only; where nothing may be mounted, ulimit -f."""
    data = shop.folder / "recsys-data"
    with a_small_disk(shop) as is_mounted:
        if is_mounted:
            needed = room_for_a_night(data)
            for share in SHARES:
                yield too_little_room(shop, data, round(needed * share))
            yield read_only(shop, data)
    if shop.kind != "sqlite":  # its database is a file, too
        for limit in FILES:
            before = shop.good
            done = shop.limited(f"--fsize={limit}")
            assert done.returncode == 1, done.stderr
            yield shop.row(f"no file above {limit:,} bytes (ulimit -f)", said(done), before)


def too_little_room(shop: Shop, data: Path, room: int) -> Row:
    before, ballast = shop.good, data / "ballast"
    free = shutil.disk_usage(data).free
    ballast.write_bytes(bytes(max(0, free - room)))
    done = shop.train()
    after = shop.state()
    ballast.unlink()
    if is_enough := done.returncode == 0:  # what a night removes makes room for what it writes
        ended = "published"
    else:
        assert "could not be written" in done.stderr, done.stderr
        ended = said(done)
    note = f"{shutil.disk_usage(data).free:,} bytes free again; stopped in {(after.steps or ['the first step'])[-1]}"
    again = shop.good_again()[1]
    fault = f"disk full: {room:,} bytes left"
    return Row(fault, ended, before, after, lost_between(before, after, moved=is_enough), again, note)


def read_only(shop: Shop, data: Path) -> Row:
    before = shop.good
    subprocess.run(["mount", "-o", "remount,ro", data], check=True)
    try:
        done, after = shop.train(), shop.state()
    finally:
        subprocess.run(["mount", "-o", "remount,rw", data], check=True)
    assert done.returncode == 1, done.stderr
    return Row("read-only folder", said(done), before, after, lost_between(before, after), shop.good_again()[1])


@contextmanager
def a_small_disk(shop: Shop) -> Iterator[bool]:
    """The data folder on a file system of its own; False where this user may not mount one."""
    data, kept = shop.folder / "recsys-data", shop.folder / "kept"
    data.rename(kept)
    data.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", data], check=False).returncode == 0
    shutil.copytree(kept, data, dirs_exist_ok=True)
    shutil.rmtree(kept)
    try:
        yield mounted
    finally:
        if mounted:
            shutil.copytree(data, kept)
            subprocess.run(["umount", data], check=True)
            data.rmdir()
            kept.rename(data)


def room_for_a_night(data: Path) -> int:
    """Bytes of the blocks that the reading, the bundle and the extract of one night take."""
    folders = [
        data / room / (data / room / "CURRENT").read_text().strip() for room in ("readings", "bundles", "extract")
    ]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return sum(-(-path.stat().st_size // BLOCK) * BLOCK for path in files)


def flipped_bits(shop: Shop, _asked: Any) -> Iterator[Row]:
    """One bit in the middle of each file of bundle, extract and reading, one file after the other.

    A damaged bundle or extract is refused by name; a damaged reading is not used, and the night reads everything.
    """
    data = shop.folder / "recsys-data"
    for room in ("bundles", "extract", "readings"):
        before = shop.good
        folder = data / room / (data / room / "CURRENT").read_text().strip()
        files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
        unnoticed = []
        for path in files:
            flip(path)
            seen = shop.state()
            if path.name not in seen.refusal and (room != "readings" or seen.reading):
                unnoticed.append(path.name)
            if path != files[-1]:
                flip(path)
        lost = f"unnoticed: {', '.join(unnoticed)}" if unnoticed else "nothing"
        note = f"{len(files) - len(unnoticed)} of {len(files)} files found"
        after, again = shop.state(), shop.good_again()[1]
        yield Row(f"a bit flipped in {room}", after.refusal or "none", before, after, lost, again, note)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def folder_deleted(shop: Shop, _asked: Any) -> Iterator[Row]:
    """The whole data folder is deleted under a running service, which answers on, and takes up the next bundle."""
    before = shop.good
    server = Server(shop.folder, RECSYS_API__POLL_SECONDS="0.2")
    try:
        server.wait(seconds=PATIENCE)
        user = shop.users[0]
        there = [hit["item_id"] for hit in server.user(user, k=10)["hits"]]
        shutil.rmtree(shop.folder / "recsys-data")
        for _ in range(10):
            assert [hit["item_id"] for hit in server.user(user, k=10)["hits"]] == there
            time.sleep(0.1)
        after, start = shop.state(), time.monotonic()
        bundle = shop.good_again()[0].bundle
        wait_until(lambda: server.http.get("/v1/health/ready").json()["bundle"] == bundle, seconds=PATIENCE)
        seconds = time.monotonic() - start
    finally:
        server.kill()
    note = "the service answered as before all the while; until it has the new bundle"
    yield Row("folder deleted under the service", "rmtree", before, after, "nothing", seconds, note)
