"""XML files in every encoding that they declare, or a word on which one it is."""

from pathlib import Path

import pytest

from setmatch.errors import DataError
from small_voc import DOG, box, one, xml

SAMPLES = {
    "utf-8": "собака 犬 ☃",
    "utf-8-sig": "собака 犬 ☃",
    "utf-16": "собака 犬 ☃",
    "utf-16-le": "собака 犬",
    "utf-16-be": "собака 犬",
    "utf-32": "собака 犬 ☃",
    "utf-32-be": "собака",
    "gbk": "汽车",
    "gb2312": "汽车",
    "GB18030": "汽车☃",
    "big5": "汽車",
    "Shift_JIS": "自動車",
    "cp932": "自動車①",
    "EUC-JP": "自動車",
    "iso-2022-jp": "自動車",
    "euc-kr": "자동차",
    "koi8-r": "машина",
    "windows-1251": "машина",
    "windows-1252": "Straßenbahn €",
    "ISO-8859-1": "Straßenbahn",
    "iso-8859-15": "Straßenbahn €",
    "cp437": "Straßenbahn",
    "us-ascii": "car",
}


@pytest.mark.crossed
@pytest.mark.parametrize("quote", ['"', "'"])
@pytest.mark.parametrize("encoding", SAMPLES)
def test_a_file_is_read_in_the_encoding_that_it_declares(tmp_path: Path, encoding: str, quote: str):
    name = SAMPLES[encoding]
    head = f"<?xml version={quote}1.0{quote} encoding={quote}{encoding}{quote}?>\n"
    dataset = one(tmp_path, xml(DOG, box(1, 2, 3, 4, name=name), head=head).encode(encoding))
    assert dataset.categories.names == tuple(sorted(("dog", name)))


@pytest.mark.parametrize("declared", ["utf-16", "UTF-16", "utf-32", "ucs-2", "UTF8", "utf_8"])
def test_a_declaration_that_cannot_be_right_is_ignored(tmp_path: Path, declared: str):
    """Text of .NET declares UTF-16 however it is saved."""
    head = f'<?xml version="1.0" encoding="{declared}"?>\n'
    dataset = one(tmp_path, xml(box(1, 2, 3, 4, name="犬"), head=head).encode())
    assert dataset.categories.names == ("犬",)


@pytest.mark.parametrize(
    ("declared", "content", "problem"),
    [
        ("x-mac-unknown", "dog", "its encoding 'x-mac-unknown' is unknown; save it in UTF-8"),
        ("base64", "dog", "its encoding 'base64' is unknown"),
        ("zip", "dog", "its encoding 'zip' is unknown"),
        ("gbk", b"\xff\xff", "not in the encoding 'gbk'; correct that"),
        ("us-ascii", "犬", "not in the encoding 'us-ascii'"),
        ("", b"caf\xe9", "it is not in UTF-8, and declares no other encoding"),
    ],
)
def test_an_encoding_that_does_not_fit_is_named(
    tmp_path: Path, declared: str, content: str | bytes, problem: str
):
    head = f'<?xml version="1.0" encoding="{declared}"?>\n' if declared else ""
    text = xml(box(1, 2, 3, 4, name="NAME"), head=head).encode()
    text = text.replace(b"NAME", content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=r"a\.xml: not valid XML") as caught:
        one(tmp_path, text)
    assert problem in str(caught.value)
