"""Who is at the console: Streamlit's OpenID Connect login set up from our settings, and what its people may do."""

import json
import os
import secrets
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from capture import settings as configuration
from capture.errors import DiskError, RefusedError
from capture.settings import LoginSettings, Settings
from capture.write_once import write_once
from console.access import Actor, Role

CALLBACK = "/oauth2callback"
DISCOVERY = "/.well-known/openid-configuration"


def actor_of(claims: Mapping[str, Any], login: LoginSettings) -> Actor:
    """The person whom the provider named, with the role that `people` gives: the address itself goes before *@domain.

    Asked at every run of a page: cookies last for weeks, a role taken away ends with the console's next start.
    Raises RefusedError for somebody who is not named, whose address is unverified, or whom another provider named.
    """
    address = str(claims.get("email") or "").strip().lower()
    if str(claims.get("iss") or "").rstrip("/") != login.issuer.rstrip("/"):
        raise RefusedError("another provider than console.login.issuer let you in; log in again")
    if not address:
        raise RefusedError("the provider told no mail address of yours; the console needs the scope email")
    if claims.get("email_verified") is not True and not login.unverified:
        raise RefusedError(f"the provider does not say that {address} is verified")
    role = _role(address, login.people)
    if role is None:
        raise RefusedError(f"{address} is not among console.login.people; ask an operator to add you")
    return Actor(address, role)


def _role(address: str, people: Mapping[str, str]) -> Role | None:
    named = {name.strip().lower(): Role[role.upper()] for name, role in people.items()}
    if address in named:
        return named[address]
    found = [role for name, role in named.items() if name.startswith("*@") and fnmatchcase(address, name)]
    return max(found, default=None)


def secrets_file(settings: Settings, environ: Mapping[str, str]) -> Path | None:
    """Writes what Streamlit's login reads into the data folder (0600) and returns the file; None without a login.

    Raises ConfigError without the client's secret, DiskError where the file cannot be written.
    """
    login = settings.console.login
    if login is None:
        return None
    folder = (settings.data / "secrets").resolve()
    values = {
        "redirect_uri": login.public_url.rstrip("/") + CALLBACK,
        "client_id": login.client_id,
        "client_secret": configuration.login_secret(login, environ),
        "server_metadata_url": login.issuer.rstrip("/") + DISCOVERY,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        values["cookie_secret"] = _cookie_secret(folder / "console-cookie")
        file = folder / "console-login.toml"
        lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]  # a JSON string is a TOML string
        _write(file, "\n".join(["[auth]", *lines, ""]))
    except OSError as error:
        raise DiskError(f"{folder}: {error.strerror}; the data folder must be writable") from error
    return file


def _cookie_secret(file: Path) -> str:
    """The same at every start, so that nobody has to log in anew; without the file, everybody has to."""
    return write_once(file, secrets.token_hex(32).encode()).decode().strip()


def _write(file: Path, text: str) -> None:
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
        out.write(text)
    draft.replace(file)
