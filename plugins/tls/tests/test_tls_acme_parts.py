"""The parts of the ACME form: challenges, files, times, and a CA that answers anything."""

import asyncio
import errno
import json
import os
import re
import ssl
import threading
import time
from unittest.mock import Mock

import pytest

from corepy.plugin import EndOfChain
from corepy.testing import Recorder, Upstream, make_request, run_chain, serve
from corepy.testing.certificates import Authority
from corepy.testing.failing_once import FailsOnce
from corepy.testing.upstream import free_sockets
from corepy_tls import acme_certificate, acme_process, challenges
from corepy_tls.acme_certificate import FIRST_DELAY, LONGEST_DELAY, AcmeCertificate, Issued
from corepy_tls.acme_client import NONCE_ATTEMPTS, AcmeClient, AcmeError
from corepy_tls.acme_http import CAConnection, Response
from corepy_tls.acme_keys import AccountKey, new_key, signing_request, validity
from corepy_tls.acme_settings import AcmeSettings, challenge_name
from corepy_tls.challenges import ChallengeHandler, Reader, read_challenges, write_challenges
from corepy_tls.storage import lock, read_json, write_json

NAME = "_acme-challenge.dns.example."
WIRE = challenge_name("dns.example")
DAY = 24 * 3600.0


@pytest.fixture
def settings(tmp_path):
    return AcmeSettings(("*.dns.example", "dns.example"), tmp_path / "storage")


def answer(settings, name=NAME, qtype="TXT", below=True):
    handler = ChallengeHandler([settings])
    last = [Recorder()] if below else []
    return run_chain(make_request(name, qtype), handler, *last, EndOfChain("tls"))


def test_the_proofs_are_answered_in_any_case(settings):
    write_challenges(settings.storage, {WIRE: ["proof-1", "proof-2"]})
    reply = answer(settings, "_ACME-Challenge.DNS.example.")
    assert [str(it.rdata) for it in reply.record.rr] == ['"proof-1"', '"proof-2"']
    assert (reply.record.header.aa, reply.record.rr[0].ttl) == (1, 0)
    assert str(reply.record.rr[0].rname) == "_ACME-Challenge.DNS.example."


@pytest.mark.parametrize(
    ("name", "qtype"), [(NAME, "A"), ("x." + NAME, "TXT"), ("dns.example.", "TXT")]
)
def test_other_queries_are_passed_on(settings, name, qtype):
    write_challenges(settings.storage, {WIRE: ["proof"]})
    assert answer(settings, name, qtype).rcode == 0
    assert answer(settings, name, qtype, below=False).rcode == 5


def test_without_proofs_the_reply_is_not_kept_by_the_packet_cache(settings):
    """Otherwise the proof would be hidden until its TTL ends."""
    assert answer(settings, below=False).rcode == 5
    text = (
        '.:0 {\nbind 127.0.0.1\ncache\ntemplate IN TXT {\nanswer "{{ .Name }} 60 IN TXT x"\n}\n}\n'
    )
    text += f"tls://. {{\nbind 127.0.0.1\ntls {{\nacme dns.example\nstorage {settings.storage}\nca http://127.0.0.1:1/\n}}\n}}\n"
    with serve(text.replace("tls://. ", "tls://.:0 ")) as server:
        for name in (NAME, NAME, NAME, "other.example.", "other.example.", "other.example."):
            assert str(server.ask(name, "TXT").rr[0].rdata) == '"x"'
        assert server.packet_entries == 1
        write_challenges(settings.storage, {WIRE: ["proof"]})
        for tcp in (False, True):
            assert str(server.ask(NAME, "TXT", tcp=tcp).rr[0].rdata) == '"proof"'


@pytest.mark.parametrize("seconds", [-4000.0, 4000.0], ids=["old", "from the future"])
def test_challenges_of_another_time_are_ignored(settings, monkeypatch, seconds):
    write_challenges(settings.storage, {WIRE: ["proof"]})
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - seconds)
    assert read_challenges(settings.storage, WIRE) == []


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{", b'{"until": "x"}', b"[" * 100_000, b'{"until": 1e99, "proofs": 7}', b"\xff"],
    ids=["empty", "list", "cut off", "text", "deep", "number", "binary"],
)
def test_a_damaged_file_is_like_a_missing_one(settings, content, caplog):
    settings.storage.mkdir()
    (settings.storage / "challenges.json").write_bytes(content)
    assert read_challenges(settings.storage, WIRE) == []
    certificate = AcmeCertificate(settings)
    for path in (certificate._path, certificate._attempts):
        path.parent.mkdir()
        path.write_bytes(content)
    again = AcmeCertificate(settings)
    assert (again.issued, again.seconds_until_due() <= 0) == (None, True)
    assert "is damaged" in caplog.text


def test_files_are_private_and_replaced_at_once(tmp_path):
    path = tmp_path / "new" / "file.json"
    write_json(path, {"a": 1})
    write_json(path, {"a": 2})
    assert (read_json(path), path.stat().st_mode & 0o777) == ({"a": 2}, 0o600)
    assert [it.name for it in path.parent.iterdir()] == ["file.json"]


def test_one_process_at_a_time(tmp_path):
    first = lock(tmp_path)
    assert first is not None
    assert lock(tmp_path) is None
    first.release()
    again = lock(tmp_path)
    assert again is not None
    again.release()


def test_a_lock_is_not_kept_by_an_attempt_that_is_cancelled(settings, monkeypatch):
    """A reload ends the attempts of the former generation, also while a thread locks."""
    may_lock, has_locked = threading.Event(), threading.Event()

    def slow_lock(storage):
        may_lock.wait()
        try:
            return lock(storage)
        finally:
            has_locked.set()

    async def main():
        task = asyncio.create_task(AcmeCertificate(settings)._attempt())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        may_lock.set()
        has_locked.wait()
        async with asyncio.timeout(30):
            while (again := lock(settings.storage)) is None:  # noqa: ASYNC110 a thread ends
                await asyncio.sleep(0)
        again.release()

    monkeypatch.setattr(acme_certificate, "lock", slow_lock)
    asyncio.run(main())


def test_a_certificate_is_read_later_when_there_are_no_descriptors(settings, pairs, monkeypatch):
    certificate = AcmeCertificate(settings)
    store(certificate, 0, 1, pairs[0])
    with monkeypatch.context() as patch:
        error = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        patch.setattr(acme_certificate, "create_context", Mock(side_effect=error))
        certificate.load()
    assert certificate.issued is None
    certificate.load()
    assert certificate.issued is not None


@pytest.fixture
def now(monkeypatch):
    """Stop the time of day, and return it."""
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    return now


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Return two certificates with their keys."""
    folder = tmp_path_factory.mktemp("pairs")
    issued = [Authority().issue(folder, "dns.example", label=it) for it in ("one", "two")]
    return [(it.certificate.read_text(), it.key.read_text()) for it in issued]


def store(certificate, begin, end, pair):
    content = {"chain": pair[0], "key": pair[1], "begin": begin, "end": end}
    write_json(certificate._path, content)


def test_another_process_reads_what_the_leader_has_stored(settings, pairs, caplog):
    follower = AcmeCertificate(settings)
    leader = AcmeCertificate(settings)
    before = follower.fingerprint
    store(leader, 0, 1, pairs[0])
    follower.load()
    chain, key = pairs[0]
    assert follower.issued == Issued(chain.encode(), key.encode(), 0.0, 1.0)
    assert follower.fingerprint != before
    for damaged in ((pairs[0][0], pairs[1][1]), ("no PEM", key)):
        store(leader, 0, 2, damaged)
        follower.load()
    assert follower.issued.end == 1.0
    assert caplog.text.count("is damaged") == 2
    assert follower.issued.is_expired
    other = AcmeCertificate(AcmeSettings(("other.example",), settings.storage))
    assert other.issued is None


def test_a_certificate_is_renewed_after_two_thirds_of_its_validity(settings, now, pairs):
    certificate = AcmeCertificate(settings)
    store(certificate, now - DAY, now + 89 * DAY, pairs[0])
    certificate.load()
    assert 59 * DAY <= certificate.seconds_until_due() + 1 <= 59 * DAY + 0.05 * 90 * DAY + 1
    store(certificate, now - 70 * DAY, now + 20 * DAY, pairs[1])
    certificate.load()
    assert certificate.seconds_until_due() <= 0
    write_json(certificate._attempts, {"failures": 3, "not_before": now + 100})
    assert round(certificate.seconds_until_due()) == 100
    write_json(certificate._attempts, {"failures": 3, "not_before": now + 1e9})
    assert certificate.seconds_until_due() <= LONGEST_DELAY


def run_attempts(certificate, monkeypatch, outcomes, pair=None):
    """Attempt once for each outcome; return the seconds until the next one."""

    async def obtain():
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        now = time.time()
        store(certificate, now, now + outcome, pair)

    monkeypatch.setattr(certificate, "_obtain", obtain)
    delays = []
    while outcomes:
        asyncio.run(certificate._order())
        delays.append(round(certificate.seconds_until_due()))
    return delays


def test_the_delays_of_further_attempts(settings, monkeypatch, now, pairs, caplog):
    certificate = AcmeCertificate(settings)
    outcomes = [AcmeError("no"), OSError("gone"), AcmeError("busy", 7200.0), ValueError("odd")]
    delays = run_attempts(certificate, monkeypatch, outcomes)
    assert delays == [FIRST_DELAY, 2 * FIRST_DELAY, 7200, 8 * FIRST_DELAY]
    assert certificate.problem == "odd"
    assert "from https://acme-v02.api.letsencrypt.org/directory: gone; there is none" in caplog.text
    delays = run_attempts(certificate, monkeypatch, [AcmeError("no")] * 20)
    assert delays[-1] == LONGEST_DELAY
    delays = run_attempts(certificate, monkeypatch, [10.0], pairs[0])
    assert delays == [3600]  # not at once, though it is short
    assert (certificate.problem, read_json(certificate._attempts)["failures"]) == ("", 0)
    run_attempts(certificate, monkeypatch, [AcmeError("no")])
    assert "no; the previous one stays in use" in caplog.text


def test_a_folder_that_cannot_be_used(tmp_path, caplog):
    (tmp_path / "file").touch()
    certificate = AcmeCertificate(AcmeSettings(("dns.example",), tmp_path / "file" / "storage"))
    for _ in range(3):
        asyncio.run(certificate._attempt())
    assert f"cannot use the folder {tmp_path}/file/storage: Not a directory" in caplog.text
    assert len(caplog.records) == 1


def test_an_attempt_waits_for_that_of_another_process(settings, monkeypatch):
    certificate = AcmeCertificate(settings)
    monkeypatch.setattr(certificate, "_order", lambda: pytest.fail("two at a time"))
    held = lock(settings.storage)
    assert held is not None
    asyncio.run(certificate._attempt())
    held.release()
    write_json(certificate._attempts, {"not_before": time.time() + 100})  # it has just ended
    asyncio.run(certificate._attempt())


class FakeCA(CAConnection):
    """Answers requests with the responses of a list."""

    def __init__(self, *responses):
        self.responses = [*responses]
        self.asked = []

    async def request(self, method, url, body=b"", content_type=""):
        self.asked.append((method, url))
        return self.responses.pop(0)


def response(content, status=200, **headers):
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return Response(status, headers, body)


DIRECTORY = response({"newNonce": "n", "newAccount": "a", "newOrder": "o"})
NONCE = response(b"", **{"replay-nonce": "x"})
BAD_NONCE = response({"type": "urn:ietf:params:acme:error:badNonce"}, 400)
LIMITED = response(
    {"type": "urn:ietf:params:acme:error:rateLimited", "detail": "too\nmany"},
    429,
    **{"retry-after": "77"},
)
ACCOUNT = response({}, 201, location="me", **{"replay-nonce": "x"})
ORDER = response({"authorizations": ["z"], "finalize": "f"}, 201, location="order")
INVALID = response({"status": "invalid", "challenges": [{"error": {"detail": "wrong TXT"}}]})


@pytest.mark.parametrize(
    ("responses", "message"),
    [
        ([response(b"<html>", 200)], "not a JSON object"),
        ([response(b"no", 503)], "status 503"),
        ([response({"newNonce": "n"})], "has no newAccount"),
        ([DIRECTORY, *[NONCE, BAD_NONCE] * NONCE_ATTEMPTS], "status 400 badNonce"),
        ([DIRECTORY, NONCE, LIMITED], "status 429 rateLimited: too many"),
        ([DIRECTORY, NONCE, ACCOUNT, ORDER, NONCE, response({"status": "pending"})], "no usable"),
        ([DIRECTORY, NONCE, ACCOUNT, ORDER, NONCE, response([])], "not a JSON object"),
        (
            [
                DIRECTORY,
                NONCE,
                ACCOUNT,
                ORDER,
                NONCE,
                response({"status": "valid"}),
                NONCE,
                INVALID,
            ],
            "invalid: wrong TXT",
        ),
    ],
    ids=["html", "status", "directory", "nonces", "limited", "challenge", "list", "invalid"],
)
def test_what_a_ca_may_answer(responses, message):
    client = AcmeClient(FakeCA(*responses), "https://ca.example/", AccountKey(new_key()))

    async def publish(proofs):
        raise AssertionError("nothing to prove")

    with pytest.raises(AcmeError, match=message) as caught:
        asyncio.run(client.obtain(["dns.example"], b"", "", publish))
    assert caught.value.retry_after == (77 if "429" in message else 0)


def test_keys_and_requests():
    pem = new_key()
    key = AccountKey(pem)
    signed = json.loads(key.sign(b"{}", nonce="n", url="u"))
    assert set(signed) == {"protected", "payload", "signature"}
    assert len(signed["signature"]) == 86
    assert len(key.proof("token")) == 43
    assert signing_request(pem, ["dns.example"]).startswith(b"\x30")
    with pytest.raises(ValueError, match="PEM"):
        AccountKey(b"-----BEGIN PRIVATE KEY-----\n")


def test_a_certificate_that_was_not_ordered(tmp_path):
    files = Authority().issue(tmp_path, "dns.example")
    chain, key = files.certificate.read_bytes(), files.key.read_bytes()
    with pytest.raises(ValueError, match="another key"):
        validity(chain, new_key(), ["dns.example"])
    with pytest.raises((ValueError, AssertionError)):
        validity(chain, key, ["other.example"])


def ask_ca(url, resolver=None):
    connection = CAConnection(ssl.create_default_context(), resolver)
    return asyncio.run(connection.request("GET", url))


async def serve_once(content):
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(content)
        await writer.drain()
        writer.close()

    return await asyncio.start_server(answer, "127.0.0.1", 0)


def fetch(content, host="127.0.0.1", resolver=None):
    async def run():
        async with await serve_once(content) as server:
            port = server.sockets[0].getsockname()[1]
            connection = CAConnection(ssl.create_default_context(), resolver)
            return await connection.request("GET", f"http://{host}:{port}/dir")

    return asyncio.run(run())


GOOD = b"HTTP/1.1 200 OK\r\nReplay-Nonce: n\r\nContent-Length: 2\r\n\r\nok"


def test_a_request():
    assert fetch(GOOD) == Response(200, {"replay-nonce": "n", "content-length": "2"}, b"ok")


def test_a_request_with_a_resolver():
    answers = {"ca.example. A": ["ca.example. 60 IN A 127.0.0.1"]}
    with Upstream(answers) as upstream:
        host, port = upstream.to.rsplit(":", 1)
        assert fetch(GOOD, "ca.example", (host, int(port))).body == b"ok"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "closed without a response"),
        (b"garbage\r\n\r\n", "illegal"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok", "peer closed"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + bytes(2 << 20), "more than"),
    ],
    ids=["nothing", "garbage", "cut off", "oversize"],
)
def test_a_response_that_cannot_be_used(content, message):
    with pytest.raises(OSError, match=message) as caught:
        fetch(content)
    assert str(caught.value).startswith("http://127.0.0.1:")


def test_a_ca_that_cannot_be_reached():
    udp, tcp = free_sockets("127.0.0.1")
    port = tcp.getsockname()[1]
    udp.close()
    tcp.close()
    with pytest.raises(OSError, match="https://127"):
        ask_ca(f"https://127.0.0.1:{port}/dir")


def test_only_the_leader_orders_and_a_reload_keeps_its_order(settings, monkeypatch):
    """The certificate has two users for a while, and its task ends with the last one."""
    monkeypatch.setattr(acme_certificate, "INTERVAL", 0.001)

    async def run():
        certificate = AcmeCertificate.of(settings)
        assert AcmeCertificate.of(settings) is certificate
        attempted, looked = asyncio.Event(), asyncio.Event()

        async def attempt():
            attempted.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(certificate, "_attempt", attempt)
        monkeypatch.setattr(certificate, "load", looked.set)
        certificate.use(leads=False)
        for _ in range(3):
            looked.clear()
            await looked.wait()
        await certificate.release()
        assert not attempted.is_set()
        certificate.use(leads=True)
        await attempted.wait()
        certificate.use(leads=True)
        await certificate.release()
        (task,) = [it for it in asyncio.all_tasks() if it.get_name().startswith("ACME")]
        await certificate.release()
        assert task.cancelled()

    asyncio.run(run())


def run_process(settings, account):
    return asyncio.run(acme_process.obtain_apart(settings, account))


def test_the_process_that_orders(settings, tmp_path, monkeypatch):
    account = tmp_path / "account.json"
    more = AcmeSettings(
        settings.domains, settings.storage, "a@example", "http://127.0.0.1:1/", None, ("::1", 53)
    )
    for each in (settings, more, AcmeSettings(("a.example",), tmp_path, ca_root=tmp_path / "ca")):
        assert acme_process.read_job(acme_process.job(each, account)) == (each, account)
    with pytest.raises(AcmeError, match=re.escape("http://127.0.0.1:1/: Connection refused")):
        run_process(more, account)
    account.write_text('{"key": "damaged"}')
    with pytest.raises(AcmeError, match="the key of the account is damaged"):
        run_process(more, account)
    monkeypatch.setattr(acme_process, "job", lambda *_: b"no job")
    with pytest.raises(AcmeError, match="JSONDecodeError"):
        run_process(more, account)


def test_a_process_that_takes_too_long_is_killed(settings, tmp_path, monkeypatch):
    """Its standard input stays open here, so that it waits."""
    started: list[asyncio.subprocess.Process] = []

    async def create(*arguments, **options):
        process = await create_subprocess_exec("sleep", "1000", **options)
        started.append(process)
        return process

    create_subprocess_exec = asyncio.create_subprocess_exec
    monkeypatch.setattr(asyncio, "create_subprocess_exec", create)
    monkeypatch.setattr(acme_process, "PATIENCE", 0.0)
    with pytest.raises(AcmeError, match="the order took more than 0 s"):
        run_process(settings, tmp_path / "account.json")
    assert started[0].returncode == -9


def test_a_slow_file_system_holds_only_the_queries_for_proofs(settings, monkeypatch):
    """They share one thread, and a cancelled one leaves it to the others."""
    entered, leave, calls = threading.Event(), threading.Event(), []

    def read(storage, name):
        calls.append(name)
        entered.set()
        leave.wait(60)
        return ["proof"]

    monkeypatch.setattr(challenges, "read_challenges", read)

    async def run():
        reader = Reader([settings.storage], WIRE)
        tasks = [asyncio.create_task(reader.read()) for _ in range(3)]
        await asyncio.to_thread(entered.wait, 60)
        tasks[0].cancel()
        leave.set()
        return await asyncio.gather(*tasks[1:])

    assert asyncio.run(run()) == [["proof"], ["proof"]]
    assert calls == [WIRE]


def test_a_look_at_the_file_that_fails_is_not_the_last_one(settings, monkeypatch):
    """Without another one, the certificate would never be renewed."""
    monkeypatch.setattr(acme_certificate, "FIRST_INTERVAL", 0)

    async def main():
        certificate, look = AcmeCertificate(settings), FailsOnce()
        monkeypatch.setattr(acme_certificate, "in_thread", look)
        certificate.use(leads=False)
        await look.repeated()
        await certificate.release()

    asyncio.run(main())
