"""Hosts and URLs that lead somewhere, and those that never can."""

import pytest

from dicom_node.address import checked_host, checked_url


@pytest.mark.parametrize(
    "host",
    [
        "pacs.hospital.example",
        "pacs_1",
        "pacs.local.",
        "10.1.2.3",
        "10.1.0.0/16",
        "::1",
        "fe80::1%eth0",
        "krankenhaus-süd.example",
    ],
)
def test_a_host_that_may_be_somewhere_is_taken(host: str) -> None:
    assert checked_host(host) == host


@pytest.mark.parametrize(
    "host", ["pacs..local", ".local", f"{'a' * 64}.example", "pacs local", "pacs:104", "a" * 254]
)
def test_a_host_that_is_nowhere_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match="host name or address"):
        checked_host(host)


@pytest.mark.parametrize("url", ["https://h/x", "http://[::1]:8080", "https://h:65535/x?a=b"])
def test_a_url_that_leads_somewhere_is_taken(url: str) -> None:
    assert checked_url(url) == url


@pytest.mark.parametrize(
    "url", ["https://h:99999/x", "https://h:0/x", "http://[::1/x", "https:///x", "https://a..b/x"]
)
def test_a_url_that_leads_nowhere_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"https?://|host name"):
        checked_url(url)
