"""Receivers of messages that answer as told: real servers on free ports."""

import asyncio
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import hl7
from hl7.mllp import start_hl7_server

RESET, HANG = -1, -2  # in place of a status


@dataclass(frozen=True)
class Received:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class HttpReceiver:
    """What a test tells the server, and what came."""

    url: str = ""
    answers: list[int] = field(default_factory=list)  # one after the other, then 204
    answer_headers: dict[str, str] = field(default_factory=dict)
    bodies: list[bytes] = field(default_factory=list)  # of answers, one after the other, then empty
    received: list[Received] = field(default_factory=list)
    asked: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    go_on: threading.Event = field(default_factory=threading.Event)

    def take(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("Content-Length", "0"))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        body = handler.rfile.read(length)
        self.received.append(Received(handler.command, handler.path, headers, body))
        answer = self.answers.pop(0) if self.answers else 204
        self.asked.release()
        if answer == RESET:
            linger = struct.pack("ii", 1, 0)
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            handler.connection.close()
            handler.close_connection = True
            return
        if answer == HANG:
            self.go_on.wait(60)
            answer = 204
        content = self.bodies.pop(0) if self.bodies else b""
        handler.send_response(answer)
        for name, value in self.answer_headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)


@contextmanager
def http_receiver() -> Iterator[HttpReceiver]:
    """Run a receiver on a free port of this machine."""
    receiver = HttpReceiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            receiver.take(self)

        do_GET = do_PUT = do_POST  # noqa: N815 - the names http.server calls

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def handle(self) -> None:
            try:
                super().handle()
            except (OSError, ValueError):
                self.close_connection = True  # reset by us

        def finish(self) -> None:
            try:
                super().finish()
            except (OSError, ValueError):
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield receiver
    finally:
        receiver.go_on.set()
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class Hl7Receiver:
    """An MLLP server of python-hl7, which nobody here wrote, and what came.

    Attributes
    ----------
    answers : list of str
        MSA-1 for one message after the other, then AA; HANG_UP closes, SILENCE says nothing, JUNK is no HL7,
        STRANGER acknowledges another message. After a colon: code of an ERR segment.
    """

    port: int = 0
    answers: list[str] = field(default_factory=list)
    received: list[hl7.Message] = field(default_factory=list)

    async def take(self, reader: Any, writer: Any) -> None:
        try:
            while True:
                message = await reader.readmessage()
                self.received.append(message)
                code, _, error = (self.answers.pop(0) if self.answers else "AA").partition(":")
                if code == "HANG_UP":
                    break
                if code == "SILENCE":
                    await asyncio.sleep(5)
                    break
                if code == "JUNK":
                    writer.writeblock(b"who are you?")
                    continue
                answer = message.create_ack("AA" if code == "STRANGER" else code)
                if code == "STRANGER":
                    answer.assign_field("OTHER", "MSA", 1, 2)
                text = f"{answer}" + (f"ERR|||{error}\r" if error else "")
                writer.writeblock(text.encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the sender has gone
        finally:
            writer.close()


@contextmanager
def hl7_receiver(context: ssl.SSLContext | None = None) -> Iterator[Hl7Receiver]:
    """Run a receiver on a free port of this machine, in a loop and a thread of its own."""
    receiver = Hl7Receiver()
    loop = asyncio.new_event_loop()

    async def start() -> asyncio.Server:
        return await start_hl7_server(receiver.take, "127.0.0.1", 0, encoding="utf-8", ssl=context)

    server = loop.run_until_complete(start())
    receiver.port = server.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def stop() -> None:
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    try:
        yield receiver
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
