"""`python -m pushcluster_page`: serve the page until SIGTERM."""

import logging
import os
import sys

from aiohttp import web

from pushcluster_page.server import create_app
from pushcluster_page.settings import InvalidSettings, Settings


def main() -> int:
    """Serve the page. Return 0 after SIGTERM, or 2 if a setting is wrong."""
    logging.basicConfig(
        level=logging.INFO, format='{"time":"%(asctime)s","level":"%(levelname)s","event":"%(message)s"}'
    )
    try:
        settings = Settings.load(os.environ)
    except InvalidSettings as error:
        logging.getLogger(__name__).error("%s", error)  # noqa: TRY400 - the sentence says it all
        return 2
    logging.getLogger(__name__).info("page listens on %s:%d", settings.host, settings.port)
    web.run_app(create_app(settings), host=settings.host, port=settings.port, access_log=None, print=None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
