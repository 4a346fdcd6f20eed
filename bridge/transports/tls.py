"""TLS of the listener: one context for the life of the bridge, whose certificate may be exchanged.

What is connected goes on with what it was shown; every handshake after an exchange is shown the new one.
"""

from __future__ import annotations

import hashlib
import ssl
from pathlib import Path

from bridge.errors import SetupError

REMEDY = "server.tls_cert is a certificate with its chain, server.tls_key its key, both PEM, no passphrase."


class Certificate:
    """Raises `SetupError` where the files cannot be used."""

    def __init__(self, cert: Path, key: Path) -> None:
        self._cert = cert
        self._key = key
        self.context = _context()
        self.fingerprint = self._load()

    def reload(self) -> bool:
        """Read the files again; whether it is another certificate. Raises `SetupError`, and keeps the old one
        then."""
        before, self.fingerprint = self.fingerprint, self._load()
        return before != self.fingerprint

    def _load(self) -> str:
        """The certificate's SHA-256, as hexadecimal digits."""
        try:
            # A pair that does not fit must not leave the living context with half of it.
            _context().load_cert_chain(self._cert, self._key, password=_no_passphrase)
            self.context.load_cert_chain(self._cert, self._key, password=_no_passphrase)
            first = self._cert.read_text().partition(END)[0] + END
            return hashlib.sha256(ssl.PEM_cert_to_DER_cert(first[first.index(BEGIN) :])).hexdigest()
        except (OSError, ValueError) as e:  # ssl.SSLError is an OSError
            said = e.strerror or str(e) if isinstance(e, OSError) else str(e)
            raise SetupError(
                f"TLS cannot be set up with {self._cert} and {self._key}: {said}.", REMEDY
            ) from None


BEGIN, END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _no_passphrase() -> str:
    raise ValueError("the key is protected by a passphrase")  # else OpenSSL would ask at the terminal
