"""Certificates that sign content credentials, made for a test: an authority, and a signer it vouches for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SIGNER = "Kinora test signer"


def write(path: Path, *, begins_days: int = -1, ends_days: int = 30, for_signing: bool = True) -> Path:
    """A chain and its key in one file; valid from `begins_days` to `ends_days` from now.

    Args:
        for_signing: whether the signer's certificate is one for documents, which content credentials ask for.
    """
    first, last = (datetime.now(UTC) + timedelta(days=days) for days in (begins_days, ends_days))
    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())

    def begun(name: str, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder(
                issuer_name=_named("Kinora test authority"), subject_name=_named(name), public_key=public,
                serial_number=x509.random_serial_number(), not_valid_before=first, not_valid_after=last,
            )
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)
        )  # fmt: skip

    root = begun("Kinora test authority", authority.public_key())
    root = root.add_extension(x509.BasicConstraints(True, None), True).add_extension(_usage(signs_others=True), True)
    signer = begun(SIGNER, key.public_key())
    signer = signer.add_extension(x509.BasicConstraints(False, None), True).add_extension(_usage(), True)
    purpose = ExtendedKeyUsageOID.EMAIL_PROTECTION if for_signing else ExtendedKeyUsageOID.SERVER_AUTH
    signer = signer.add_extension(x509.ExtendedKeyUsage([purpose]), False)
    chain = [one.sign(authority, hashes.SHA256()).public_bytes(serialization.Encoding.PEM) for one in (signer, root)]
    path.write_bytes(b"".join(chain) + pem(key))
    return path


def pem(key: ec.EllipticCurvePrivateKey, password: bytes = b"") -> bytes:
    """A key as text, locked by a password if there is one."""
    lock = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)


def _named(name: str) -> x509.Name:
    values = {NameOID.COMMON_NAME: name, NameOID.ORGANIZATION_NAME: "Kinora"}
    return x509.Name([x509.NameAttribute(kind, value) for kind, value in values.items()])


def _usage(*, signs_others: bool = False) -> x509.KeyUsage:
    other = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only",
             "decipher_only")  # fmt: skip
    return x509.KeyUsage(
        digital_signature=not signs_others, key_cert_sign=signs_others, crl_sign=signs_others,
        **dict.fromkeys(other, False),
    )  # fmt: skip
