"""Signatures, against the vectors that AWS publishes (aws-sig-v4-test-suite, in aws-c-auth)."""

import calendar
import datetime

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as TheirCredentials

from corepy_route53.endpoints import partition_of
from corepy_route53.signing import Credentials, Scope, SignedRequest, query_text, sign

NOW = calendar.timegm((2015, 8, 30, 12, 36, 0))
SCOPE = Scope("us-east-1", "service")
KEYS = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
TOKEN = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267"
HOST = ("Host", "example.amazonaws.com")
FORM = "application/x-www-form-urlencoded"
UNRESERVED = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

# The name in the suite, method, path, parameters, headers, body, signature
VECTORS = [
    ("get-vanilla", "GET", "/", [], [], b"", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    ("get-header-key-duplicate", "GET", "/", [], [("My-Header1", "value2"), ("My-Header1", "value2"), ("My-Header1", "value1")], b"", "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea"),
    ("get-header-value-order", "GET", "/", [], [("My-Header1", "value4"), ("My-Header1", "value1"), ("My-Header1", "value3"), ("My-Header1", "value2")], b"", "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01"),
    ("get-header-value-trim", "GET", "/", [], [("My-Header1", " value1"), ("My-Header2", ' "a   b   c"')], b"", "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"),
    ("get-relative-unnormalized", "GET", "/example/..", [], [], b"", "eca7ead57bb5aa5c8e28007acd4ff04e1ff9a0ff3b237ec1554a184887ff9282"),
    ("get-slash-dot-slash-unnormalized", "GET", "/./", [], [], b"", "68714168e6557f8f2de0ef956fc24dc2593a4bd2961f8df51898d8a134695145"),
    ("get-slash-pointless-dot-unnormalized", "GET", "/./example", [], [], b"", "beb03f223f7deae4146464f06e29eebbee9c8afbe15c290cf07aa8b119e14cff"),
    ("get-slash-unnormalized", "GET", "//", [], [], b"", "c88bcd3d312d75078c0cd961d6deae3f4c754924b01669efcfcb439fd5e5b76e"),
    ("get-slashes-unnormalized", "GET", "//example//", [], [], b"", "87cca117541a147f6df867677d98a7d80dff226d2bfca9e4ffa899665623c7e5"),
    ("get-space-unnormalized", "GET", "/example space/", [], [], b"", "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741"),
    ("get-unreserved", "GET", f"/{UNRESERVED}", [], [], b"", "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"),
    ("get-utf8", "GET", "/ሴ", [], [], b"", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
    ("get-vanilla-empty-query-key", "GET", "/", [("Param1", "value1")], [], b"", "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb"),
    ("get-vanilla-query-order-encoded", "GET", "/", [("Param-3", "Value3"), ("Param", "Value2"), ("ሴ", "Value1")], [], b"", "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac"),
    ("get-vanilla-query-order-key-case", "GET", "/", [("Param2", "value2"), ("Param1", "value1")], [], b"", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
    ("get-vanilla-query-unreserved", "GET", "/", [(UNRESERVED, UNRESERVED)], [], b"", "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197"),
    ("get-vanilla-utf8-query", "GET", "/", [("ሴ", "bar")], [], b"", "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"),
    ("post-vanilla", "POST", "/", [], [], b"", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
    ("post-header-key-sort", "POST", "/", [], [("My-Header1", "value1")], b"", "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c"),
    ("post-header-value-case", "POST", "/", [], [("My-Header1", "VALUE1")], b"", "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d"),
    ("post-vanilla-query", "POST", "/", [("Param1", "value1")], [], b"", "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"),
]  # fmt: skip


def signature(headers):
    return dict(headers)["Authorization"].rpartition("Signature=")[2]


@pytest.mark.parametrize("vector", VECTORS, ids=[vector[0] for vector in VECTORS])
def test_requests_are_signed_as_in_the_published_vectors(vector):
    _, method, path, parameters, headers, body, expected = vector
    request = SignedRequest(method, path, query_text(parameters), [HOST, *headers], body)
    assert signature(sign(request, KEYS, SCOPE, NOW)) == expected


def test_the_session_token_is_signed():
    headers = sign(SignedRequest("GET", "/", "", [HOST]), KEYS._replace(token=TOKEN), SCOPE, NOW)
    assert dict(headers) == {
        "X-Amz-Date": "20150830T123600Z",
        "X-Amz-Security-Token": TOKEN,
        "Authorization": "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/"
        "aws4_request, SignedHeaders=host;x-amz-date;x-amz-security-token, "
        "Signature=07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8",
    }


@pytest.mark.parametrize(
    "path", ["/2013-04-01/hostedzone/Z1/rrset", "/2013-04-01/hostedzone/Z%2F%2A/rrset"]
)
def test_a_list_is_signed_as_by_the_sdk_of_aws(path, monkeypatch):
    moment = datetime.datetime(2015, 8, 30, 12, 36, 0)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda remove_tzinfo=True: moment)
    parameters = [("name", r"\052.a b.example.org."), ("type", "A"), ("identifier", "é/+&=")]
    url = f"https://route53.amazonaws.com{path}?{query_text(parameters)}"
    theirs = AWSRequest("GET", url)
    SigV4Auth(TheirCredentials(*KEYS[:2], TOKEN), "route53", "us-east-1").add_auth(theirs)
    host = ("Host", "route53.amazonaws.com")
    request = SignedRequest("GET", path, query_text(parameters), [host])
    ours = sign(request, KEYS._replace(token=TOKEN), Scope("us-east-1", "route53"), NOW)
    assert dict(ours)["Authorization"] == theirs.headers["Authorization"]


def test_credentials_are_not_shown():
    keys = KEYS._replace(token=TOKEN, source="a file")
    assert f"{keys} {keys!r}" == "<Credentials from a file> <Credentials from a file>"


@pytest.mark.parametrize(
    ("region", "host", "signed"),
    [
        ("", "route53.amazonaws.com", "us-east-1"),
        ("eu-central-1", "route53.amazonaws.com", "us-east-1"),
        ("us-west-2", "route53.amazonaws.com", "us-east-1"),
        ("cn-north-1", "route53.amazonaws.com.cn", "cn-northwest-1"),
        ("us-gov-east-1", "route53.us-gov.amazonaws.com", "us-gov-west-1"),
        ("us-iso-west-1", "route53.c2s.ic.gov", "us-iso-east-1"),
        ("us-isob-east-1", "route53.sc2s.sgov.gov", "us-isob-east-1"),
        ("us-isof-east-1", "route53.csp.hci.ic.gov", "us-isof-south-1"),
        ("eu-isoe-west-1", "route53.cloud.adc-e.uk", "eu-isoe-west-1"),
        ("eusc-de-east-1", "route53.amazonaws.eu", "eusc-de-east-1"),
    ],
)
def test_each_partition_has_an_endpoint(region, host, signed):
    partition = partition_of(region)
    assert (partition.host, partition.region) == (host, signed)
