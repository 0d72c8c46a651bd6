"""`stillhouse console`: runs the Streamlit app with every usage report switched off."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from capture import settings as configuration
from capture.errors import StillhouseError
from console import login

HEADINGS = '["2.2rem", "1.6rem", "1.25rem"]'
"""Of the first three levels: the second one stands on cards, too."""

PRIMARY = "#1f7a53"
"""Dark enough for white words on it: 5.3 to 1."""

APP = Path(__file__).parent / "app.py"


def command(settings: configuration.Settings, secrets: Path | None = None) -> list[str]:
    """The Streamlit command line that serves the console on its configured address; `secrets`: of its login."""
    options = {
        "server.address": settings.console.host,
        "server.port": str(settings.console.port),
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
        "theme.headingFontSizes": HEADINGS,
        "theme.metricValueFontSize": "1.7rem",
        "theme.paddingTop": "1.5rem",
        "theme.paddingBottom": "4rem",
        "client.disableDataExport": "true",  # a table's own CSV would hold captured formulas as they came
        "runner.magicEnabled": "false",
        "theme.light.primaryColor": PRIMARY,  # not theme.primaryColor, which would fix the console to light
        "theme.dark.primaryColor": PRIMARY,
    }
    if secrets is not None:
        options["secrets.files"] = str(secrets)
    return [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        str(APP),
        *(f"--{key}={value}" for key, value in options.items()),
    ]


def main(argv: Sequence[str], environ: dict[str, str]) -> int:
    """Becomes the Streamlit process; returns only when it cannot."""
    parser = argparse.ArgumentParser(prog="stillhouse console", description=__doc__)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--port", type=int)
    options = parser.parse_args(argv)
    if options.port is not None:
        environ = {**environ, "STILLHOUSE_CONSOLE__PORT": str(options.port)}
    try:
        config = configuration.find_config(options.config, environ, Path.cwd())
        settings = configuration.load(config, environ, data=options.data)
        secrets = login.secrets_file(settings, environ)
    except StillhouseError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return error.exit_code
    environ = {**environ, "STILLHOUSE_DATA": str(settings.data.resolve())}
    if config:
        environ["STILLHOUSE_CONFIG"] = str(config.resolve())
    line = command(settings, secrets)
    return os.execve(line[0], line, environ)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], dict(os.environ)))
