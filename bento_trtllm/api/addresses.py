"""What counts as one address."""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

# Whoever has one IPv6 address has at least a network of this size (RFC 6177).
IPV6_PREFIX_BITS = 64


@lru_cache(1024)
def network(host: str | None) -> str | None:
    """What counts as one address: an IPv4 address, the network of an IPv6 address."""
    if not host:
        return None
    try:
        address: IPv4Address | IPv6Address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(IPv6Network((int(address), IPV6_PREFIX_BITS), strict=False))
    return str(address)
