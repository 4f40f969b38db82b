"""Which images pods get whose PushCluster names none."""

from pushcluster_contract import env
from pushcluster_contract.version import VERSION
from pushcluster_operator.children import Images


def test_without_variables_the_programs_are_of_this_version_and_the_stores_are_the_public_ones() -> None:
    assert Images.from_environment({}) == Images(
        gateway=f"pushcluster/gateway:{VERSION}",
        dispatcher=f"pushcluster/dispatcher:{VERSION}",
        rabbitmq="rabbitmq:4.3",
        redis="redis:8",
    )


def test_each_image_comes_from_its_own_variable() -> None:
    variables = {
        env.IMAGE_GATEWAY: "g:1",
        env.IMAGE_DISPATCHER: "d:2",
        env.IMAGE_RABBITMQ: "r:3",
        env.IMAGE_REDIS: "s:4",
    }
    assert Images.from_environment(variables) == Images("g:1", "d:2", "r:3", "s:4")
