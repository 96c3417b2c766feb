"""Addresses and ports that the scripts of this folder are given: their form, and whether anybody is there."""

import argparse
import socket
import ssl
from pathlib import Path

SECONDS = 5.0


def port(text: str) -> int:
    """For argparse: a port's number."""
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"a port is a number from 1 to 65535, but {text!r} came")
    return int(text)


def host_port(text: str) -> str:
    """For argparse: host:port without a https:// before it, as Flower takes it; an IPv6 address stands in brackets."""
    host, _, number = text.rpartition(":")
    in_brackets = host.startswith("[") and host.endswith("]")
    if not host.strip("[]") or "/" in host or (":" in host and not in_brackets):
        raise argparse.ArgumentTypeError(f"an address is host:port, as in fed.example.org:8000, but {text!r} came")
    return f"{host}:{port(number)}"


def parts_of(address: str) -> tuple[str, int]:
    """Host, without an IPv6 address's brackets, and port."""
    host, _, number = address.rpartition(":")
    return host.strip("[]"), int(number)


def check_free(host: str, number: int) -> None:
    """Raises OSError where this machine cannot listen there."""
    try:
        family, kind, _, _, place = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise OSError(f"the name {host} does not resolve ({error.strerror}): is it one of this machine?") from None
    with socket.socket(family, kind) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Flower does: free once its owner is gone
        try:
            one.bind(place)
        except OSError as error:
            why = f"cannot listen at port {number} of {host} ({error.strerror})"
            raise OSError(f"{why}: choose another, or stop who has it") from None


def check_reached(superlink: str, authority: Path) -> None:
    """Raises OSError where nobody listens at host:port, or who does has no certificate of this authority."""
    host, number = parts_of(superlink)
    try:
        context = ssl.create_default_context(cafile=authority)
    except ssl.SSLError:
        raise OSError(f"{authority} is no certificate: take the one that the federation's operator sent") from None
    try:
        with socket.create_connection((host, number), SECONDS) as wire:
            context.wrap_socket(wire, server_hostname=host).close()
    except OSError as error:
        raise OSError(f"{superlink}: {_why(error, host, authority)}") from None


def _why(error: OSError, host: str, authority: Path) -> str:
    """What went wrong between here and a SuperLink, and what to do about it."""
    match error:
        case socket.gaierror():
            return f"the name {host} does not resolve ({error.strerror}): is it spelled right, and is there a network?"
        case ssl.SSLCertVerificationError():
            why = f"its certificate is not trusted by {authority} ({error.verify_message})"
            return f"{why}: do not go on, ask the operator"
        case ssl.SSLError():
            return f"who listens there speaks no TLS ({error.reason}): is it the SuperLink's port?"
        case ConnectionRefusedError():
            return "nobody listens there: is the SuperLink running, and is it the right port?"
        case TimeoutError():
            return f"no answer in {SECONDS:g} seconds: does a firewall stand between, and is it the right port?"
    return f"no connection ({error.strerror or error})"
