"""A certificate authority for one test, made by the openssl command."""

import ipaddress
import ssl
import subprocess
from pathlib import Path


def authority(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """(a client's context that trusts it alone, a server's context with its certificate for `name`)."""
    try:
        ipaddress.ip_address(name)
        subject = f"IP:{name}"
    except ValueError:
        subject = f"DNS:{name}"
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=x".split()  # noqa: SIM905
    command += ["-keyout", str(key), "-out", str(certificate), "-addext", f"subjectAltName={subject}"]
    subprocess.run(command, check=True, capture_output=True)
    client = ssl.create_default_context(cafile=str(certificate))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    return client, server
