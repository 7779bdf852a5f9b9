"""The two datasets of points in a plane: the disc in its ring, and the two clouds."""

import numpy as np
import pytest
from toolbox import digest_of

from labbook.data.datasets import points, rings
from labbook.data.packed import PackedDataset, Split
from labbook.errors import DataError

SHA256 = {
    "rings": "aed52a20062bf7d83e48b7f3fb414351901811093949468b86a7ea0245c92ad7",
    "points": "c1fdeef4b8194c1564ce382c88d54a01c90f093dbcced8ab9e8e5ef504460aed",
}
DATASETS = pytest.mark.parametrize("dataset", [rings, points], ids=["rings", "points"])


def prepared(dataset, folder, source="embedded") -> PackedDataset:
    dataset.fetch(source, folder)
    return dataset.prepare(folder, source, validation_fraction=0.1, seed=0)


def places(split: Split) -> np.ndarray:
    """(N, 2), counted from the middle of the square in half bytes."""
    return 2 * split.images[:, :, 0, 0].astype(int) - 255


@DATASETS
def test_points_are_images_of_one_pixel_and_the_same_bytes_everywhere(dataset, tmp_path):
    packed = prepared(dataset, tmp_path)
    assert (packed.image_shape, packed.classes) == ((2, 1, 1), dataset.CLASSES)
    assert digest_of(packed) == SHA256[packed.name]
    assert packed.train.labels.dtype == packed.test.labels.dtype == np.int64


@DATASETS
def test_both_sources_are_the_same_points_under_their_own_name(dataset, tmp_path):
    embedded, official = (prepared(dataset, tmp_path / source, source) for source in ("embedded", "official"))
    assert (embedded.source, official.source) == ("embedded", "official")
    assert digest_of(embedded) == digest_of(official)


def test_classes_are_as_frequent_as_the_experiments_need(rings_packed, tmp_path):
    assert np.bincount(rings_packed.test.labels).tolist() == [500, 500]
    few, more = np.bincount(rings_packed.train.labels)
    assert (few, more) == rings.TRAIN
    assert few < more, "with as many of each, a sigmoid network could not leave weights that are all zero"
    clouds = prepared(points, tmp_path)
    for split in (clouds.train, clouds.test):
        assert np.bincount(split.labels).tolist() == [500, 500]


def test_the_ring_lies_around_the_disc_and_no_place_is_drawn_twice(rings_packed):
    for split in (rings_packed.train, rings_packed.test):
        radius = np.hypot(*places(split).T)
        assert radius[split.labels == 0].max() <= 115 < 0.6 * 204 < radius[split.labels == 1].min()
        assert radius.max() <= 204
        for label in (0, 1):
            x, y = places(split)[split.labels == label].T
            quarters = np.bincount(2 * (x > 0) + (y > 0), minlength=4)
            assert quarters.min() > 0.15 * len(x), "all around the middle"
    drawn = np.concatenate([places(rings_packed.train), places(rings_packed.test)])
    assert len(np.unique(drawn, axis=0)) == len(drawn)


def test_clouds_lie_to_one_side_of_zero_and_overlap_a_little(tmp_path):
    for split in (packed := prepared(points, tmp_path)).train, packed.test:
        along = places(split).sum(axis=1)
        threshold = np.median(along)
        right = ((along > threshold) == (split.labels == 1)).mean()
        assert 0.9 < right < 1
        assert all((places(split)[split.labels == label].mean(axis=0) > 15).all() for label in (0, 1))


@DATASETS
@pytest.mark.parametrize("split", ["train", "test"])
def test_file_that_is_not_what_was_drawn_is_refused(dataset, split, tmp_path):
    dataset.fetch("embedded", tmp_path)
    file = tmp_path / f"{split}.bin"
    good = file.read_bytes()
    for data in (b"", good[:-1], good + b"\0"):
        file.write_bytes(data)
        with pytest.raises(DataError, match=rf"{split}\.bin: damaged, it does not hold \d+ points.* Remove it"):
            dataset.prepare(tmp_path, "embedded", 0.1, 0)
    file.unlink()
    with pytest.raises(DataError, match=rf"{split}\.bin: not found"):
        dataset.prepare(tmp_path, "embedded", 0.1, 0)


def test_point_of_a_third_class_is_refused(tmp_path):
    rings.fetch("embedded", tmp_path)
    good = (tmp_path / "train.bin").read_bytes()
    (tmp_path / "train.bin").write_bytes(good[:-1] + b"\x02")
    with pytest.raises(DataError, match=r"train\.bin: damaged"):
        rings.prepare(tmp_path, "embedded", 0.1, 0)
