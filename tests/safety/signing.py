"""A chain of certificates, and the key of the first, for the tests."""

import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


def chain():
    """(certificates, key) in PEM: a signer's, by an authority of its own."""
    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("authority", "signer")}
    made = {name: certificate(name, keys) for name in ("signer", "authority")}
    pem = "".join(one.public_bytes(serialization.Encoding.PEM).decode() for one in made.values())
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem, keys["signer"].private_bytes(*form).decode()


def certificate(name, keys):
    """The authority's certificate of one of the two."""
    authority = name == "authority"
    built = (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named("authority"))
        .public_key(keys[name].public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime(2026, 1, 1))
        .not_valid_after(datetime.datetime(2056, 1, 1))
        .add_extension(x509.BasicConstraints(authority, None), critical=True)
        .add_extension(usage(authority), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(keys[name].public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(keys["authority"].public_key()), critical=False
        )
    )
    if not authority:
        built = built.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
    return built.sign(keys["authority"], hashes.SHA256())


def named(name):
    parts = ((NameOID.COUNTRY_NAME, "DE"), (NameOID.ORGANIZATION_NAME, "Testers"), (NameOID.COMMON_NAME, name))
    return x509.Name([x509.NameAttribute(kind, value) for kind, value in parts])


def usage(authority):
    signs = {"digital_signature": True, "key_cert_sign": authority, "crl_sign": authority}
    never = (
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**signs, **dict.fromkeys(never, False))
