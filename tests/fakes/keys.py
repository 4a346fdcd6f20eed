"""Keys, certificates and tokens of tests: made here, good for nothing else."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

SECRET = "a secret of more than sixty-four characters, which no other thing in this house knows"
PEM = serialization.Encoding.PEM


@cache
def rsa_key(which: int = 0) -> rsa.RSAPrivateKey:
    """Making one takes a tenth of a second."""
    return rsa.generate_private_key(65537, 2048)


def public_pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def private_pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def jwk(key: rsa.RSAPrivateKey, **more: str) -> dict[str, str]:
    numbers = key.public_key().public_numbers()

    def text(number: int) -> str:
        data = number.to_bytes((number.bit_length() + 7) // 8)
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    return {"kty": "RSA", "n": text(numbers.n), "e": text(numbers.e), **more}


def write_jwks(path: Path, *keys: dict[str, str]) -> Path:
    path.write_text(json.dumps({"keys": keys}))
    return path


def minted(key: Any = SECRET, algorithm: str = "HS256", kid: str | None = None, **claims: Any) -> str:
    """A JWT; what is None is left out."""
    said = {"sub": "ada", "exp": 4_000_000_000, "scopes": ["watch"], **claims}
    payload = {name: value for name, value in said.items() if value is not None}
    return jwt.encode(payload, key, algorithm=algorithm, headers={"kid": kid} if kid else None)


def write_certificate(folder: Path, name: str = "bridge.test") -> tuple[Path, Path]:
    """A self-signed certificate and its key, as files of this folder; each call makes another."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "cert.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(PEM))
    paths[1].write_bytes(private_pem(key))
    return paths
