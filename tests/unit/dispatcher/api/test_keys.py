"""Who may do what."""

import pytest

from pushcluster_contract.api_keys import MAX_KEYS, ApiKeys, Scope
from pushcluster_contract.errors import InvalidInput
from tests.unit.dispatcher.api.bench import KEY, PATH, PUBLISH_KEY, READ_KEY, SID, Bench, bearer, problem


def parse(text: str) -> ApiKeys:
    return ApiKeys.parse(text, name="API_KEY")


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong-key",
        f"Bearer {KEY}2",
        f"Bearer {KEY[:-1]}",
        f"Basic {KEY}",
        f"Bearer {KEY}\t{PUBLISH_KEY}",
        "Bearer schlüssel",
    ],
)
async def test_without_a_key_nothing_is_told(bench: Bench, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    for path in (PATH, "/v1/elsewhere"):
        response = await bench.client.post(path, data=b"x", headers=headers)
        assert response.status == 401
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
        assert response.headers["Connection"] == "close"
        assert KEY not in await problem(response)
    assert bench.broker.published == []


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer ", f"Basic {KEY}"])
async def test_a_request_without_a_key_is_told_how_to_give_one(bench: Bench, authorization: str) -> None:
    response = await bench.client.post(PATH, data=b"x", headers={"Authorization": authorization})
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert "needs the header Authorization: Bearer <key>" in await problem(response)


async def test_a_request_with_an_invalid_key_is_told_that_the_key_is_wrong(bench: Bench) -> None:
    response = await bench.client.post(PATH, data=b"x", headers=bearer("wrong-key"))
    assert response.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    detail = await problem(response)
    assert "this key" in detail
    assert "wrong-key" not in detail


@pytest.mark.parametrize("key", [KEY, PUBLISH_KEY])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER "])
async def test_each_of_several_keys_is_valid(bench: Bench, key: str, scheme: str) -> None:
    response = await bench.client.post(PATH, data=b"x", headers={"Authorization": f"{scheme} {key}"})
    assert response.status == 202


@pytest.mark.parametrize(
    ("method", "path", "key", "scope"),
    [
        ("POST", PATH, READ_KEY, "publish"),
        ("POST", "/v1/messages:batch", READ_KEY, "publish"),
        ("GET", "/v1/users/alice/sessions", PUBLISH_KEY, "read"),
        ("GET", "/v1/users/alice/route?destination=/queue/demo", PUBLISH_KEY, "read"),
        ("DELETE", "/v1/users/alice", PUBLISH_KEY, "manage"),
        ("DELETE", f"/v1/users/alice/sessions/{SID}", READ_KEY, "manage"),
    ],
)
async def test_a_key_may_do_what_stands_behind_it_and_no_more(
    bench: Bench, method: str, path: str, key: str, scope: str
) -> None:
    response = await bench.client.request(method, path, headers=bearer(key))
    assert response.status == 403
    assert scope in await problem(response)
    assert f'scope="{scope}"' in response.headers["WWW-Authenticate"]
    assert (bench.broker.published, bench.broker.disconnected, bench.users.forgotten) == ([], [], [])


def test_a_key_alone_may_do_everything() -> None:
    assert parse("12345678").scopes_of("Bearer 12345678") == frozenset(Scope)


def test_words_behind_a_key_bound_it() -> None:
    keys = parse("\n 12345678 read  manage \r\n\nabcdefgh publish\n")
    assert keys.scopes_of("Bearer 12345678") == frozenset({Scope.READ, Scope.MANAGE})
    assert keys.scopes_of("Bearer abcdefgh") == frozenset({Scope.PUBLISH})
    assert keys.scopes_of("Bearer 12345678 read") is None


@pytest.mark.parametrize("text", ["", "\n \n", "1234567", "x" * 256, "schlüssel", "12345678 admin"])
def test_keys_that_cannot_be_used_are_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(InvalidInput, match="API_KEY") as error:
        parse(text)
    assert not text.strip() or text.split(maxsplit=1)[0] not in str(error.value)


@pytest.mark.parametrize("wrong", ["short", "12345678 publsh", "# a comment"])
def test_a_line_that_cannot_be_read_is_told_by_its_number(wrong: str) -> None:
    with pytest.raises(InvalidInput, match="line 3 of API_KEY"):
        parse(f"abcdefgh publish\n\n{wrong}\nijklmnop\n")


def test_the_same_key_on_two_lines_is_refused_since_nobody_knows_which_line_bounds_it() -> None:
    with pytest.raises(InvalidInput, match="line 4 of API_KEY repeats the key of line 1") as error:
        parse("12345678 publish\nabcdefgh\n\n12345678 manage\n")
    assert "12345678" not in str(error.value)


def test_one_key_more_than_allowed_is_refused() -> None:
    lines = [f"key-number-{n}" for n in range(MAX_KEYS + 1)]
    parse("\n".join(lines[:-1]))
    with pytest.raises(InvalidInput, match="17 keys"):
        parse("\n".join(lines))


def test_no_key_is_shown() -> None:
    assert "12345678" not in repr(parse("12345678"))
