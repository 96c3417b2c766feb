"""Make the keys of a federation. A private key is written once, for its owner's eyes, and never leaves that machine.

    python deploy/make_keys.py server --folder /srv/federation --name federation.example.org --address 192.0.2.7
    python deploy/make_keys.py hospital --folder /srv/skinsynth

`server` makes an authority of the federation's own (ca.crt, ca.key) and the SuperLink's certificate for these names
(server.crt, server.key); every hospital is given ca.crt. `hospital` makes a SuperNode's key (node.key) and what the
federation registers of it (node.pub).
"""

import argparse
import datetime
import ipaddress
import sys
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# Flower takes keys on this curve, those of SuperNodes in OpenSSH's format.
CURVE = ec.SECP384R1()
AUTHORITY_DAYS, SERVER_DAYS = 3650, 397
# Flower's own processes on the SuperLink's machine call it by these.
HERE, HERE_ADDRESSES = ["localhost"], [ipaddress.ip_address("127.0.0.1")]


def main() -> None:
    """Write the keys of one side."""
    flags = _parser().parse_args()
    try:
        if flags.side == "server":
            make_server_keys(flags.folder, flags.name, [ipaddress.ip_address(address) for address in flags.address])
        else:
            make_node_key(flags.folder)
    except (OSError, ValueError) as error:
        sys.exit(f"make_keys: {error}")


def make_server_keys(folder: Path, names: list[str], addresses: list) -> None:
    """An authority, and a certificate for the names and addresses at which hospitals call the SuperLink.

    Where the authority is there already it signs a new certificate, so that hospitals keep their ca.crt.
    """
    if not names and not addresses:
        raise ValueError("hospitals call the SuperLink by a --name or an --address: give one or more")
    authority, authority_key = _authority_in(folder)
    key = ec.generate_private_key(CURVE)
    known = [*map(x509.DNSName, [*names, *HERE]), *map(x509.IPAddress, [*addresses, *HERE_ADDRESSES])]
    certificate = (
        _certificate(_named((names or list(map(str, addresses)))[0]), authority.subject, key, SERVER_DAYS)
        .add_extension(x509.SubjectAlternativeName(known), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(authority_key, hashes.SHA384())
    )
    _write_pair(folder / "server.key", _pkcs8(key), folder / "server.crt", _pem(certificate))


def make_node_key(folder: Path) -> None:
    """A SuperNode's key, and its public half for the federation; FileExistsError rather than another's place."""
    for name in ("node.key", "node.pub"):
        if (folder / name).exists():
            raise FileExistsError(f"{folder / name} is there already: remove it if it is no longer in use")
    key = ec.generate_private_key(CURVE)
    public = key.public_key().public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH)
    _write_pair(folder / "node.key", _private(key, form.PrivateFormat.OpenSSH), folder / "node.pub", public + b"\n")


def _authority_in(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """That of an earlier call, or a new one; ValueError where its two files are not both there, or are no pair."""
    places = key_file, certificate_file = folder / "ca.key", folder / "ca.crt"
    missing = [place.name for place in places if not place.is_file()]
    if len(missing) == len(places):
        key = ec.generate_private_key(CURVE)
        certificate = _authority(key)
        _write_pair(key_file, _pkcs8(key), certificate_file, _pem(certificate))
        return certificate, key
    remedy = "bring it back, or name another folder and give all hospitals the ca.crt of that"
    if missing:
        raise ValueError(f"{folder} lacks {missing[0]}, the other half of its authority: {remedy}")
    certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
    known = form.load_pem_private_key(key_file.read_bytes(), None)
    if not isinstance(known, ec.EllipticCurvePrivateKey) or known.public_key() != certificate.public_key():
        raise ValueError(f"{key_file} is not the key of {certificate_file.name} beside it: {remedy}")
    return certificate, known


def _authority(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = _named("authority of this federation")
    return (
        _certificate(name, name, key, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA384())
    )


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))  # clocks differ
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def _private(key: ec.EllipticCurvePrivateKey, kind: form.PrivateFormat) -> bytes:
    return key.private_bytes(form.Encoding.PEM, kind, form.NoEncryption())


def _pkcs8(key: ec.EllipticCurvePrivateKey) -> bytes:
    return _private(key, form.PrivateFormat.PKCS8)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(form.Encoding.PEM)


def _write_pair(private: Path, key: bytes, public: Path, content: bytes) -> None:
    """A private key, readable by its owner alone, and its public half: both are whole before either takes its place."""
    private.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=private.parent, prefix=".keys-") as name:
        aside = Path(name)
        for file, mode, written in ((private, 0o600, key), (public, 0o644, content)):
            (aside / file.name).touch(mode)
            (aside / file.name).write_bytes(written)
        for file in (private, public):
            (aside / file.name).replace(file)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sides = parser.add_subparsers(dest="side", required=True)
    server = sides.add_parser("server", help="the authority and the SuperLink's certificate")
    server.add_argument("--name", action="append", default=[], help="host name of the SuperLink; may be repeated")
    server.add_argument("--address", action="append", default=[], help="IP address of it; may be repeated")
    hospital = sides.add_parser("hospital", help="a SuperNode's key")
    for side in (server, hospital):
        side.add_argument("--folder", type=Path, required=True, help="where the keys go")
    return parser


if __name__ == "__main__":
    main()
