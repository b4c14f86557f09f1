"""Content credentials (C2PA): a signed statement in a file that a generator made it, by a certificate of one's own.

The certificate is one PEM file: the chain, the signer's first, and the private key. No other machine is asked for a
time stamp, so a signature is believed for as long as its certificate is valid. Imports no torch, and `c2pa` and
`cryptography` only where a certificate is set: both are optional (requirements-credentials.txt).
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from engines import __version__
from engines.errors import StudioError
from engines.media.files import shown_name
from engines.media.marking import SOURCE_TYPE

REQUIREMENTS = "requirements-credentials.txt"
# In an AVIF, c2pa 0.38 moves what the place of the XMP packet is counted from, so that nobody finds it any more.
SIGNABLE = (".mp4", ".png", ".gif", ".webp")
_MOST_BYTES = 100_000
_BLOCK = re.compile(r"-----BEGIN ([A-Z ]+)-----.+?-----END \1-----\n?", re.DOTALL)
# The smallest picture that can be signed, to see whether a certificate is one that signs.
_SPECIMEN_SIDE = 1


class BadCertificate(StudioError):
    """Nothing can be signed with this certificate, or not here."""


@dataclass(frozen=True)
class Certificate:
    """What signs: PEM texts, and the algorithm that the key is for."""

    chain: str
    key: str
    algorithm: str


def opened(path: Path) -> Certificate:
    """The certificate in a file, tried by signing with it.

    Raises:
        BadCertificate: with the sentence that says what is missing or wrong.
    """
    name = shown_name(path)
    if missing := [package for package in ("c2pa", "cryptography") if find_spec(package) is None]:
        raise BadCertificate(
            f"Clips cannot be signed without {' and '.join(missing)}:", hint=f"pip install -r {REQUIREMENTS}"
        )
    try:
        text = path.read_bytes()[:_MOST_BYTES].decode("ascii", errors="replace")
    except OSError:
        raise BadCertificate(f"The certificate {name} is not there or cannot be opened.") from None
    blocks = [(found[1], found[0]) for found in _BLOCK.finditer(text)]
    chain = [block for kind, block in blocks if kind == "CERTIFICATE"]
    keys = [block for kind, block in blocks if kind.endswith("PRIVATE KEY")]
    if not chain or len(keys) != 1:
        raise BadCertificate(
            f"{name} is no certificate to sign with:", hint="write the chain into it, the signer's first, and its key."
        )
    made = Certificate("".join(chain), keys[0], _algorithm(name, chain[0], keys[0]))
    try:
        _tried(made, _specimen())
    except Exception as error:  # c2pa raises classes of its own for each rule of the standard
        raise BadCertificate(f"{name} does not sign content credentials: {_reason(error)}.") from None
    return made


def sign(path: Path, certificate: Certificate) -> None:
    """Put the signed statement into a finished mp4, PNG, GIF or WebP, in place of the file as it was.

    Raises:
        BadCertificate: it could not be signed; the file is as it was.
    """
    if path.suffix not in SIGNABLE:
        raise BadCertificate(f"{path.suffix[1:].upper()} is not signed: it would lose its other mark.")
    part = path.with_name(f"{path.stem}.signed{path.suffix}")
    try:
        _builder().sign_file(str(path), str(part), _signer(certificate))
        part.replace(path)
    except OSError as error:
        raise BadCertificate(f"The clip could not be signed: {error.strerror or 'it cannot be written'}.") from error
    except Exception as error:
        raise BadCertificate(f"The clip could not be signed: {_reason(error)}.") from error
    finally:
        part.unlink(missing_ok=True)


def signed(files: Iterable[Path], certificate: Path | None) -> list[str]:
    """Sign finished files, if there is a certificate; a sentence where that failed, for no clip is lost by it."""
    if certificate is None:
        return []
    try:
        known = opened(certificate)
        for path in files:
            sign(path, known)
    except BadCertificate as error:
        return [f"This clip is not signed. {error}"]
    return []


def signer_of(path: Path) -> str:
    """Whose certificate signed a file, if its signature is that of the file as it is; "" otherwise.

    Whether anybody trusts that certificate is not asked.
    """
    import c2pa

    try:
        with c2pa.Reader(str(path)) as reader:
            told = json.loads(reader.json())
    except c2pa.C2paError:
        return ""
    if told.get("validation_state") not in ("Valid", "Trusted"):
        return ""
    info = told["manifests"][told["active_manifest"]].get("signature_info", {})
    return str(info.get("common_name") or info.get("issuer") or "")


def _algorithm(name: str, signer: str, key: str) -> str:
    """What C2PA calls the algorithm of a key; raises BadCertificate where the key or the dates of its certificate are
    wrong."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    try:
        certificate = x509.load_pem_x509_certificate(signer.encode())
        private: Any = serialization.load_pem_private_key(key.encode(), password=None)
    except TypeError:
        raise BadCertificate(f"The key in {name} is locked by a password:", hint="write it without one.") from None
    except Exception:
        raise BadCertificate(f"{name} is damaged: its certificate or its key cannot be read.") from None
    now, first, last = datetime.now(UTC), certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now > last:
        raise BadCertificate(f"The certificate {name} expired on {last:%Y-%m-%d}: renew it or sign without one.")
    if now < first:
        raise BadCertificate(f"The certificate {name} is not valid before {first:%Y-%m-%d}: wait, or use another.")
    public = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    if private.public_key().public_bytes(*public) != certificate.public_key().public_bytes(*public):
        raise BadCertificate(f"The key in {name} is not that of its first certificate.")
    match private:
        case ec.EllipticCurvePrivateKey() if private.curve.name in ("secp256r1", "secp384r1", "secp521r1"):
            return {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}[private.curve.name]
        case ed25519.Ed25519PrivateKey():
            return "ed25519"
        case rsa.RSAPrivateKey():
            return "ps256"
    raise BadCertificate(f"The key in {name} is of a kind that content credentials do not know: use one of P-256.")


def _builder() -> Any:
    import c2pa

    action = {"action": "c2pa.created", "digitalSourceType": SOURCE_TYPE}
    statement = {
        "claim_generator_info": [{"name": "Kinora", "version": __version__}],
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [action]}}],
    }
    return c2pa.Builder(json.dumps(statement))


def _signer(certificate: Certificate) -> Any:
    import c2pa

    info = c2pa.C2paSignerInfo(
        alg=certificate.algorithm.encode(),
        sign_cert=certificate.chain.encode(),
        private_key=certificate.key.encode(),
        ta_url=None,
    )
    return c2pa.Signer.from_info(info)


def _tried(certificate: Certificate, png: bytes) -> bytes:
    made = io.BytesIO()
    _builder().sign(_signer(certificate), "image/png", io.BytesIO(png), made)
    return made.getvalue()


def _specimen() -> bytes:
    from PIL import Image

    data = io.BytesIO()
    Image.new("RGB", (_SPECIMEN_SIDE, _SPECIMEN_SIDE)).save(data, "PNG")
    return data.getvalue()


def _reason(error: Exception) -> str:
    """What the library says, on one line and without the name of its class."""
    return " ".join(str(error).partition(": ")[2].split()).rstrip(".")[:200] or type(error).__name__
