"""Certificates for nodes of 127.0.0.1, signed by an authority of the test."""

from pathlib import Path

import trustme

from rehydrate.cluster import TlsFiles


def tls_files(authority: trustme.CA, folder: Path) -> TlsFiles:
    """Files in PEM format, in this folder."""
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    files = TlsFiles(
        certificate=folder / "certificate.pem", key=folder / "key.pem", authority=folder / "authority.pem"
    )
    certificate.private_key_pem.write_to_path(files.key)
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(files.certificate, append=True)
    authority.cert_pem.write_to_path(files.authority)
    return files
