"""A network that a test can cut: it stands between a service and its database."""

import socket
import threading
from contextlib import suppress


class Proxy:
    """Forwards TCP connections to a server until it is told otherwise."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self._flows = threading.Event()
        self._flows.set()
        self._door: socket.socket | None = None
        self._claim = _bound(0)  # keeps the port while the door is shut
        self.port = self._claim.getsockname()[1]
        self._open()

    def cut(self) -> None:
        """Close every connection and take no new one."""
        if self._door is not None:
            with suppress(OSError):
                self._door.shutdown(socket.SHUT_RDWR)
            self._door.close()
            self._door = None
        self.drop()

    def drop(self) -> None:
        """Close every connection."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()

    def freeze(self) -> None:
        """Keep every connection, take new ones, and forward nothing."""
        self._flows.clear()

    def restore(self) -> None:
        """Forward again."""
        self._flows.set()
        if self._door is None:
            self._open()

    def close(self) -> None:
        """End for good."""
        self._flows.set()
        self.cut()
        self._claim.close()

    def _open(self) -> None:
        door = _bound(self.port)
        door.listen(128)
        self._door = door
        threading.Thread(target=self._accept, args=(door,), daemon=True).start()

    def _accept(self, door: socket.socket) -> None:
        while True:
            try:
                near, _ = door.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self._target, timeout=10)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            with self._lock:
                self._pairs.append((near, far))
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._forward, args=(one, other), daemon=True).start()

    def _forward(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                self._flows.wait()
                other.sendall(data)
        for end in (one, other):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def _bound(port: int) -> socket.socket:
    """A socket at a port, which several may share; nobody is let in before it listens."""
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    found.bind(("127.0.0.1", port))
    return found
