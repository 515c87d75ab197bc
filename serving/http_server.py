"""An HTTP server on a port: listening, draining, and the threads that handlers run in."""
import asyncio
import socket
import ssl
import threading
from contextlib import suppress

from serving.http1 import Connection, Handler, Service, Workers

_BACKLOG = 1024


class HttpServer:
    """Answers requests on a port, in a separate thread.

    `start` binds in the caller's thread (OSError for a port in use); `port` is then the port bound. `stop` accepts no
    new connections, gives running requests `drain_s` seconds to end, and closes.
    """

    def __init__(self, handler: Handler, host: str, port: int, *, threads: int = 16, max_body_bytes: int = 1 << 30,
                 tls: ssl.SSLContext | None = None) -> None:
        self.host, self.port = host, port
        self._handler = handler
        self._threads = threads
        self._max_body_bytes = max_body_bytes
        self._tls = tls
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Binds the port and begins to answer."""
        listener = socket.create_server((self.host, self.port), backlog=_BACKLOG,
                                        family=socket.AF_INET6 if ":" in self.host else socket.AF_INET)
        self.port = listener.getsockname()[1]
        self._loop = new_event_loop()
        self._service = Service(self._handler, Workers(self._threads), self._loop, self._max_body_bytes)
        self._thread = threading.Thread(target=self._loop.run_forever, name="rest-loop", daemon=True)
        self._thread.start()
        self._listener = listener.dup()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(listener), self._loop).result()

    async def _listen(self, listener: socket.socket) -> asyncio.Server:
        return await self._loop.create_server(
            lambda: Connection(self._service), sock=listener, backlog=_BACKLOG, ssl=self._tls)

    def stop(self, drain_s: float = 10.0) -> int:
        """Answers every request that has arrived completely, then ends. Returns how many were not answered in time."""
        if self._thread is None or not self._thread.is_alive():
            return 0
        cut = asyncio.run_coroutine_threadsafe(self._drain(drain_s), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._service.workers.stop()
        self._loop.close()
        return cut

    async def _drain(self, drain_s: float) -> int:
        deadline = self._loop.time() + drain_s
        for listening in self._server.sockets:
            # asyncio makes a connection one loop iteration after it accepts it; if the server closes first, it is lost.
            self._loop.remove_reader(listening)
        await asyncio.sleep(0)
        self._server.close()
        self._service.draining = True
        with self._listener:
            if self._tls is None:  # TLS would have to wait for handshakes
                await self._accept_those_who_wait()
        await asyncio.sleep(0.02)  # asyncio's own loop may have accepted others that are not yet connections
        for connection in tuple(self._service.connections):
            connection.drain()
        while self._service.connections and self._loop.time() < deadline:
            await asyncio.sleep(0.01)
        cut = sum(connection.cut for connection in self._service.connections)
        for connection in tuple(self._service.connections):
            connection.transport.abort()
        await asyncio.sleep(0)
        return cut

    async def _accept_those_who_wait(self) -> None:
        """Accepts clients that have connected but were not yet accepted: otherwise they would be reset."""
        self._listener.setblocking(False)
        with suppress(BlockingIOError):
            for _ in range(_BACKLOG):
                accepted, _ = self._listener.accept()
                await self._loop.connect_accepted_socket(lambda: Connection(self._service), accepted)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop's event loop if uvloop is installed, else asyncio's."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop
