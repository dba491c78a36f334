"""The *rewrite* directive: the rules of CoreDNS's tests, and diagnostics.

The tables have all rules of plugin/rewrite/*_test.go, each as often as there: 142 of TestNewRule, 28
of TestNewNameRule, 22 of TestNewTTLRule, 6 of TestNewRCodeRule, those of TestTtlRewrite (10) and of
TestCNameTargetRewrite (7), the texts of TestParse (10), and the four patterns that are too long.
"""

import pytest

from corepy.plugin import Cacheability, CorefileError
from corepy.testing import refusal, set_up
from corepy_rewrite.handler import Rewrite

ACCEPTED = r"""
name a.com b.com
name exact a.com b.com
name prefix a.com b.com
name suffix a.com b.com
name substring a.com b.com
name regex ([a])\.com new-{1}.com
name regex (dns)\.(core)\.(rocks) {2}.{1}.{3} answer name (core)\.(dns)\.(rocks) {2}.{1}.{3}
name substring fcore.dns.rocks dns.fcore.rocks answer name (fcore)\.(dns)\.(rocks) {2}.{1}.{3}
type any a
class ch in
edns0 local set 65518 abcdefg
edns0 local set 0xffee abcdefg
edns0 local set 0xffee abcdefg revert
edns0 local append 0xffee abcdefg
edns0 local append 0xffee abcdefg revert
edns0 local replace 0xffee abcdefg
edns0 local replace 0xffee abcdefg revert
edns0 local unset 0xffee
edns0 nsid set
edns0 nsid set revert
edns0 nsid append
edns0 nsid append revert
edns0 nsid replace
edns0 nsid replace revert
edns0 nsid unset
edns0 local set 0xffee {qname}
edns0 local set 0xffee {qtype}
edns0 local set 0xffee {client_ip}
edns0 local set 0xffee {client_port}
edns0 local set 0xffee {protocol}
edns0 local set 0xffee {server_ip}
edns0 local set 0xffee {server_port}
edns0 local set 0xffee {server_port} revert
edns0 local append 0xffee {qname}
edns0 local append 0xffee {qtype}
edns0 local append 0xffee {client_ip}
edns0 local append 0xffee {client_port}
edns0 local append 0xffee {protocol}
edns0 local append 0xffee {server_ip}
edns0 local append 0xffee {server_port}
edns0 local append 0xffee {server_port} revert
edns0 local replace 0xffee {qname}
edns0 local replace 0xffee {qtype}
edns0 local replace 0xffee {client_ip}
edns0 local replace 0xffee {client_port}
edns0 local replace 0xffee {protocol}
edns0 local replace 0xffee {server_ip}
edns0 local replace 0xffee {server_port}
edns0 local replace 0xffee {server_port} revert
edns0 subnet set 24 56
edns0 subnet set 24 56 revert
edns0 subnet append 24 56
edns0 subnet append 24 56 revert
edns0 subnet replace 24 56
edns0 subnet replace 24 56 revert
edns0 subnet unset
stop name a.com b.com
continue name a.com b.com
stop type any a
continue type any a
stop class ch in
continue class ch in
stop edns0 local set 0xffee abcdefg
continue edns0 local set 0xffee abcdefg
stop edns0 nsid set
continue edns0 nsid set
stop edns0 local set 0xffee {qname}
stop edns0 local set 0xffee {qtype}
stop edns0 local set 0xffee {client_ip}
stop edns0 local set 0xffee {client_port}
stop edns0 local set 0xffee {protocol}
stop edns0 local set 0xffee {server_ip}
stop edns0 local set 0xffee {server_port}
continue edns0 local set 0xffee {qname}
continue edns0 local set 0xffee {qtype}
continue edns0 local set 0xffee {client_ip}
continue edns0 local set 0xffee {client_port}
continue edns0 local set 0xffee {protocol}
continue edns0 local set 0xffee {server_ip}
continue edns0 local set 0xffee {server_port}
stop edns0 subnet set 24 56
stop edns0 subnet append 24 56
stop edns0 subnet replace 24 56
stop edns0 subnet unset
continue edns0 subnet set 24 56
continue edns0 subnet append 24 56
continue edns0 subnet replace 24 56
continue edns0 subnet unset
stop name exact srv3.coredns.rocks srv4.coredns.rocks
stop name srv1.coredns.rocks srv2.coredns.rocks
stop name suffix coredns.rocks coredns.rocks.
stop name suffix coredns.rocks. coredns.rocks
stop name suffix coredns.rocks. coredns.rocks.
stop name regex srv1.coredns.rocks 10
stop name regex (.*).coredns.rocks 10
stop name regex (.*).coredns.rocks {1}.coredns.rocks
stop name regex staging.mydomain.com aws-loadbalancer-id.us-east-1.elb.amazonaws.com
stop name suffix staging.mydomain.com coredns.rock answer auto
stop name regex staging.mydomain.com coredns.rock answer auto
stop name regex staging.mydomain.com coredns.rock answer name coredns.rock staging.mydomain.com
stop name regex staging.mydomain.com coredns.rock answer name (.*).coredns.rock {1}.staging.mydomain.com name (.*).coredns.rock {1}.staging.mydomain.com
stop name regex staging.mydomain.com coredns.rock answer name (.*).coredns.rock {1}.staging.mydomain.com answer name (.*).coredns.rock {1}.staging.mydomain.com
stop name regex staging.mydomain.com coredns.rock answer name (.*).coredns.rock {1}.staging.mydomain.com value (.*).coredns.rock {1}.staging.mydomain.com
stop name regex staging.mydomain.com coredns.rock answer name (.*).coredns.rock {1}.staging.mydomain.com answer value (.*).coredns.rock {1}.staging.mydomain.com
stop name suffix staging.mydomain.com. coredns.rock. answer value (.*).coredns.rock {1}.staging.mydomain.com value (.*).coredns.rock {1}.staging.mydomain.com
stop name suffix staging.mydomain.com. coredns.rock. answer value (.*).coredns.rock {1}.staging.mydomain.com answer value (.*).coredns.rock {1}.staging.mydomain.com
stop name suffix staging.mydomain.com. coredns.rock. answer value (.*).coredns.rock {1}.staging.mydomain.com name (.*).coredns.rock {1}.staging.mydomain.com
stop ttl srv1.coredns.rocks 10
stop ttl exact srv1.coredns.rocks 15
stop ttl prefix coredns.rocks 20
stop ttl suffix srv1 25
stop ttl substring coredns 30
stop ttl regex (srv1)\.(coredns)\.(rocks) 35
continue ttl srv1.coredns.rocks 10
continue ttl exact srv1.coredns.rocks 15
continue ttl prefix coredns.rocks 20
continue ttl suffix srv1 25
continue ttl substring coredns 30
continue ttl regex (srv1)\.(coredns)\.(rocks) 35
stop ttl range.coredns.rocks 1-2
stop ttl ceil.coredns.rocks -2
stop ttl floor.coredns.rocks 1-
stop ttl range.coredns.rocks 2-2
stop rcode numeric.rcode.coredns.rocks 2 0
stop rcode exact match.string.rcode.coredns.rocks SERVFAIL NOERROR
continue rcode regex (regex)\.rcode\.(coredns)\.(rocks) FORMERR NOERROR
stop ttl srv1.coredns.rocks 1
stop ttl exact srv15.coredns.rocks 15
stop ttl prefix srv30 30
stop ttl suffix 45.coredns.rocks 45
stop ttl substring rv50 50
stop ttl regex (srv10)\.(coredns)\.(rocks) 10
stop ttl regex (srv20)\.(coredns)\.(rocks) 20
stop ttl range.example.com. 30-300
stop ttl ceil.example.com. -11
stop ttl floor.example.com. 5-
continue cname exact def.example.com xyz.example.com
continue cname prefix chat.openai.com bard.google.com
continue cname suffix uvw. xyz.
continue cname substring efgh zzzz.www
continue cname regex (.*)\.web\.(.*)\.site\. {1}.webapp.{2}.org.
continue cname exact music.truncated.spotify.com. music.truncated.spotify.com.
continue cname suffix prod. staging.
"""

REFUSED = r"""
foo
name
name a.com
name a.com b.com c.com
name regex ([a]\.com new-{1}.com
name regex (adns)\.(core)\.(rocks) {2}.{1}.{3} answer name (core)\.(adns)\.(rocks) {2}.{1}.{3} too.long way.too.long
name regex (bdns)\.(core)\.(rocks) {2}.{1}.{3} NoAnswer name (core)\.(bdns)\.(rocks) {2}.{1}.{3}
name regex (cdns)\.(core)\.(rocks) {2}.{1}.{3} answer ttl (core)\.(cdns)\.(rocks) {2}.{1}.{3}
name substring a.com b.com c.com
type
type a
type any a a
type XY WV
type ANY WV
class
class IN
class ch in in
class XY WV
class IN WV
edns0
edns0 unknown-rule-type set
edns0 unknown-rule-type unset
edns0 local
edns0 local set
edns0 local set 0xffee
edns0 local set invalid-uint abcdefg
edns0 local unset 0xffee abcdefg
edns0 local unset 0xffee revert
edns0 local foo 0xffee abcdefg
edns0 local set 0xffee 0xabcdefg
edns0 nsid set junk
edns0 nsid unset revert
edns0 nsid foo
edns0 local set invalid-uint {qname}
edns0 local set 0xffee {dummy}
edns0 local append 0xffee {dummy}
edns0 local replace 0xffee {dummy}
edns0 subnet set -1 56
edns0 subnet set 24 -56
edns0 subnet set 33 56
edns0 subnet set 24 129
edns0 subnet append 24 56 72
edns0 subnet unset 24 56
edns0 subnet unset revert
unknown-action name a.com b.com
unknown-action type any a
unknown-action class ch in
unknown-action edns0 local set 0xffee abcedef
unknown-action edns0 nsid set
unknown-action edns0 local set 0xffee {qname}
unknown-action edns0 subnet set 24 64
stop name regex (.*).coredns.rocks {1}.{2}.coredns.rocks
stop name suffix staging.mydomain.com coredns.rock answer
stop name suffix staging.mydomain.com coredns.rock answer name
stop name suffix staging.mydomain.com coredns.rock answer other
stop name regex staging.mydomain.com coredns.rock answer name
stop name regex staging.mydomain.com coredns.rock answer name (.*).coredns.rock {1}.{2}.staging.mydomain.com
stop name regex staging.mydomain.com coredns.rock answer name (.*).coredns.rock {1}.staging.mydomain.com name (.*).coredns.rock
stop name regex staging.mydomain.com coredns.rock answer name (.*).coredns.rock {1}.staging.mydomain.com value (.*).coredns.rock
stop name suffix staging.mydomain.com. coredns.rock. answer value (.*).coredns.rock {1}.staging.mydomain.com value (.*).coredns.rock
stop ttl srv1.coredns.rocks 12345678901234567890
stop ttl srv1.coredns.rocks coredns.rocks
stop ttl srv1.coredns.rocks #1
stop ttl invalid.coredns.rocks -
stop ttl invalid.coredns.rocks 2-1
stop ttl invalid.coredns.rocks 5-10-20
stop rcode too.few.rcode.coredns.rocks 2
stop rcode exact too.many.rcode.coredns.rocks 2 1 0
stop rcode invalid.rcode.coredns.rocks random nothing
"""

BLOCK_ACCEPTED = (
    "name a.com b.com",
    "stop {\n name regex foo bar\n answer name bar foo\n}",
    "stop name regex foo bar answer name bar foo",
)
BLOCK_REFUSED = {
    "": "wrong argument count",
    "name": "too few arguments for name",
    "stop {\n name regex foo bar\n answer name bar foo\n name baz\n}": "2 arguments required",
    "stop {\n answer name bar foo\n name regex foo bar\n}": "must begin with a name rule",
    "stop": "stop without a rule",
    "continue": "continue without a rule",
    "stop name regex [bad[ bar answer name bar foo": "invalid regular expression",
}
LONG = "a" * 10_001
TOO_LONG = (
    f"name regex {LONG} replacement",
    f"ttl regex {LONG} 300",
    f"rcode regex {LONG} SERVFAIL NXDOMAIN",
    f"cname regex {LONG} replacement",
)
NO_UTF8 = (
    r"name regex (ddns)\.(core)\.(rocks) {2}.{1}.{3} answer name %s\.(ddns)\.(rocks) {2}.{1}.{3}",
    r"name regex %s\.(core)\.(rocks) {2}.{1}.{3} answer name (core)\.(edns)\.(rocks) {2}.{1}.{3}",
)


def rules(text):
    (handler,) = set_up(text).handlers
    assert isinstance(handler, Rewrite)
    return handler.rules


def test_the_tables_are_whole():
    lines = (len(ACCEPTED.splitlines()) - 1, len(REFUSED.splitlines()) - 1)
    assert lines == (143, 69)
    whole = sum(map(len, (BLOCK_ACCEPTED, BLOCK_REFUSED, TOO_LONG, NO_UTF8)))
    assert sum(lines) + whole + len(("",)) == 215 + 10 + 4


@pytest.mark.parametrize("text", [*ACCEPTED.strip().splitlines(), *BLOCK_ACCEPTED])
def test_accepted(text):
    assert len(rules(f"rewrite {text}")) == 1


@pytest.mark.parametrize("text", REFUSED.strip().splitlines())
def test_refused(text):
    assert refusal(f"rewrite {text}").hint


@pytest.mark.parametrize(("text", "message"), BLOCK_REFUSED.items())
def test_refused_with_blocks(text, message):
    assert message in refusal(f"rewrite {text}").message


@pytest.mark.parametrize("text", TOO_LONG)
def test_long_patterns_are_refused(text):
    assert refusal(f"rewrite {text}").message == "regex pattern too long: 10001 > 10000"


@pytest.mark.parametrize("text", NO_UTF8)
def test_patterns_that_are_no_text_are_refused(text):
    """As in Caddy, the byte is replaced, and the pattern has a group less than is used."""
    assert "uses more groups" in refusal(f"rewrite {text % chr(0xDCEC)}").message


@pytest.mark.parametrize(
    ("text", "column", "message", "hint"),
    [
        ("name prefx a b", 14, "unknown kind of match 'prefx'", "did you mean 'prefix'?"),
        ("name a b answer auto", 14, "unknown kind of match 'a'", "two names alone are exact"),
        ("nam a b", 9, "unknown field 'nam'", "did you mean 'name'?"),
        ("type A AAAAA", 16, "unknown type 'AAAAA'", "did you mean 'AAAA'?"),
        ("class IN CHAOS", 18, "unknown class 'CHAOS'", "such as IN or CH"),
        ("type A FOO", 16, "unknown type 'FOO'", "such as A or AAAA"),
        ("{\n}", 1, "the block has no rule", "write a field and its words in it: name, "),
        ("stop {\n}", 1, "the block has no rule", "write a field and its words in it: name, "),
        ("name a b continue", 18, "continue at the end of a rule", "rewrite continue name ..."),
        ("ttl a 30 Stop", 18, "Stop at the end of a rule", "rewrite Stop ttl ..."),
        ("stop continue name a b", 14, "continue behind another mode", "one of continue and stop"),
        ("ttl a.com 30-10", 19, "invalid TTL '30-10'", "seconds, or a range such as"),
        ("ttl a.com 2147483648", 19, "invalid TTL '2147483648'", "at most 2147483647"),
        ("rcode a.com SERVFAIL NOERR", 30, "unknown rcode 'NOERR'", "did you mean 'NOERROR'?"),
        ("name suffix a b answer auto name c d", 37, "answer auto and answer name exclude", "auto"),
        ("name suffix a b anser auto", 25, "unknown option 'anser'", "answer auto"),
        ("name suffix a b answer name auto", 37, "2 arguments required", "write answer auto, "),
        ("name suffix a b answer nme c d", 32, "unknown answer rule 'nme'", "did you mean 'name'?"),
        ("name regex a(b) {1}{2}", 25, "uses more groups than the pattern", "has 1 groups"),
        ("edns0 local set 65536 a", 25, "invalid option code '65536'", "a number up to 65535"),
        ("edns0 local sett 1 a", 21, "unknown action 'sett'", "did you mean 'set'?"),
        ("edns0 locl set 1 a", 15, "unknown option 'locl'", "did you mean 'local'?"),
        ("edns0 local set 1 {qnam}", 27, "unknown variable '{qnam}'", "did you mean '{qname}'?"),
        ("edns0 local set 1 0xabc", 27, "invalid hexadecimal data '0xabc'", "an even number"),
        ("edns0 subnet set 24 129", 29, "invalid IPv6 prefix length '129'", "up to 128"),
        ("cname a", 15, "too few arguments for cname", "cname [KIND] FROM TO"),
        ("ttl regex a 1 2", 23, "too many arguments for ttl", "write one rewrite for each"),
    ],
)
def test_diagnostics_point_at_the_word(text, column, message, hint):
    diagnostic = refusal(f"rewrite {text}")
    assert diagnostic.token is not None
    assert (diagnostic.token.line, diagnostic.token.column) == (2, column)
    assert message in diagnostic.message
    assert hint in (diagnostic.hint or "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("a.com *.b.com", "'*.b.com' is neither a name nor a pattern: "),
        (r"(.*)\.a\.com {1}.b.com", "'{1}.b.com' is neither a name nor a pattern: "),
        ("exact a.com (b.com", "'(b.com' is neither a name nor a pattern: "),
        ("exact {1}.a.com b.com", "'{1}.a.com' uses groups of a pattern"),
        ("a{1}.com b.com", "'a{1}.com' uses groups of a pattern"),
        ("{0}.a.com (b).com", None),
        ("a.com b+.com", None),
        (r"a.com b\.c.com", None),
        ("suffix .a.com *.b.com", None),
    ],
)
def test_exact_rules_that_lack_the_word_regex(words, message):
    """CoreDNS refuses them: it reads the new name as a pattern, and the old one as its result."""
    if message is None:
        rules(f"rewrite name {words}")
        return
    diagnostic = refusal(f"rewrite name {words}")
    assert message in diagnostic.message
    assert "write regex in front of a pattern" in (diagnostic.hint or "")


def test_a_label_of_metadata_is_declared():
    ((label, token, is_shown),) = set_up("rewrite edns0 local set 1 {geoip/city/name}").labels_read
    assert (label, token.column, is_shown) == ("geoip/city/name", 27, False)


def test_a_block_behind_a_whole_rule_is_refused():
    assert refusal("rewrite name a b {\n answer auto\n}").message == "a block behind a whole rule"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rewrite name a..b c", "no name can match 'a..b'"),
        ("rewrite ttl suffix a..b 3", "no name can match 'a..b'"),
        ("rewrite name *.a b", "'*.a' selects only names with these characters"),
        (r"rewrite ttl (.*)\.a 5", "selects only names with these characters"),
        ("rewrite name suffix .münchen.de a", "selects only names with these bytes in UTF-8"),
        ("rewrite cname suffix *.a b", "'*.a' selects only names with these characters"),
        ("rewrite name a b..c", "queries that match get SERVFAIL: empty label"),
        ("rewrite name a .b", "queries that match get SERVFAIL: empty label"),
        ("rewrite name prefix a. .", "queries that match get SERVFAIL: empty label"),
        ("rewrite name suffix .a ..b", "queries that match get SERVFAIL: empty label"),
        ("rewrite cname a b..c", "queries that match get SERVFAIL: empty label"),
        ("rewrite name regex a(b) {1}{5}", "uses more groups"),
        ("rewrite name regex a(b)(c) {1}{5}", "{5} stays as it is: the pattern has 2 groups"),
        (
            r"rewrite name regex ^(.*)\.example\.org$ {1}.example.com",
            "this $ matches no name: names end with a dot",
        ),
        (r"rewrite cname regex \d$ a", "this $ matches no name: names end with a dot"),
        ("rewrite edns0 local set 8 abc", "queries get SERVFAIL: 'abc' is not valid for option 8"),
        (
            "rewrite cname a b\nrewrite name c d",
            "this rule is never used: the one at Corefile:2:1 stops at every query",
        ),
        (
            "rewrite name suffix .arpa .arpa answer name auto answer value a b",
            "'auto' is the pattern of answer name, and 'answer' the new name",
        ),
        (
            "rewrite edns0 nsid set\nforward . 192.0.2.1",
            "this rule has no effect: forward sends no NSID option",
        ),
        (
            "rewrite name a b\nrewrite type A AAAA\nrewrite ttl a 30",
            "this rule is never used: the one at Corefile:2:1 stops at the same queries",
        ),
        (
            "rewrite continue name a b\nrewrite type ANY A\nrewrite type ANY TXT",
            "this rule is never used: the one at Corefile:3:1 stops at the same queries",
        ),
        ("rewrite name exact a.", "'exact' is taken as a name, not as a kind of match"),
        ("rewrite continue name Suffix a", "'Suffix' is taken as a name, not as a kind of match"),
        ("rewrite ttl regex 30", "'regex' is taken as a name, not as a kind of match"),
        ("rewrite cname prefix a", "'prefix' is taken as a name, not as a kind of match"),
        (
            "rewrite edns0 nsid set\nrewrite name c d",
            "this rule is never used: the one at Corefile:2:1 stops at every query",
        ),
    ],
)
def test_likely_mistakes_are_warned_of(text, message):
    if "uses more" in message:
        assert message in refusal(text).message
        return
    (warning,) = set_up(text).warnings
    assert message in warning.message


@pytest.mark.parametrize(
    "text",
    [
        "rewrite continue cname a b\nrewrite name c d",
        "rewrite edns0 local append 65001 a\nrewrite name c d",
        "rewrite name substring .a .b\nrewrite ttl substring . 5",
        "rewrite edns0 local set 1 {client_ip}\nrewrite name c d",
        "rewrite edns0 nsid set\nwhoami",
        r"rewrite ttl regex ^a.*\.(com|org)\.$ 5" + "\nrewrite name regex \\S$ a",
        "rewrite continue ttl a 30\nrewrite name a b",
        "rewrite name a b\nrewrite continue name c a\nrewrite name a d",
        "rewrite type ANY A\nrewrite class ANY IN",  # both have the number 255
        "rewrite name suffix .a .b answer auto\nrewrite name regex (a)(b) {1}{2}",
        "rewrite name suffix .a . answer auto\nrewrite name substring .b. .",
    ],
)
def test_usual_rules_are_not_warned_of(text):
    assert not set_up(text).warnings


@pytest.mark.parametrize(
    ("text", "cacheability"),
    [
        ("rewrite name a b", Cacheability.SAFE),
        ("rewrite ttl regex a 5-\nrewrite rcode a 2 0\nrewrite class CH IN", Cacheability.SAFE),
        ("rewrite cname a b\nrewrite edns0 nsid unset", Cacheability.SAFE),
        ("rewrite edns0 local set 1 {qname}", Cacheability.SAFE),
        ("rewrite edns0 local set 1 {protocol}", Cacheability.SAFE),
        ("rewrite edns0 subnet set 0 0", Cacheability.DEPENDS_ON_FAMILY),
        ("rewrite edns0 local set 1 {server_ip}", Cacheability.DEPENDS_ON_LOCAL_ADDRESS),
        (
            "rewrite edns0 subnet set 0 0\nrewrite edns0 local set 1 {server_ip}",
            Cacheability.DEPENDS_ON_LOCAL_ADDRESS,
        ),
        ("rewrite name a b\nrewrite edns0 subnet set 24 56", Cacheability.UNSAFE),
        ("rewrite edns0 local set 1 {client_port}", Cacheability.UNSAFE),
        ("rewrite edns0 local set 1 {geoip/city/name}", Cacheability.UNSAFE),
    ],
)
def test_the_packet_cache_stays_on_where_the_rules_read_only_the_query(text, cacheability):
    (handler,) = set_up(text).handlers
    assert handler.cacheability is cacheability


def test_codes_of_local_options_are_registered():
    text = "rewrite edns0 local set 0xffee a\nrewrite edns0 nsid set\nrewrite edns0 local unset 7"
    assert set_up(text).echoed_options == {0xFFEE}


def test_all_errors_are_reported_together():

    with pytest.raises(CorefileError) as caught:
        set_up("rewrite name a\nrewrite type A B C\nrewrite ttl a 5")
    assert [each.token.line for each in caught.value.diagnostics if each.token] == [2, 3]
