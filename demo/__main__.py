"""`python -m demo` runs the demo. `python -m demo token alice` prints a token."""

import argparse
import asyncio
import sys

from redis.exceptions import RedisError

from demo.kubectl import Cluster, CommandFailed
from demo.story import NAME, NAMESPACE, tell
from demo.tokens import mint
from tests.support.stomp_client import StompError


def main() -> int:
    """Run the demo or print a token. Return the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    token = commands.add_parser("token", help="print a token that the demo's gateways accept")
    token.add_argument("user")
    arguments = parser.parse_args()
    try:
        cluster = Cluster.load()
        if arguments.command == "token":
            print(mint(cluster.kubectl(NAMESPACE).secret(f"{NAME}-jwt")["hs256.key"], arguments.user))
        else:
            asyncio.run(tell(cluster))
    except (CommandFailed, OSError, RedisError, StompError) as error:
        print(
            f"\n{error}\nThe cluster stays as it is. Look at it with kubectl, or run `make demo` again.",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. `make demo` starts again; `make demo-down` removes the cluster.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
