import base64
import hashlib
import hmac
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from dicom_node.errors import SecretError
from dicom_node.identity import (
    CODING_SCHEME,
    MANUFACTURER,
    MODEL_NAME,
    derive_uid,
    instance_file_name,
    is_own,
    is_uid,
    load_or_make_secret,
    series_key,
    study_key,
)


def test_a_study_key_is_the_start_of_the_keyed_hash_in_base32() -> None:
    digest = hmac.new(b"secret", b"1.2.3", hashlib.sha256).digest()

    assert study_key(b"secret", "1.2.3") == base64.b32encode(digest)[:20].decode().lower()


def test_another_secret_gives_another_key() -> None:
    assert study_key(b"one", "1.2.3") != study_key(b"two", "1.2.3")


def test_a_file_name_is_half_a_hash_of_the_uid() -> None:
    assert instance_file_name("1.2.3") == hashlib.sha256(b"1.2.3").hexdigest()[:32] + ".dcm"


def test_a_series_key_holds_no_digit_of_the_uid_and_is_short() -> None:
    assert series_key("1.2.3") == series_key("1.2.3") != series_key("1.2.4")
    assert len(series_key("1.2.3")) == 12


def test_the_secret_is_made_once_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "site.key"

    first = load_or_make_secret(path)

    assert load_or_make_secret(path) == first
    assert len(first) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["site.key"]


def test_processes_that_start_together_agree_on_one_secret(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        secrets = set(pool.map(load_or_make_secret, [tmp_path / "site.key"] * 8))

    assert len(secrets) == 1


def test_a_damaged_secret_is_refused(tmp_path: Path) -> None:
    (tmp_path / "site.key").write_bytes(b"short\n")

    with pytest.raises(SecretError, match=r"site\.key holds 5 bytes"):
        load_or_make_secret(tmp_path / "site.key")


def test_a_derived_uid_is_valid_and_depends_on_every_part_and_their_borders() -> None:
    uids = {
        derive_uid("seg", "a", "b"),
        derive_uid("sr", "a", "b"),
        derive_uid("seg", "ab"),
        derive_uid("seg", "a", "c"),
        derive_uid("seg", "a", "b", ""),
    }

    assert len(uids) == 5
    assert all(uid.startswith("2.25.") and is_uid(uid) and len(uid) <= 44 for uid in uids)
    assert derive_uid("seg", "a", "b") in uids


@pytest.mark.parametrize("value", ["", "1.2.a", "1/2", "../1", "1" * 65, "1.2\n"])
def test_what_is_no_uid_is_not_taken_for_one(value: str) -> None:
    assert not is_uid(value)


def test_own_results_are_known_by_their_equipment() -> None:
    dataset = Dataset()
    dataset.Manufacturer, dataset.ManufacturerModelName = MANUFACTURER, MODEL_NAME

    assert is_own(dataset)


def test_own_results_are_known_by_their_coding_scheme() -> None:
    scheme, dataset = Dataset(), Dataset()
    scheme.CodingSchemeDesignator = CODING_SCHEME
    dataset.Manufacturer = "An archive that coerces"
    dataset.CodingSchemeIdentificationSequence = [scheme]

    assert is_own(dataset)


def test_a_scanner_that_shares_one_word_is_not_ours() -> None:
    dataset = Dataset()
    dataset.Manufacturer, dataset.ManufacturerModelName = MANUFACTURER, "Scanner"

    assert not is_own(dataset)
    assert not is_own(Dataset())
