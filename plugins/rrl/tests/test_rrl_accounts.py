"""Balances, categories and keys (plugins/rrl/rrl_test.go), without sockets."""

import pytest

from corepy.dns.constants import TYPE_NS, TYPE_SOA
from corepy.dns.names import from_text
from corepy.dns.records import rr
from corepy.net.connection_limit import client_number
from corepy.testing import make_request
from corepy_rrl.accounts import Accounts
from corepy_rrl.category import Category, token_of
from corepy_rrl.gates import AccountGate, Limits, Settings


def debits(accounts, times, interval, now, key=1):
    """How many of `times` responses at once are within the limit."""
    return sum(not accounts.debit(key, interval, now) for _ in range(times))


def test_an_account_allows_its_rate_at_once_and_then_as_time_passes():
    accounts = Accounts(100, 15.0, 0)
    assert debits(accounts, 10, 0.1, 1000.0) == 10
    assert debits(accounts, 1, 0.1, 1000.15) == 1


def test_responses_over_the_limit_are_debited_down_to_the_window():
    """A client that does not pause stays blocked, as long as the window at most."""
    accounts = Accounts(100, 5.0, 0)
    assert debits(accounts, 500, 0.125, 1000.0) == 8
    assert debits(accounts, 1, 0.125, 1004.9) == 0
    accounts = Accounts(100, 5.0, 0)
    assert debits(accounts, 500, 0.125, 1000.0) == 8
    assert debits(accounts, 20, 0.125, 1005.5) == 4


def test_a_balance_is_never_above_a_second():
    accounts = Accounts(100, 5.0, 0)
    accounts.debit(1, 0.25, 1000.0)
    assert debits(accounts, 50, 0.25, 2000.0) == 4


@pytest.mark.parametrize("interval", [1.0, 2.0, 10.0])
def test_rates_of_one_a_second_and_less(interval):
    """The original denies all responses after a pause if the rate is below one a second."""
    accounts = Accounts(100, 15.0, 0)
    assert debits(accounts, 1, interval, 1000.0) == 1
    assert debits(accounts, 1, interval, 1000.0 + interval - 0.1) == 0
    for pause in (50.0, 100.0, 1000.0):
        assert debits(accounts, 1, interval, 1000.0 + pause) == 1


@pytest.mark.parametrize(("ratio", "slips"), [(0, 0), (1, 10), (2, 5), (5, 2), (10, 1)])
def test_every_nth_response_over_the_limit_slips(ratio, slips):
    accounts = Accounts(100, 2.0, ratio)
    accounts.debit(1, 1.0, 1000.0)
    assert sum(accounts.debit(1, 1.0, 1000.0) and accounts.slips(1) for _ in range(10)) == slips


def test_accounts_beyond_the_table_are_still_limited():
    """The original stops limiting new responses, which a flood can cause."""
    accounts = Accounts(10, 15.0, 0)
    for key in range(2000):
        accounts.debit(key, 0.5, 1000.0)
    assert len(accounts) == 10
    assert debits(accounts, 9, 0.5, 1000.0, key=77_777) == 2
    assert accounts.balance(3, 1000.0) == 0.5


def reply_to(request, kind):
    soa = rr(from_text("zone.test."), TYPE_SOA, 60, from_text("ns.test.") * 2 + bytes(20))
    ns = rr(from_text("Sub.Zone.test."), TYPE_NS, 60, from_text("ns.test."))
    address = rr(request.name_wire, 1, 60, bytes(4))
    return {
        "answer": lambda: request.reply(answer=[address]),
        "alias to nothing": lambda: request.reply(3, answer=[address], authority=[soa]),
        "nodata": lambda: request.reply(authority=[soa]),
        "empty": lambda: request.reply(),
        "referral": lambda: request.reply(authority=[ns]),
        "nxdomain": lambda: request.reply(3, authority=[soa]),
        "bare nxdomain": lambda: request.reply(3),
        "servfail": lambda: request.error(2),
        "refused": lambda: request.error(5),
        "formerr": lambda: request.error(1),
    }[kind]()


NAME, ZONE = from_text("www.zone.test."), from_text("zone.test.")


@pytest.mark.parametrize(
    ("kind", "token"),
    [
        ("answer", (Category.RESPONSE, 16, NAME)),
        ("alias to nothing", (Category.RESPONSE, 16, NAME)),
        ("nodata", (Category.NODATA, 0, NAME)),
        ("empty", (Category.NODATA, 0, NAME)),
        ("referral", (Category.REFERRAL, 16, from_text("sub.zone.test."))),
        ("nxdomain", (Category.NXDOMAIN, 0, ZONE)),
        ("bare nxdomain", (Category.NXDOMAIN, 0, b"")),
        ("servfail", (Category.ERROR, 0, b"")),
        ("refused", (Category.ERROR, 0, b"")),
        ("formerr", (Category.ERROR, 0, b"")),
    ],
)
def test_what_equal_responses_have_in_common(kind, token):
    request = make_request("WWW.zone.test.", "TXT")
    assert token_of(request, reply_to(request, kind)) == token


@pytest.mark.parametrize("kind", ["answer", "nodata"])
@pytest.mark.parametrize(
    ("label", "name"),
    [("*.Zone.test.", ZONE), ("*.", from_text(".")), ("not..valid", from_text("a.zone.test."))],
)
def test_answers_of_a_wildcard_share_an_account(kind, label, name):
    request = make_request("a.zone.test.")
    request.metadata["zone/wildcard"] = label
    assert token_of(request, reply_to(request, kind))[2] == name


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.200", True),
        ("192.0.2.1", "192.0.3.1", False),
        ("2001:db8::1", "2001:db8:0:ff::1", True),
        ("2001:db8::1", "2001:db8:0:100::1", False),
    ],
)
def test_a_network_shares_accounts(one, other, same):
    limits = Limits(Settings())
    token = (Category.RESPONSE, 1, b"\1a\0")
    numbers = [client_number((it, 53)) for it in (one, other)]
    assert (limits.key(numbers[0], token) == limits.key(numbers[1], token)) is same
    assert limits.key(numbers[0], token) != limits.key(numbers[0], None)


def test_processes_divide_the_rates():
    limits = Limits(Settings())
    limits.processes = 4
    assert AccountGate(limits, None, 0.25).interval == 1.0
