import pytest

from pushcluster_contract.destinations import CACHED_DESTINATIONS, Destination, _parse
from pushcluster_contract.errors import InvalidInput

BAD_NAMES = ["", "a.b", "a*", "#", "a/b", "a b", "ü", "a" * 65, "demo\n"]


@pytest.mark.parametrize("kind", ["queue", "topic"])
def test_a_destination_survives_its_text(kind: str) -> None:
    assert str(Destination.parse(f"/{kind}/order_status-1")) == f"/{kind}/order_status-1"


def test_a_subscription_is_the_destination_under_the_user_prefix() -> None:
    destination = Destination.parse_subscription("/user/queue/demo")
    assert destination == Destination("queue", "demo")
    assert destination.as_subscribed() == "/user/queue/demo"


def test_a_name_of_64_characters_is_taken() -> None:
    assert Destination.parse("/queue/" + "a" * 64).name == "a" * 64


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_means_something_to_a_topic_exchange_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        Destination.parse(f"/queue/{name}")
    with pytest.raises(InvalidInput):
        Destination.parse_subscription(f"/user/topic/{name}")


@pytest.mark.parametrize(
    "text",
    ["/queue/demo", "/user/bob/queue/demo", "/queue/demo-userabc", "/user", "/user/exchange/demo", "user/queue/demo"],
)
def test_only_the_users_own_destinations_can_be_subscribed_to(text: str) -> None:
    with pytest.raises(InvalidInput):
        Destination.parse_subscription(text)


def test_a_client_is_told_both_forms_as_a_client_writes_them() -> None:
    with pytest.raises(InvalidInput, match="is not /user/queue/<name> or /user/topic/<name>, where <name>"):
        Destination.parse_subscription("/user/queue/a.b")


def test_a_long_destination_is_cut_in_the_error() -> None:
    with pytest.raises(InvalidInput) as error:
        Destination.parse("/" + "x" * 10_000)
    assert len(str(error.value)) < 300


def test_one_destination_more_than_the_cache_holds_drops_the_oldest() -> None:
    _parse.cache_clear()
    for n in (*range(CACHED_DESTINATIONS + 1), 0):
        Destination.parse(f"/queue/d{n}")
    assert _parse.cache_info()[::3] == (0, CACHED_DESTINATIONS)
