"""Tokens: which are valid, and what they permit (protocol section 6)."""

import base64
import copy
import hashlib
import hmac
import json
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from harness import http
from harness.basics import wait_until
from harness.page import Page
from harness.server import FAR, Reply, ServerProcess
from harness.stream import Stream
from integration.calls import action, awaiting, request
from integration.servers import Start

from resonate_server import cli
from resonate_server.config import Auth
from resonate_server.http.auth import Access, Guard
from resonate_server.protocol.errors import Forbidden, ProtocolError, Unauthorized
from resonate_server.protocol.requests import KINDS, LINEAGE

KEYS: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "rsa": (lambda: rsa.generate_private_key(65_537, 2_048), ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]),
    "p256": (lambda: ec.generate_private_key(ec.SECP256R1()), ["ES256"]),
    "p384": (lambda: ec.generate_private_key(ec.SECP384R1()), ["ES384"]),
    "ed25519": (ed25519.Ed25519PrivateKey.generate, ["EdDSA"]),
}


def pem_of(key: Any) -> bytes:
    """The text of the public half of ``key``."""
    text: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return text


class Issuer:
    """A key pair; its public half is in the file ``pem``."""

    def __init__(self, kind: str, pem: Path) -> None:
        generate, self.algorithms = KEYS[kind]
        self._generate = generate
        self.key = generate()
        self.pem = pem
        pem.write_bytes(pem_of(self.key))

    def token(self, algorithm: str = "", key: Any = None, **claims: Any) -> str:
        """Sign a token that is valid for an hour unless ``exp`` says otherwise; ``exp=None`` leaves it out."""
        members = {"exp": int(time.time()) + 3_600, **claims}
        present = {name: value for name, value in members.items() if value is not None}
        return jwt.encode(present, key or self.key, algorithm or self.algorithms[0])

    def stranger(self) -> Any:
        """Another key of the same kind."""
        return self._generate()


class Guarded:
    """A server that demands tokens."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server

    def call(self, kind: str, token: str | None = None, header: str | None = None, **data: Any) -> Reply:
        """``token`` goes into the envelope's head, ``header`` is the Authorization header."""
        head = {"auth": token} if token is not None else {}
        headers = {"Authorization": header} if header is not None else {}
        response = http.request(self.server.port, "POST", "/", request(kind, head, **data), headers)
        envelope = response.json
        assert envelope["head"]["status"] == response.status
        return Reply(status=response.status, data=envelope["data"])

    def status(self, token: str | None = None, header: str | None = None) -> int:
        """Return the status of a request that is answered 404 if the token permits it."""
        return self.call("promise.get", token, header, id="unknown").status

    def poll(self, header: str | None = None, path: str = "/poll/g/w") -> int:
        headers = {"Authorization": header} if header is not None else {}
        return http.request(self.server.port, "GET", path, headers=headers).status


type Sign = Callable[..., str]

EVERYTHING = Access()


def judged(guard: Guard, token: str | None, header: str | None = None) -> Access | type[ProtocolError]:
    """Return what the token permits, or the kind of error with which it is refused."""
    try:
        return guard.authenticate(token, header)
    except ProtocolError as error:
        return type(error)


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    return Issuer("rsa", tmp_path_factory.mktemp("keys") / "key.pem")


@pytest.fixture
def guard(issuer: Issuer) -> Guard:
    return Guard(Auth(publickey=str(issuer.pem), iss="us", aud="resonate"))


@pytest.fixture(scope="module")
def guarded(start_for_all: Start, issuer: Issuer) -> Guarded:
    places = {"RESONATE_AUTH__ISS": "us", "RESONATE_AUTH__AUD": "resonate"}
    return Guarded(start_for_all(RESONATE_AUTH__PUBLICKEY=str(issuer.pem), **places))


@pytest.fixture
def sign(issuer: Issuer) -> Sign:
    """Sign tokens that are valid except for the given changes."""
    return lambda **changes: issuer.token(**({"iss": "us", "aud": ["resonate"], "role": "admin"} | changes))


# --- valid or not ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KEYS)
def test_every_algorithm_of_the_key_is_accepted_and_a_forged_token_refused(tmp_path: Path, kind: str) -> None:
    """Among others an HMAC keyed with the text of the PEM file: the classic confusion of algorithms."""
    issuer, claims = Issuer(kind, tmp_path / "key.pem"), encode({"exp": FAR, "role": "admin"})
    guard = Guard(Auth(publickey=str(issuer.pem)))
    for algorithm in issuer.algorithms:
        assert judged(guard, issuer.token(algorithm, role="admin")) == EVERYTHING
    header, _, signature = issuer.token(prefix="a").split(".")
    confused = f"{encode({'alg': 'HS256', 'typ': 'JWT'})}.{claims}"
    mac = hmac.digest(issuer.pem.read_bytes(), confused.encode(), hashlib.sha256)
    forged = [issuer.token(key=issuer.stranger(), role="admin"), f"{header}.{claims}.{signature}"]
    forged.append(f"{confused}.{urlsafe(mac)}")
    for none in ("none", "None", "NONE", "nOnE", "", None):
        unsigned = f"{encode({'alg': none, 'typ': 'JWT'})}.{claims}"
        forged += [unsigned, f"{unsigned}."]
    for token in forged:
        assert judged(guard, token) is Unauthorized


def encode(part: Any) -> str:
    return urlsafe(json.dumps(part).encode())


def urlsafe(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


CLAIMS: dict[str, tuple[Access | type[ProtocolError], list[dict[str, Any]]]] = {
    "a valid token": (
        EVERYTHING,
        [{}, {"aud": ["x", "resonate"]}, {"extra": {"a": 1}}],
    ),
    "a token for another time": (
        Unauthorized,
        [*({"exp": exp} for exp in (1, None, "soon")), {"nbf": FAR // 1_000}],
    ),
    "a token for another place": (
        Unauthorized,
        [
            *({"iss": iss} for iss in ("them", None)),
            *({"aud": aud} for aud in (["other"], "resonate", None, [], [1])),
        ],
    ),
    "an admin": (EVERYTHING, [{"role": role, "prefix": "a."} for role in ("admin", "ADMIN", "Admin")]),
    "an empty prefix": (EVERYTHING, [{"role": None, "prefix": ""}]),
    "a prefix": (Access("a."), [{"role": None, "prefix": "a."}, {"role": "user", "prefix": "a."}]),
    "neither role nor prefix": (
        Forbidden,
        [{"role": None, "prefix": prefix} for prefix in (None, 1, ["a."])]
        + [{"role": role} for role in (None, "user", ["admin"])],
    ),
}


@pytest.mark.parametrize(("worth", "claims"), CLAIMS.values(), ids=CLAIMS)
def test_what_a_token_is_worth(
    guard: Guard, sign: Sign, worth: Access | type[ProtocolError], claims: list[dict[str, Any]]
) -> None:
    for changes in claims:
        token = sign(**changes)
        assert judged(guard, token) == judged(guard, None, f"bEARER {token}") == worth, changes


def test_a_token_is_valid_somewhat_longer_because_clocks_differ(guard: Guard, sign: Sign) -> None:
    now = int(time.time())
    assert judged(guard, sign(exp=now - 20)) == EVERYTHING
    assert judged(guard, sign(exp=now - 120)) is Unauthorized


@pytest.mark.parametrize(
    "exp", [float("inf"), float("-inf"), float("nan"), 1e300, 10**400, True, {}, []], ids=lambda exp: str(exp)[:5]
)
def test_an_odd_expiry_never_causes_a_server_error(guard: Guard, sign: Sign, exp: object) -> None:
    for claim in ("exp", "nbf", "iat"):
        assert judged(guard, sign(**{claim: exp})) in (Unauthorized, EVERYTHING)


MALFORMED = ("", " ", "x", "a.b", "a.b.c", "....", "é", "e30.e30.", "eyJhbGciOiJSUzI1NiJ9.bnVsbA.x")
HEADERS = (None, "", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "Bearer x y z", "Token {}", "{}", "Bearer \udce9\udcff")


def test_anything_else_is_no_token(guard: Guard, sign: Sign) -> None:
    for token in MALFORMED:
        assert judged(guard, token) is Unauthorized, token
    for header in HEADERS:
        assert judged(guard, None, header and header.format(sign())) is Unauthorized, header


def test_every_entrance_judges_the_token_and_only_in_its_place(guarded: Guarded, sign: Sign) -> None:
    """The one in the head takes precedence; one in the URL is ignored."""
    valid, expired = sign(), sign(exp=1)
    for token, good, found in ((valid, 200, 404), (expired, 401, 401), ("\xe9\xff", 401, 401)):
        page = Page(guarded.server.port, token)
        assert guarded.status(token) == guarded.status(header=f"Bearer {token}") == found
        assert guarded.poll(f"Bearer {token}") == page.get("/ui/api/chains").status == good
        assert page.get("/backup").status == (409 if token == valid else 401)
    assert guarded.status(expired, f"Bearer {valid}") == 401
    assert guarded.status(valid, "Bearer nonsense") == 404
    assert guarded.poll(path=f"/poll/g/w?token={valid}&access_token={valid}") == 401


def test_the_token_is_checked_before_the_request(guarded: Guarded) -> None:
    assert guarded.call("no.such.kind").status == 401
    assert guarded.call("promise.get", id=1).status == 401


def test_health_and_readiness_are_open(guarded: Guarded) -> None:
    assert guarded.poll(path="/health") == guarded.poll(path="/ready") == 200


def test_claims_are_trusted_unverified_if_so_configured(tmp_path: Path) -> None:
    guard = Guard(Auth(publickey="none"))
    assert judged(guard, f"{encode({'alg': 'none'})}.{encode({'exp': FAR, 'role': 'admin'})}.") == EVERYTHING
    assert judged(guard, Issuer("ed25519", tmp_path / "key.pem").token(exp=1, role="admin")) is Unauthorized


UNUSABLE = {
    "missing": None,
    "no key": b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
    "no supported kind": pem_of(ec.generate_private_key(ec.SECP521R1())),
}


@pytest.mark.parametrize("content", UNUSABLE.values(), ids=UNUSABLE)
def test_an_unusable_key_stops_the_start_with_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    path = tmp_path / "key.pem"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setattr(cli, "configure_logging", lambda *_: None)
    monkeypatch.setattr(cli, "_serve", lambda *_: pytest.fail("it starts"))
    result = CliRunner(env={"RESONATE_AUTH__PUBLICKEY": str(path)}).invoke(cli.main, ["dev"])

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    assert "public key" in result.stderr and str(path) in result.stderr


# --- what it permits ------------------------------------------------------------------------------------------------


OWN, OTHER = "a.own", "b.other"
NOBODYS = "a"
"""A tree root that the caller's own ids may be below, but that does not begin with the caller's prefix."""
SETTLE: dict[str, Any] = {"state": "resolved"}
CREATE: dict[str, Any] = {"timeoutAt": FAR, "tags": {"resonate:target": "poll://any@g"}}
CRON: dict[str, Any] = {"cron": "* * * * *", "promiseTimeout": 1, "promiseTags": {"resonate:target": "poll://any@g"}}


HELD: dict[str, Any] = {"version": 0}
LEASE: dict[str, Any] = {"version": 0, "pid": "p", "ttl": 1_000}
REQUESTS: dict[str, Callable[..., dict[str, Any]]] = {
    "promise.get": lambda id: {"id": id},
    "promise.create": lambda id: {"id": id, **CREATE},
    "promise.settle": lambda id: {"id": id, **SETTLE},
    "promise.register_callback": lambda awaited, awaiter: {"awaited": awaited + "1", "awaiter": awaiter},
    "promise.register_listener": lambda awaited: {"awaited": awaited, "address": "poll://uni@g/w"},
    "task.get": lambda id: {"id": id},
    "task.create": lambda id: {"pid": "p", "ttl": 1_000, "action": action("promise.create", id=id, **CREATE)},
    "task.acquire": lambda id: {"id": id, **LEASE},
    "task.release": lambda id: {"id": id, "version": 0},
    "task.fulfill": lambda id: {"id": id, "version": 0, "action": action("promise.settle", id=id, **SETTLE)},
    "task.suspend": lambda id, one, two: (
        HELD | {"id": id, "actions": [awaiting(one + "1", id), awaiting(two + "2", id)]}
    ),
    "task.fence": lambda id, created: HELD | {"id": id, "action": action("promise.create", id=created + "1", **CREATE)},
    "task.heartbeat": lambda one, two: {"pid": "p", "tasks": [{"id": one, "version": 0}, {"id": two, "version": 0}]},
    "task.halt": lambda id: {"id": id},
    "task.continue": lambda id: {"id": id},
    "schedule.get": lambda id: {"id": id},
    "schedule.create": lambda id, promise: {"id": id, "promiseId": promise + "{{.timestamp}}", **CRON},
    "schedule.delete": lambda id: {"id": id},
}
"""One request of each kind, built from the ids that it names."""

RANGING: dict[str, dict[str, Any]] = {
    **{kind: {} for kind in ("promise.search", "task.search", "schedule.search")},
    **{kind: {} for kind in ("debug.start", "debug.stop", "debug.reset", "debug.snap")},
    "debug.tick": {"time": 1},
}
"""Kinds that range over all ids, whoever owns them."""


def named(kind: str, id: str) -> list[str]:
    """As many ids as a request of this kind names."""
    return [id] * REQUESTS[kind].__code__.co_argcount


def test_these_are_all_kinds() -> None:
    assert REQUESTS.keys() | RANGING.keys() == KINDS.keys()


@pytest.mark.parametrize("kind", REQUESTS)
def test_a_prefix_permits_the_caller_s_own_ids_and_forbids_every_other(guarded: Guarded, sign: Sign, kind: str) -> None:
    own, token = named(kind, OWN), sign(role=None, prefix="a.")
    assert guarded.call(kind, token, **REQUESTS[kind](*own)).status not in (400, 401, 403, 500)
    for position in range(len(own)):
        data = REQUESTS[kind](*own[:position], OTHER, *own[position + 1 :])
        assert guarded.call(kind, token, **data).status == 403


def test_a_fenced_settlement_of_another_owner_s_promise_is_forbidden(guarded: Guarded, sign: Sign) -> None:
    settle = action("promise.settle", id=OTHER, **SETTLE)
    reply = guarded.call("task.fence", sign(role=None, prefix="a."), id=OWN, version=0, action=settle)
    assert reply.status == 403
    assert guarded.call("promise.get", sign(), id=OTHER).status == 404, "nothing was created by all this"


@pytest.mark.parametrize("template", ["{{.timestamp}}", "{{.id}}", "b{{.id}}", "", "a"])
def test_a_schedule_may_only_create_the_caller_s_own_promises(guarded: Guarded, sign: Sign, template: str) -> None:
    reply = guarded.call("schedule.create", sign(role=None, prefix="a."), id="a.s", promiseId=template, **CRON)
    assert reply.status == {"{{.id}}": 200, "": 400}.get(template, 403)


@pytest.mark.parametrize("kind", RANGING)
def test_kinds_that_range_over_all_ids_are_forbidden(guarded: Guarded, sign: Sign, kind: str) -> None:
    assert guarded.call(kind, sign(role=None, prefix="a."), **RANGING[kind]).status == 403


def test_debug_is_forbidden_to_admins_too_unless_switched_on(guarded: Guarded, sign: Sign) -> None:
    assert guarded.call("debug.reset", sign()).status == 403


def test_promises_of_others_are_not_preloaded(guarded: Guarded, sign: Sign) -> None:
    """SDK 0.7.4 places a detached call beside its caller."""
    root = f"a.{uuid.uuid4()}"
    mine, theirs = f"{root}.1", f"{root}.d1"
    own = sign(role=None, prefix=mine)
    target = {"resonate:target": "poll://any@g"}
    step = {"resonate:parent": mine, "resonate:external": "true"}
    guarded.call("promise.create", own, id=mine, timeoutAt=FAR, tags=target)
    guarded.call("promise.create", own, id=f"{mine}.1", timeoutAt=FAR, tags=step)
    detached = {"resonate:parent": mine, "resonate:prefix": root}
    assert guarded.call("promise.create", sign(), id=theirs, timeoutAt=FAR, tags=detached).status == 200
    guarded.call("promise.settle", own, id=f"{mine}.1", state="resolved")
    held: dict[str, Any] = {"id": mine, "version": 1}
    acquired = guarded.call("task.acquire", own, id=mine, version=0, pid="p", ttl=60_000)
    suspended = guarded.call("task.suspend", own, **held, actions=[awaiting(f"{mine}.1", mine)])

    assert (acquired.status, suspended.status) == (200, 300)
    for reply in (acquired, suspended):
        assert [promise["id"] for promise in reply.data["preload"]] == [f"{mine}.1"]


# --- lineage: tags that name another owner's tree ---------------------------------------------------------------------


def tagged(kind: str, tag: str, id: str) -> dict[str, Any]:
    """Return a request of this kind for the caller's own ids that tags what it creates with ``id``."""
    data = copy.deepcopy(REQUESTS[kind](*named(kind, f"{OWN}.{uuid.uuid4()}")))
    created = data["action"]["data"] if "action" in data else data
    created["promiseTags" if kind == "schedule.create" else "tags"][tag] = id
    return data


CREATING = ["promise.create", "task.create", "task.fence", "schedule.create"]


@pytest.mark.parametrize("tag", LINEAGE)
@pytest.mark.parametrize("kind", CREATING)
def test_a_prefix_forbids_joining_a_tree_of_others_which_an_admin_may(
    guarded: Guarded, sign: Sign, kind: str, tag: str
) -> None:
    token = sign(role=None, prefix="a.")
    assert guarded.call(kind, token, **tagged(kind, tag, NOBODYS)).status == 403
    assert guarded.call(kind, sign(), **tagged(kind, tag, NOBODYS)).status not in (400, 401, 403, 500)
    assert guarded.call(kind, token, **tagged(kind, tag, OWN)).status not in (400, 401, 403, 500)


def test_other_tags_are_unrestricted(guarded: Guarded, sign: Sign) -> None:
    """The caller chooses the target of a call: that is the point of a call."""
    data = tagged("promise.create", "resonate:target", "poll://any@b:workers/b:other")
    assert guarded.call("promise.create", sign(role=None, prefix="a."), **data).status == 200


# --- streams ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status"),
    [("/poll/a:workers/own", 200), ("/poll/a%3Aworkers/own", 200), ("/poll/g/w", 403), ("/poll/g/a:", 403)],
)
def test_a_prefix_permits_the_groups_that_begin_with_it(guarded: Guarded, sign: Sign, path: str, status: int) -> None:
    """Messages to a group name the promises of all its callers and show their values."""
    assert guarded.poll(f"Bearer {sign(role=None, prefix='a:')}", path) == status


def test_a_worker_is_sent_only_what_its_token_permits_it_to_claim(guarded: Guarded, sign: Sign) -> None:
    """So another caller's tasks, which it could not claim, do not fill up its window."""
    other, own = sign(role=None, prefix="a."), sign(role=None, prefix="c.")
    call: dict[str, Any] = {"timeoutAt": FAR, "tags": {"resonate:target": "poll://any@c.workers"}}
    assert guarded.call("promise.create", other, id="a.queued", **call).status == 200
    stream = Stream(guarded.server.port, "c.workers", "w", Authorization=f"Bearer {own}")
    assert guarded.call("promise.create", other, id="a.sent", **call).status == 200
    assert guarded.call("promise.create", own, id="c.sent", **call).status == 200
    assert stream.message()["data"]["task"]["id"] == "c.sent"


def test_a_prefix_does_not_permit_to_speak_for_a_worker_of_others(guarded: Guarded, sign: Sign) -> None:
    """Neither a stream nor heartbeats under the name of its process keep the lease of a worker that is gone."""
    limited, token = sign(role=None, prefix="a:"), sign()
    Stream(guarded.server.port, "a:workers", "theirs", Authorization=f"Bearer {limited}")
    promised = {"Authorization": f"Bearer {token}", "Resonate_Reconnect_Within": "150"}
    theirs = Stream(guarded.server.port, "b:workers", "theirs", **promised)
    call: dict[str, Any] = {"timeoutAt": FAR, "tags": {"resonate:target": "poll://any@b:workers"}}
    assert guarded.call("promise.create", token, id="b:call", **call).status == 200
    assert guarded.call("task.acquire", token, id="b:call", version=0, pid="theirs", ttl=3_600_000).status == 200
    theirs.close()

    def is_taken_back() -> bool:
        assert guarded.call("task.heartbeat", limited, pid="theirs", tasks=[]).status == 200
        return bool(guarded.call("task.get", token, id="b:call").data["task"]["state"] == "pending")

    wait_until(is_taken_back, "its task is offered again")


# --- a shared secret ------------------------------------------------------------------------------------------

SECRET = "correct-horse.battery_staple~42+/="


@pytest.mark.parametrize("is_beside_a_key", [False, True], ids=["alone", "beside a key"])
def test_the_shared_secret_and_tokens_of_the_key_permit_everything_and_nothing_else_does(
    issuer: Issuer, is_beside_a_key: bool
) -> None:
    guard = Guard(Auth(token=SECRET, publickey=str(issuer.pem) if is_beside_a_key else ""))
    assert judged(guard, SECRET) == judged(guard, None, f"Bearer {SECRET}") == EVERYTHING
    assert judged(guard, issuer.token(role="admin")) == (EVERYTHING if is_beside_a_key else Unauthorized)
    assert judged(guard, issuer.token(key=issuer.stranger(), role="admin")) is Unauthorized
    for token in (None, "", SECRET[:-1], SECRET + "x", SECRET.upper(), "none", "é", "\x00"):
        assert judged(guard, token) is Unauthorized, token
    for header in ("Bearer", f"Bearer {SECRET}x", f"Basic {SECRET}", SECRET, "Bearer \udce9\udcff"):
        assert judged(guard, None, header) is Unauthorized, header


def test_the_secret_is_accepted_and_never_revealed(start: Start, issuer: Issuer) -> None:
    server = start(RESONATE_LEVEL="debug", RESONATE_AUTH__TOKEN=SECRET, RESONATE_AUTH__PUBLICKEY=str(issuer.pem))
    secretive, page = Guarded(server), Page(server.port)
    assert [Page(server.port, given).get("/ui/api/chains").status for given in (SECRET, "")] == [200, 401]
    assert secretive.status(SECRET) == secretive.status(header=f"Bearer {SECRET}") == 404
    assert secretive.call("promise.search", SECRET).status == secretive.poll(f"Bearer {SECRET}") == 200
    assert secretive.status(f"{SECRET}x") == secretive.poll("Bearer \xe9\xff") == 401

    assert SECRET not in server.output()
    assert SECRET not in subprocess.check_output(["ps", "-ww", "-o", "command=", "-p", str(server.pid)], text=True)
    for path in ("/ui/", "/ui/api/actions", "/ui/js/main.js", "/ui/api/chains", "/", "/poll/g/w"):
        assert SECRET.encode() not in page.get(path).body


def test_an_empty_secret_counts_as_none() -> None:
    assert judged(Guard(Auth(token="")), "anything") == EVERYTHING


@pytest.mark.parametrize(("secret", "warned"), [("x" * 15, True), ("x" * 16, False)])
def test_a_guessable_secret_causes_a_warning(caplog: pytest.LogCaptureFixture, secret: str, warned: bool) -> None:
    Guard(Auth(token=secret))
    assert ("can be guessed" in caplog.text) == warned
    assert secret not in caplog.text


@pytest.mark.parametrize("secret", ["two words", " x", "x\n", "sécret", "a=b", '["x"]', '"x"'])
def test_a_secret_that_no_header_can_carry_stops_the_start_and_is_not_shown(secret: str) -> None:
    result = CliRunner(env={"RESONATE_AUTH__TOKEN": secret}).invoke(cli.main, ["dev"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("resonate-server: setting RESONATE_AUTH__TOKEN: ")
    assert result.stderr.count("\n") == 1
    assert secret not in result.stderr
