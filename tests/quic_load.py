"""Clients with connections over QUIC that always wait for a reply, while a server is changed."""

import select
import time

from corepy.testing import query
from corepy.testing.quic_peer import QUICPeer, messages_in

PATIENCE = 60.0


class Client:
    """Asks one query after another; repeats it over a new connection when the server leaves."""

    def __init__(self, address, authority, number):
        self.address, self.authority, self.number = address, authority, number
        self.asked = self.answered = self.connections = 0
        self.closed = []
        self.stream = None
        self.peer = None
        self.open()

    def open(self):
        self.peer = QUICPeer(self.address, self.authority)
        self.connections += 1
        self.ask()

    def ask(self):
        name = f"n{self.asked % 7}-{self.number}.example.org."
        self.stream = self.peer.query(query(name, id=0))
        self.since = time.monotonic()

    def step(self):
        """Process what has arrived, and send."""
        peer = self.peer
        peer.take()
        if self.stream in peer.ended:
            (reply,) = messages_in(bytes(peer.data.pop(self.stream)))
            assert reply[3] & 15 == 0
            self.answered += 1
            self.asked += 1
            self.ask()
        elif peer.closed is not None:
            self.closed.append(peer.closed)
            peer.sock.close()
            self.open()
        self.peer.send()


class Load:
    """Many of them, in the thread of the test."""

    def __init__(self, address, authority, count):
        self.clients = [Client(address, authority, number) for number in range(count)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for client in self.clients:
            client.peer.__exit__()

    def until(self, is_done):
        """Ask until `is_done`; fail if a query is not answered."""
        for client in self.clients:
            client.step()
        while not is_done():
            waiting = {it.peer.sock: it for it in self.clients}
            readable, _, _ = select.select(list(waiting), [], [], 0.02)
            now = time.monotonic()
            for sock in readable:
                waiting[sock].peer.receive_all()
                waiting[sock].step()
            for client in self.clients:
                if client.peer.wake(now):
                    client.step()
                assert now - client.since < PATIENCE, f"a query of {client.number} is lost"

    def answer_each(self, times=3):
        """Ask until each client has got so many replies."""
        before = {client: client.answered for client in self.clients}
        self.until(lambda: all(it.answered >= before[it] + times for it in self.clients))

    @property
    def answered(self):
        return sum(client.answered for client in self.clients)

    @property
    def connections(self):
        return sum(client.connections for client in self.clients)

    @property
    def codes(self):
        return {code for client in self.clients for code in client.closed}
