from collections.abc import Mapping

import pytest

from pushcluster_contract.destinations import Destination
from pushcluster_contract.ids import StreamId
from pushcluster_gateway import close_codes
from pushcluster_gateway.limits import Limits
from pushcluster_gateway.stomp.errors import (
    InvalidDestination,
    InvalidHeader,
    LimitExceeded,
    SendRefused,
    UnexpectedFrame,
    UnsupportedVersion,
)
from pushcluster_gateway.stomp.frames import AckMode, HeartBeat, Version
from pushcluster_gateway.stomp.requests import (
    MAX_HEART_BEAT_DIGITS,
    Acknowledge,
    Commit,
    Connect,
    Disconnect,
    ReceiptDue,
    Request,
    Subscribe,
    Unsubscribe,
)
from pushcluster_gateway.stomp.session import State, StompSession

LIMITS = Limits(max_transactions=2, max_transaction_frames=3, max_subscription_id_chars=5)
TOO_LONG = "9" * (MAX_HEART_BEAT_DIGITS + 1)


def frame(command: str, headers: Mapping[str, str] | None = None, body: str = "") -> bytes:
    lines = "".join(f"{name}:{value}\n" for name, value in (headers or {}).items())
    return f"{command}\n{lines}\n{body}\0".encode()


def requests(session: StompSession, data: bytes) -> list[Request]:
    session.receive(data)
    taken = []
    while (request := session.next_request()) is not None:
        taken.append(request)
    return taken


def connected(version: str = "1.2", limits: Limits = LIMITS) -> StompSession:
    session = StompSession(limits)
    (request,) = requests(session, frame("CONNECT", {"accept-version": version}))
    assert isinstance(request, Connect)
    session.connected()
    return session


def only(session: StompSession, data: bytes) -> Request:
    (request,) = requests(session, data)
    return request


def connect_with(headers: Mapping[str, str], subprotocol: Version | None = None, command: str = "CONNECT") -> Connect:
    request = only(StompSession(LIMITS, subprotocol), frame(command, headers))
    assert isinstance(request, Connect)
    return request


def subscribe_with(headers: Mapping[str, str], version: str = "1.2") -> Subscribe:
    request = only(connected(version), frame("SUBSCRIBE", headers))
    assert isinstance(request, Subscribe)
    return request


@pytest.mark.parametrize(
    ("accept_version", "subprotocol", "version"),
    [
        ("1.0,1.1,1.2", None, Version.V1_2),
        ("1.0,1.1", None, Version.V1_1),
        (" 1.1 , 2.0", None, Version.V1_1),
        (None, None, Version.V1_0),
        (None, Version.V1_2, Version.V1_2),
        ("1.0,1.1,1.2", Version.V1_1, Version.V1_1),
        ("1.1", Version.V1_2, Version.V1_1),
    ],
)
def test_the_version_is_the_highest_in_common(
    accept_version: str | None, subprotocol: Version | None, version: Version
) -> None:
    headers = {} if accept_version is None else {"accept-version": accept_version}
    assert connect_with(headers, subprotocol).version is version


def test_without_a_version_in_common_the_client_is_told_which_there_are() -> None:
    with pytest.raises(UnsupportedVersion, match=r"1\.0,1\.1,1\.2") as caught:
        connect_with({"accept-version": "2.0"})
    assert caught.value.close is close_codes.UNSUPPORTED_VERSION


def test_stomp_is_another_word_for_connect() -> None:
    assert connect_with({"accept-version": "1.2"}, command="STOMP").version is Version.V1_2


@pytest.mark.parametrize("header", ["Authorization", "authorization"])
def test_the_token_comes_from_the_authorization_header(header: str) -> None:
    assert connect_with({header: "Bearer abc.def"}).token == "abc.def"
    assert connect_with({header: "Basic abc"}).token == ""


def test_1_0_may_pad_its_headers_with_spaces() -> None:
    request = connect_with(
        {" login ": "x", "login": " alice ", "Authorization": " Bearer abc.def ", "content-length": " 0"}
    )
    assert (request.version, request.login, request.token) == (Version.V1_0, "alice", "abc.def")
    padded = {"destination": " /user/queue/demo ", " id": " s", "ack ": " client", "receipt": " r "}
    assert subscribe_with(padded, "1.0").receipt == "r"
    assert subscribe_with(padded, "1.0").ack_mode is AckMode.CLIENT
    with pytest.raises(InvalidDestination):
        subscribe_with({"id": "s", "destination": " /user/queue/demo"}, "1.1")


def test_what_connect_says_beside_what_is_known_is_passed_over() -> None:
    headers = {"host": "elsewhere", "passcode": "x", "client-id": "c", "receipt": "r", "x": ""}
    assert connect_with({"accept-version": "1.2", **headers}) == connect_with({"accept-version": "1.2"})


def test_heart_beats_are_read_and_absent_ones_are_none() -> None:
    assert connect_with({"accept-version": "1.2", "heart-beat": "1000,2000"}).heart_beat == HeartBeat(1000, 2000)
    most = "9" * MAX_HEART_BEAT_DIGITS
    assert connect_with({"accept-version": "1.2", "heart-beat": f"{most},{most}"}).heart_beat == HeartBeat(
        999_999_999, 999_999_999
    )
    assert connect_with({"accept-version": "1.2"}).heart_beat == HeartBeat(0, 0)
    assert connect_with({"heart-beat": "1000,2000"}).heart_beat == HeartBeat(0, 0), "1.0 has none"


@pytest.mark.parametrize("text", ["1", "a,b", "1,2,3", "-1,0", "²,0", "1, 2", TOO_LONG + ",0", "0," + TOO_LONG, ""])
def test_a_heart_beat_that_is_not_two_numbers_is_refused(text: str) -> None:
    with pytest.raises(InvalidHeader, match="heart-beat"):
        connect_with({"accept-version": "1.2", "heart-beat": text})


def test_nothing_may_come_before_connect_and_nothing_is_read_while_it_is_decided() -> None:
    session = StompSession(LIMITS)
    with pytest.raises(UnexpectedFrame, match="first frame must be CONNECT"):
        requests(session, frame("SUBSCRIBE", {"id": "1", "destination": "/user/queue/a"}))
    session = StompSession(LIMITS)
    data = frame("CONNECT", {"accept-version": "1.2"}) + frame("DISCONNECT")
    assert [type(request) for request in requests(session, data)] == [Connect]
    assert session.state is State.CONNECTING
    assert requests(session, frame("ACK", {"id": "3/5-2"})) == []
    session.connected()
    assert session.next_request() == Disconnect(None)


def test_until_a_version_is_agreed_on_answers_are_written_as_1_2() -> None:
    assert StompSession(LIMITS).version is Version.V1_2


@pytest.mark.parametrize("command", ["CONNECT", "STOMP"])
def test_a_second_connect_is_refused(command: str) -> None:
    with pytest.raises(UnexpectedFrame, match="already connected"):
        only(connected(), frame(command))


def test_an_unknown_command_is_refused() -> None:
    with pytest.raises(UnexpectedFrame, match="no such frame"):
        only(connected(), frame("PUBLISH"))


def test_after_disconnect_nothing_is_read() -> None:
    session = connected()
    assert requests(session, frame("DISCONNECT", {"receipt": "r"}) + frame("GARBAGE")) == [Disconnect("r")]
    assert session.state is State.CLOSING
    assert requests(session, b"\0\0\0") == []


def test_a_closed_session_reads_nothing_and_refuses_nothing_however_much_comes() -> None:
    session = connected()
    session.close()
    for _ in range(20):
        assert requests(session, frame("BEGIN", body="x" * LIMITS.max_frame_bytes)) == []


def test_a_receipt_belongs_to_its_frame_and_to_no_later_one() -> None:
    session = connected()
    assert requests(session, frame("BEGIN", {"transaction": "t", "receipt": "r"})) == [ReceiptDue("r")]
    assert session.receipt is None


def test_send_is_refused_with_its_receipt() -> None:
    session = connected()
    with pytest.raises(SendRefused):
        only(session, frame("SEND", {"destination": "/user/queue/a", "receipt": "r7"}))
    assert session.receipt == "r7"


def test_subscribe_is_read() -> None:
    headers = {"id": "s", "destination": "/user/queue/demo", "ack": "client", "last-message-id": "5-2", "receipt": "r"}
    assert subscribe_with(headers) == Subscribe(
        id="s",
        key="s",
        destination=Destination("queue", "demo"),
        ack_mode=AckMode.CLIENT,
        last_message_id=StreamId(5, 2),
        receipt="r",
    )


def test_in_1_0_a_subscription_may_have_no_id_and_is_named_by_its_destination() -> None:
    request = subscribe_with({"destination": "/user/queue/demo"}, "1.0")
    assert (request.id, request.key) == ("", "/user/queue/demo")
    assert only(connected("1.0"), frame("UNSUBSCRIBE", {"destination": "/user/queue/demo"})) == Unsubscribe(
        "/user/queue/demo", None
    )


@pytest.mark.parametrize(
    "destination",
    [
        "/queue/demo",
        "/user/queue/a.b",
        "/user/queue/*",
        "/user/queue/a#",
        "/user/queue/",
        "/user/queue/" + "x" * 65,
        "/user/alice/queue/demo",
        "/queue/demo-userabcdefghijklmnopqrstuvwxyz",
        "/user/exchange/x",
        "/user/queue/a/b",
    ],
)
def test_a_destination_that_is_nobodys_own_is_refused(destination: str) -> None:
    with pytest.raises(InvalidDestination) as caught:
        subscribe_with({"id": "1", "destination": destination})
    assert caught.value.close is close_codes.BAD_DESTINATION


@pytest.mark.parametrize(
    ("headers", "fault"),
    [
        ({"id": "1"}, "^SUBSCRIBE has no header 'destination': "),
        ({"destination": "/user/queue/a"}, "^SUBSCRIBE has no header 'id': "),
        ({"destination": "/user/queue/a", "id": ""}, "^SUBSCRIBE has header 'id' with value '': "),
        ({"destination": "/user/queue/a", "id": "123456"}, "more than 5 characters"),
        (
            {"destination": "/user/queue/a", "id": "1", "ack": "never"},
            "^SUBSCRIBE has header 'ack' with value 'never': ",
        ),
        (
            {"destination": "/user/queue/a", "id": "1", "last-message-id": "x"},
            "header 'last-message-id' with value 'x': ",
        ),
    ],
)
def test_a_subscribe_with_a_wrong_header_names_it(headers: Mapping[str, str], fault: str) -> None:
    with pytest.raises(InvalidHeader, match=fault):
        subscribe_with(headers)


def test_individual_acks_came_with_1_1() -> None:
    headers = {"id": "1", "destination": "/user/queue/a", "ack": "client-individual"}
    assert subscribe_with(headers, "1.1").ack_mode is AckMode.CLIENT_INDIVIDUAL
    with pytest.raises(InvalidHeader, match="auto, client"):
        subscribe_with(headers, "1.0")


def test_acks_are_read_as_each_version_writes_them() -> None:
    assert only(connected("1.2"), frame("ACK", {"id": "3/5-2", "receipt": "r"})) == Acknowledge(
        accepted=True, message_id=StreamId(5, 2), number=3, key=None, receipt="r"
    )
    assert only(connected("1.1"), frame("NACK", {"subscription": "s", "message-id": "5-2"})) == Acknowledge(
        accepted=False, message_id=StreamId(5, 2), number=None, key="s", receipt=None
    )
    assert only(connected("1.0"), frame("ACK", {"message-id": "5-2"})) == Acknowledge(
        accepted=True, message_id=StreamId(5, 2), number=None, key=None, receipt=None
    )


@pytest.mark.parametrize("command", ["ACK", "NACK"])
@pytest.mark.parametrize(
    ("ack_id", "wrong"),
    [
        ("", ""),
        ("x", "x"),
        ("1", "1"),
        ("1/x", "x"),
        ("x/1-1", "x/1-1"),
        ("1/1-1-1", "1-1-1"),
        ("9999999999/1-1", "9999999999/1-1"),
    ],
)
def test_an_ack_of_no_message_of_ours_is_refused(command: str, ack_id: str, wrong: str) -> None:
    with pytest.raises(InvalidHeader, match=f"^{command} has header 'id' with value '{wrong}': "):
        only(connected(), frame(command, {"id": ack_id}))


def test_an_ack_names_its_subscription_in_1_1_and_may_in_1_0() -> None:
    named = only(connected("1.0"), frame("ACK", {"message-id": "5-2", "subscription": "s"}))
    assert isinstance(named, Acknowledge)
    assert named.key == "s"
    with pytest.raises(InvalidHeader, match=r"^ACK has no header 'subscription': "):
        only(connected("1.1"), frame("ACK", {"message-id": "5-2"}))


@pytest.mark.parametrize(
    ("version", "headers", "key"),
    [
        ("1.2", {"id": "s"}, "s"),
        ("1.1", {"id": "s", "destination": "/user/queue/demo"}, "s"),
        ("1.0", {"id": "s", "destination": "/user/queue/demo"}, "s"),
        ("1.0", {"destination": "/user/queue/demo"}, "/user/queue/demo"),
    ],
)
def test_unsubscribe_names_the_subscription_as_subscribe_did(
    version: str, headers: Mapping[str, str], key: str
) -> None:
    request = only(connected(version), frame("UNSUBSCRIBE", {**headers, "receipt": "r"}))
    assert request == Unsubscribe(key, "r")


@pytest.mark.parametrize(
    ("version", "header"), [("1.0", "destination"), ("1.1", "id"), ("1.2", "id")], ids=["1.0", "1.1", "1.2"]
)
def test_an_unsubscribe_that_names_no_subscription_is_refused(version: str, header: str) -> None:
    elsewhere = {"destination": "/user/queue/demo"} if header == "id" else {}
    with pytest.raises(InvalidHeader, match=f"^UNSUBSCRIBE has no header '{header}': "):
        only(connected(version), frame("UNSUBSCRIBE", elsewhere))


def test_what_connect_and_subscribe_leave_out_has_a_default() -> None:
    assert connect_with({}) == Connect(Version.V1_0, HeartBeat(), "", "")
    destination = {"destination": "/user/queue/demo"}
    assert subscribe_with({"id": "12345", **destination}) == Subscribe(
        "12345", "12345", Destination("queue", "demo"), AckMode.AUTO, None, None
    )
    assert subscribe_with({"id": "s", **destination}, "1.0").key == "s"


def test_1_0_has_no_nack() -> None:
    with pytest.raises(UnexpectedFrame):
        only(connected("1.0"), frame("NACK", {"message-id": "5-2"}))


def test_a_transaction_holds_acks_back_until_commit() -> None:
    session = connected()
    assert only(session, frame("BEGIN", {"transaction": "t", "receipt": "b"})) == ReceiptDue("b")
    in_transaction = {"transaction": "t", "receipt": "a"}
    assert requests(session, frame("ACK", {"id": "1/5-1", **in_transaction})) == [ReceiptDue("a")]
    assert requests(session, frame("NACK", {"id": "1/5-2", "transaction": "t"})) == []
    assert only(session, frame("COMMIT", {"transaction": "t", "receipt": "c"})) == Commit(
        (
            Acknowledge(accepted=True, message_id=StreamId(5, 1), number=1, key=None, receipt=None),
            Acknowledge(accepted=False, message_id=StreamId(5, 2), number=1, key=None, receipt=None),
        ),
        receipt="c",
    )


def test_transactions_are_kept_apart_and_each_ends_once() -> None:
    session = connected()
    for name in ("t1", "t2"):
        requests(session, frame("BEGIN", {"transaction": name}))
    requests(session, frame("ACK", {"id": "1/5-1", "transaction": "t2"}))
    assert only(session, frame("COMMIT", {"transaction": "t1"})) == Commit((), None)
    requests(session, frame("BEGIN", {"transaction": "t1"}) + frame("ABORT", {"transaction": "t2"}))
    with pytest.raises(InvalidHeader, match="no transaction with this name"):
        requests(session, frame("COMMIT", {"transaction": "t2"}))


def test_abort_forgets_the_transaction() -> None:
    session = connected()
    requests(session, frame("BEGIN", {"transaction": "t"}) + frame("ACK", {"id": "1/5-1", "transaction": "t"}))
    assert requests(session, frame("ABORT", {"transaction": "t", "receipt": "r"})) == [ReceiptDue("r")]
    with pytest.raises(InvalidHeader, match="no transaction with this name"):
        requests(session, frame("COMMIT", {"transaction": "t"}))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (
            frame("COMMIT", {"transaction": "other"}),
            "^COMMIT has header 'transaction' with value 'other': no",
        ),
        (
            frame("ABORT", {"transaction": "other"}),
            "^ABORT has header 'transaction' with value 'other': no",
        ),
        (
            frame("NACK", {"id": "1/5-1", "transaction": "other"}),
            "^NACK has header 'transaction' with value 'other': no",
        ),
        (frame("BEGIN", {"transaction": "t"}), "^BEGIN has header 'transaction' with value 't': this transaction"),
        (frame("BEGIN"), "^BEGIN has no header 'transaction'"),
    ],
)
def test_a_transaction_that_is_not_open_or_open_already_is_refused(data: bytes, says: str) -> None:
    session = connected()
    requests(session, frame("BEGIN", {"transaction": "t"}))
    with pytest.raises(InvalidHeader, match=says):
        requests(session, data)


def test_one_transaction_too_many_is_refused() -> None:
    session = connected()
    requests(session, frame("BEGIN", {"transaction": "t1"}) + frame("BEGIN", {"transaction": "t2"}))
    with pytest.raises(LimitExceeded, match="2 open transactions"):
        requests(session, frame("BEGIN", {"transaction": "t3"}))


def test_one_frame_too_many_in_transactions_is_refused() -> None:
    session = connected()
    requests(session, frame("BEGIN", {"transaction": "t1"}) + frame("BEGIN", {"transaction": "t2"}))
    for name in ("t1", "t2", "t2"):
        requests(session, frame("ACK", {"id": "1/5-1", "transaction": name}))
    with pytest.raises(LimitExceeded, match="3 frames"):
        requests(session, frame("ACK", {"id": "1/5-1", "transaction": "t1"}))
