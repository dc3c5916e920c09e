"""Access to a gateway: the files for TLS and for a login, checked before they are used."""

import re
import ssl
from dataclasses import dataclass
from pathlib import Path

from serving_kit.errors import ServerError

#: What a token may be (RFC 6750, but for its length).
TOKEN = r"[A-Za-z0-9._~+/=-]{16,}"


@dataclass(frozen=True)
class Access:
    """How clients get access: files for TLS and for a login, and whether JSON is accepted.

    Raises:
        ServerError: a file that cannot be read or is not what it should be.
    """

    #: PEM files of a certificate, with its chain, and its key.
    tls_cert: Path | None = None
    tls_key: Path | None = None
    #: Lines of ``user:{SHA}...``, as ``htpasswd -s`` writes them.
    basic_auth: Path | None = None
    #: One line: what clients send as ``Authorization: Bearer ...``.
    token: Path | None = None
    #: Whether JSON is passed on to ``infer``, which a request can end a server with.
    json: bool = False

    def __post_init__(self):
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ServerError("TLS needs a certificate and its key; give --tls-cert and --tls-key")
        if self.tls_cert:
            _check_certificate(self.tls_cert, self.tls_key)
        if self.basic_auth and self.token:
            raise ServerError(
                "only one kind of login is possible; give --basic-auth or --token, not both"
            )
        if self.basic_auth:
            _check_users(self.basic_auth)
        if self.token:
            _check_token(self.token)


def _check_certificate(cert: Path, key: Path) -> None:
    read_secret(cert), read_secret(key)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password="")
    except (ssl.SSLError, ValueError) as error:
        raise ServerError(
            f"{cert} and {key} are not a certificate and its key without a password, in PEM "
            f"({error}); docs/security.md has the command that makes such a pair"
        ) from None


def _check_users(file: Path) -> None:
    for number, line in enumerate(read_secret(file).splitlines(), 1):
        name, _, secret = line.partition(":")
        if not (name and secret.startswith("{SHA}") and len(secret) == len("{SHA}") + 28):
            raise ServerError(
                f"{file}:{number} is not user:{{SHA}}hash; write each with: htpasswd -nbs USER PASS"
            )


def _check_token(file: Path) -> None:
    if not re.fullmatch(TOKEN, read_secret(file).strip()):
        raise ServerError(
            f"{file} does not hold a token of 16 or more letters and digits on one line; "
            f"make one with: openssl rand -hex 32 > {file}"
        )


def read_secret(file: Path) -> str:
    """Read a small text file that a login or TLS needs.

    Raises:
        ServerError: it cannot be read, or is empty.
    """
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise ServerError(f"the gateway cannot read {file}: {why}; give another file") from None
    if not text.strip():
        raise ServerError(f"the gateway cannot read {file}: it is empty; give another file")
    return text
