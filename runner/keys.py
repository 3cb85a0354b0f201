# SPDX-License-Identifier: GPL-2.0-only
"""The ssh keys of one boot: made for it, known to nobody else, gone with it.

No connection is made here; runner/guest.py does.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path

import paramiko
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from runner import host

KIND = "ssh-ed25519"
# What guest-tests/c/init.c reads
SEED_BYTES = 64


@dataclass(frozen=True, slots=True)
class BootKeys:
    """The client's private key (never written to disk) and the host key to expect."""

    client: paramiko.PKey
    server: paramiko.PKey


def make_keys(folder: Path) -> BootKeys:
    """Write what the guest needs into `folder`, mode 0700: its host key, our public key, a seed."""
    host.make_folder(folder)
    folder.chmod(0o700)
    client, server = ed25519.Ed25519PrivateKey.generate(), ed25519.Ed25519PrivateKey.generate()
    host.write_atomic(folder / "hostkey", _dropbear_format(server))
    host.write_atomic(folder / "seed", os.urandom(SEED_BYTES))
    public = _as_paramiko(client)
    host.write_atomic(folder / "authorized_keys", f"{KIND} {public.get_base64()}\n")
    return BootKeys(public, _as_paramiko(server))


def _as_paramiko(key: ed25519.Ed25519PrivateKey) -> paramiko.PKey:
    text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    ).decode()
    return paramiko.Ed25519Key.from_private_key(io.StringIO(text))


def _dropbear_format(key: ed25519.Ed25519PrivateKey) -> bytes:
    """Dropbear's own key file: the type, then private and public half in one string."""
    raw = serialization.Encoding.Raw
    private = key.private_bytes(raw, serialization.PrivateFormat.Raw, serialization.NoEncryption())
    public = key.public_key().public_bytes(raw, serialization.PublicFormat.Raw)
    message = paramiko.Message()
    message.add_string(KIND)
    message.add_string(private + public)
    return message.asbytes()
