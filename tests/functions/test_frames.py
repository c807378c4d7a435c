from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from frames import FolderSource, NoFramesError, SceneSource, encode
from numpy.typing import NDArray
from rasterio.io import MemoryFile
from scene import Scene

from libskylark import BadInput


def write(path: Path, numbers: NDArray[np.uint8], driver: str) -> None:
    count, height, width = numbers.shape
    profile = {"driver": driver, "dtype": "uint8", "count": count, "height": height, "width": width}
    with rasterio.open(path, "w", **profile) as target:
        target.write(numbers)


def read(content: bytes) -> NDArray[np.uint16]:
    with MemoryFile(content) as memory, memory.open(driver="GTiff") as source:
        return np.asarray(source.read())


@pytest.fixture
def flat() -> NDArray[np.uint8]:
    return np.full((3, 8, 10), 51, dtype=np.uint8)


def test_a_scene_frame_is_a_geotiff_that_explains_itself() -> None:
    frame = Scene(3, 64).frame(2)
    captured = SceneSource(3, 64).capture(2)
    assert captured.synthetic
    with MemoryFile(captured.content) as memory, memory.open() as source:
        assert np.array_equal(source.read(), frame.dn)
        assert source.descriptions == ("SWIR2", "SWIR1", "NIR")
        assert source.scales == (2.75e-5,) * 3
        assert source.offsets == (-0.2,) * 3
        assert source.crs.to_string() == frame.crs
        assert source.transform == frame.transform
        assert source.nodata == 0


def test_the_truth_of_a_scene_is_that_of_its_frame() -> None:
    assert SceneSource(7).truth(4) == [fire.as_json() for fire in Scene(7).frame(4).fires]


def test_a_folder_is_read_by_name_and_from_the_start_again(tmp_path: Path, flat: NDArray[np.uint8]) -> None:
    write(tmp_path / "b.png", flat, "PNG")
    write(tmp_path / "a.JPG", flat, "JPEG")
    (tmp_path / "notes.txt").write_text("not a picture")
    source = FolderSource(tmp_path)
    assert [source.capture(index).name for index in range(4)] == ["a.JPG", "b.png", "a.JPG", "b.png"]
    assert source.truth(0) is None
    assert not source.capture(0).synthetic


def test_a_png_becomes_digital_numbers_of_its_reflectance(tmp_path: Path, flat: NDArray[np.uint8]) -> None:
    write(tmp_path / "a.png", flat, "PNG")
    dn = read(FolderSource(tmp_path).capture(0).content)
    assert dn * 2.75e-5 - 0.2 == pytest.approx(np.full(dn.shape, 0.2), abs=2e-5)


def test_transparent_pixels_of_a_png_are_no_data(tmp_path: Path, flat: NDArray[np.uint8]) -> None:
    alpha = np.full((1, 8, 10), 255, dtype=np.uint8)
    alpha[0, 2, 3] = 0
    write(tmp_path / "a.png", np.concatenate([flat, alpha]), "PNG")
    dn = read(FolderSource(tmp_path).capture(0).content)
    assert dn.shape[0] == 3
    assert np.argwhere((dn == 0).all(axis=0)).tolist() == [[2, 3]]


def test_a_geotiff_is_sent_byte_for_byte(tmp_path: Path) -> None:
    content = encode(np.full((3, 6, 6), 9000, dtype=np.uint16), None, None)
    (tmp_path / "a.tif").write_bytes(content)
    assert FolderSource(tmp_path).capture(5).content == content


def test_a_grey_picture_is_refused_by_name(tmp_path: Path, flat: NDArray[np.uint8]) -> None:
    write(tmp_path / "grey.png", flat[:1], "PNG")
    with pytest.raises(BadInput, match=r"grey\.png has 1 bands"):
        FolderSource(tmp_path).capture(0)


@pytest.mark.parametrize("name", ["broken.tif", "broken.png", "broken.jpg"])
@pytest.mark.parametrize("content", [b"", b"no picture at all", b"II*\x00\x08\x00\x00\x00"])
def test_an_unreadable_file_is_named(
    tmp_path: Path, name: str, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=name):
        FolderSource(tmp_path).capture(0)
    assert capfd.readouterr() == ("", "")


def test_a_geotiff_that_was_cut_short_is_named(tmp_path: Path) -> None:
    content = encode(np.full((3, 64, 64), 9000, dtype=np.uint16), None, None)
    (tmp_path / "cut.tif").write_bytes(content[: len(content) // 2])
    with pytest.raises(BadInput, match=r"cut\.tif"):
        FolderSource(tmp_path).capture(0)


def test_a_folder_without_pictures_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a picture")
    with pytest.raises(NoFramesError, match="no picture"):
        FolderSource(tmp_path)
    with pytest.raises(NoFramesError, match="not a folder"):
        FolderSource(tmp_path / "missing")


def test_a_negative_frame_is_refused(tmp_path: Path, flat: NDArray[np.uint8]) -> None:
    write(tmp_path / "a.png", flat, "PNG")
    for source in (FolderSource(tmp_path), SceneSource(1, 64)):
        with pytest.raises(BadInput, match="no frame -1"):
            source.capture(-1)
