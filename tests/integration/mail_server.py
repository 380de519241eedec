"""An SMTP server that keeps what is sent: with STARTTLS, with TLS from the first byte, or without."""

import asyncio
import base64
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

# Of localhost, signed by itself, for this server only; valid for a hundred years.
CERTIFICATE = """-----BEGIN CERTIFICATE-----
MIIBmzCCAUGgAwIBAgIUCdfCZnKfLoZchbVI2jeG7Jc9fhYwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyODE2MzIxMloYDzIxMjYxMTA0
MTYzMjEyWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAARjPXkryXOfsqi3xyQwYwyBZQOV3g96kHYUCMqS26CVSCQSt/Pzu86v
ylj9WXTdIKLdhXXiRg+hm404HaczNS6Vo28wbTAdBgNVHQ4EFgQUCzsM5zuyOYIV
cGG0tO1Lh5zkPB0wHwYDVR0jBBgwFoAUCzsM5zuyOYIVcGG0tO1Lh5zkPB0wDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDSAAwRQIhAPEt8axy8aJ31+vuyvrciw8zMrnTQy5LQvrDEI2VnfxpAiAw
dhMN/2IDEWP846tt/wUOy/GCJ2dVQAWQ6GNJUH2myQ==
-----END CERTIFICATE-----
"""
KEY = """-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQguA/2rjwfqWyIQpnL
WkDgQ2sztw7DBVBepTtRsXqf/QChRANCAARjPXkryXOfsqi3xyQwYwyBZQOV3g96
kHYUCMqS26CVSCQSt/Pzu86vylj9WXTdIKLdhXXiRg+hm404HaczNS6V
-----END PRIVATE KEY-----
"""


@dataclass
class MailServer:
    """Where it listens, and what came."""

    port: int = 0
    letters: list[str] = field(default_factory=list)
    accounts: list[str] = field(default_factory=list)  # user and password of each login
    secured: list[bool] = field(default_factory=list)  # whether each letter came over TLS


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """The files of the certificate and of its key."""
    files = folder / "cert.pem", folder / "key.pem"
    for file, text in zip(files, (CERTIFICATE, KEY), strict=True):
        file.write_text(text)
    return files


@contextmanager
def mail_server(folder: Path, *, security: str = "starttls", refuse: str = "") -> Iterator[MailServer]:
    """Serve until the block ends. refuse: a command that gets 550."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*write_certificate(folder))
    found, loop, ready = MailServer(), asyncio.new_event_loop(), threading.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def say(line: str) -> None:
            writer.write(f"{line}\r\n".encode())
            await writer.drain()

        is_secure = security == "tls"
        await say("220 test")
        while line := (await reader.readline()).decode().strip():
            word, _, rest = line.partition(" ")
            if refuse and word.upper() == refuse:
                await say("550 not here")
            elif word.upper() == "EHLO":
                await say(
                    "250-test\r\n250-AUTH PLAIN"
                    + ("" if is_secure or security == "none" else "\r\n250-STARTTLS")
                    + "\r\n250 8BITMIME"
                )
            elif word.upper() == "STARTTLS":
                await say("220 go on")
                await writer.start_tls(context)
                is_secure = True
            elif word.upper() == "AUTH":
                found.accounts.append(base64.b64decode(rest.split()[1]).decode().replace("\0", " ").strip())
                await say("235 welcome")
            elif word.upper() == "DATA":
                await say("354 go on")
                letter = (await reader.readuntil(b"\r\n.\r\n")).decode()
                found.letters.append(letter)
                found.secured.append(is_secure)
                await say("250 kept")
            elif word.upper() == "QUIT":
                await say("221 bye")
                break
            else:
                await say("250 ok")
        writer.close()

    async def serve() -> None:
        server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=context if security == "tls" else None)
        found.port = server.sockets[0].getsockname()[1]
        ready.set()
        async with server:
            await server.serve_forever()

    def run() -> None:
        task = loop.create_task(serve())
        found_task.append(task)
        try:
            loop.run_until_complete(task)
        except asyncio.CancelledError:
            pass
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    found_task: list[asyncio.Task[None]] = []
    thread = threading.Thread(target=run)
    thread.start()
    ready.wait(30)
    try:
        yield found
    finally:
        loop.call_soon_threadsafe(found_task[0].cancel)
        thread.join()
