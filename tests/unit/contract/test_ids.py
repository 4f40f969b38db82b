import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushcluster_contract.errors import InvalidInput
from pushcluster_contract.ids import (
    ZERO_ID,
    Incarnation,
    StreamId,
    check_cluster,
    check_message_id,
    check_session_id,
    check_user,
    decode_user,
    encode_user,
    session_id,
)

USERS = st.text(min_size=1, max_size=60).filter(str.isprintable)


@given(USERS)
def test_a_user_survives_the_way_into_a_key_and_back(user: str) -> None:
    assert decode_user(encode_user(user)) == user


@pytest.mark.parametrize(("user", "encoded"), [("ab?", "YWI_"), ("ab>", "YWI-"), ("a", "YQ"), ("bøb", "YsO4Yg")])
def test_the_encoding_of_a_user_is_base64url_without_padding_and_nothing_else_is_cut(user: str, encoded: str) -> None:
    assert encode_user(user) == encoded
    assert decode_user(encoded) == user


@pytest.mark.parametrize("message_id", ["m", "m" * 255, "ü" * 127 + "m"])
def test_a_message_id_of_1_to_255_bytes_is_taken(message_id: str) -> None:
    assert check_message_id(message_id) == message_id


@pytest.mark.parametrize("message_id", ["", "m" * 256, "ü" * 128, "a\nb", "\ud800"])
def test_any_other_message_id_is_refused(message_id: str) -> None:
    with pytest.raises(InvalidInput, match="1 to 255"):
        check_message_id(message_id)


@given(USERS, USERS)
def test_two_users_never_share_an_encoding(a: str, b: str) -> None:
    assert (encode_user(a) == encode_user(b)) == (a == b)


def test_a_user_of_255_bytes_is_taken_and_one_more_is_refused() -> None:
    assert check_user("ü" * 127 + "a")
    with pytest.raises(InvalidInput, match="256 bytes"):
        check_user("ü" * 128)


@pytest.mark.parametrize("user", ["", "a\x00b", "a\nb", "a\u2028b", "\ud800"])
def test_an_empty_or_unprintable_user_is_refused(user: str) -> None:
    with pytest.raises(InvalidInput):
        check_user(user)


@pytest.mark.parametrize("encoded", ["", "=", "a", "YWxpY2U\n", "****", "_w"])
def test_what_is_no_encoded_user_is_refused(encoded: str) -> None:
    with pytest.raises(InvalidInput):
        decode_user(encoded)


@given(st.binary(min_size=17, max_size=17))
def test_a_session_id_is_26_characters_that_fit_a_routing_key(entropy: bytes) -> None:
    assert len(check_session_id(session_id(entropy))) == 26


def test_identities_are_made_of_the_given_entropy_alone() -> None:
    assert session_id(bytes(range(17))) == "aaaqeayeaudaocajbifqydiob4"
    assert session_id(bytes(range(18))) == "aaaqeayeaudaocajbifqydiob4"
    assert str(Incarnation.new("uid", bytes(range(8)))) == "uid.0001020304050607"
    assert str(ZERO_ID) == "0-0"


@pytest.mark.parametrize(("chars", "fits"), [(1, True), (64, True), (65, False)])
def test_the_uid_of_a_pod_has_64_characters_at_most(chars: int, fits: bool) -> None:
    text = f"{'u' * chars}.{'0' * 16}"
    if fits:
        assert str(Incarnation.parse(text)) == text
    else:
        with pytest.raises(InvalidInput):
            Incarnation.parse(text)


def test_a_stream_id_may_have_sixteen_digits_in_each_part() -> None:
    assert StreamId.parse(f"{'9' * 16}-{'8' * 16}") == StreamId(10**16 - 1, 8888888888888888)


@pytest.mark.parametrize("cluster", ["a", "ns.demo", "a" * 128])
def test_a_cluster_that_fits_a_key_is_taken(cluster: str) -> None:
    assert check_cluster(cluster) == cluster


def test_too_little_entropy_for_a_session_id_is_refused() -> None:
    with pytest.raises(InvalidInput, match="17 random bytes, not 16"):
        session_id(bytes(16))


@pytest.mark.parametrize("sid", ["", "a" * 25, "a" * 27, "A" * 26, "1" * 26, "a" * 25 + "*", "a" * 26 + "\n"])
def test_what_is_no_session_id_is_refused(sid: str) -> None:
    with pytest.raises(InvalidInput):
        check_session_id(sid)


def test_two_starts_of_one_pod_are_two_incarnations() -> None:
    uid = "6f1c2c0e-0000-4000-8000-1234567890ab"
    first, second = Incarnation.new(uid, bytes(8)), Incarnation.new(uid, b"\x01" * 8)
    assert first != second
    assert first.pod_uid == second.pod_uid
    assert Incarnation.parse(str(first)) == first


@pytest.mark.parametrize(
    "text", ["", "uid", "uid.", ".0123456789abcdef", "u id.0123456789abcdef", "uid.0123456789ABCDEF"]
)
def test_what_is_no_incarnation_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        Incarnation.parse(text)


@given(st.integers(0, 10**15), st.integers(0, 10**15))
def test_a_stream_id_survives_its_text(ms: int, seq: int) -> None:
    assert StreamId.parse(str(StreamId(ms, seq))) == StreamId(ms, seq)


def test_stream_ids_order_as_redis_orders_them() -> None:
    assert StreamId(9, 100) < StreamId(10, 1) < StreamId(10, 2)


@pytest.mark.parametrize(
    "text", ["", "1", "1-", "-1", "1-2-3", "a-b", "1-2\n", "+1-2", "\u0661-\u0662", "1" * 17 + "-1"]
)
def test_what_is_no_stream_id_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        StreamId.parse(text)


@pytest.mark.parametrize("cluster", ["", "a:b", "A.b", "a.b-", "a{b}", "a" * 129])
def test_a_cluster_that_would_break_a_key_is_refused(cluster: str) -> None:
    with pytest.raises(InvalidInput):
        check_cluster(cluster)
