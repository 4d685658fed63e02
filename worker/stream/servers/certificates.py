"""The certificates and keys that REDIS_URL and REDIS_CA_FILE name: they must exist, and hold what they should."""

from __future__ import annotations

import ssl
from pathlib import Path

from worker.errors import SettingsError
from worker.stream.servers.address import RedisAddress


def check_files(address: RedisAddress) -> None:
    """Make sure that the files that the TLS options name exist and hold what they should.

    Raises:
        SettingsError: one sentence that names the option and the file.
    """
    for option in ("ssl_ca_path", "ssl_certfile", "ssl_keyfile"):
        if option in address.options:
            _check_readable(f"REDIS_URL: {option}", Path(str(address.options[option])))
    if "ssl_ca_certs" in address.options:
        check_authorities(Path(str(address.options["ssl_ca_certs"])), "REDIS_URL: ssl_ca_certs")
    if "ssl_certfile" in address.options:
        key = address.options.get("ssl_keyfile")
        _check_certificate(str(address.options["ssl_certfile"]), None if key is None else str(key))
    elif "ssl_keyfile" in address.options:
        raise SettingsError("REDIS_URL has ssl_keyfile without ssl_certfile: give both")


def check_authorities(path: Path, named_by: str = "REDIS_CA_FILE") -> None:
    """Make sure that a file holds certificates of authorities.

    Raises:
        SettingsError: one sentence that begins with what names the file.
    """
    _check_readable(named_by, path)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except (ssl.SSLError, OSError) as error:
        raise SettingsError(f"{named_by} names {path}, which holds no certificates in PEM form: {error}") from None


def _check_certificate(certificate: str, key: str | None) -> None:
    try:
        # Without a password the library would ask for one on the terminal, and wait.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, OSError, ValueError) as error:
        files = certificate if key is None else f"{certificate} with ssl_keyfile {key}"
        raise SettingsError(
            f"REDIS_URL: ssl_certfile {files} is not a certificate with an unencrypted key: {error}"
        ) from None


def _check_readable(named_by: str, path: Path) -> None:
    try:
        if named_by.endswith("ssl_ca_path"):
            next(path.iterdir(), None)
        else:
            path.open("rb").close()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(f"{named_by} names {path}, which can't be read: {reason}") from None
