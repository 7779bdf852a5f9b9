"""The two datasets of points in the plane: disc and ring, and two clusters."""

import numpy as np
import pytest
from toolbox import dataset_sha256

from labbook.data.datasets import points, rings
from labbook.data.packed import PackedDataset, Split
from labbook.errors import DataError

SHA256 = {
    "rings": "aed52a20062bf7d83e48b7f3fb414351901811093949468b86a7ea0245c92ad7",
    "points": "c1fdeef4b8194c1564ce382c88d54a01c90f093dbcced8ab9e8e5ef504460aed",
}
DATASETS = pytest.mark.parametrize("dataset", [rings, points], ids=["rings", "points"])


def prepare(dataset, folder, source="embedded") -> PackedDataset:
    dataset.fetch(source, folder)
    return dataset.prepare(folder, source, validation_fraction=0.1, seed=0)


def centred_coordinates(split: Split) -> np.ndarray:
    """Return coordinates (N, 2) relative to the centre of the grid, in half grid steps."""
    return 2 * split.images[:, :, 0, 0].astype(int) - 255


@DATASETS
def test_points_are_one_pixel_images_and_reproducible(dataset, tmp_path):
    packed = prepare(dataset, tmp_path)
    assert (packed.image_shape, packed.classes) == ((2, 1, 1), dataset.CLASSES)
    assert dataset_sha256(packed) == SHA256[packed.name]
    assert packed.train.labels.dtype == packed.test.labels.dtype == np.int64


@DATASETS
def test_both_sources_have_the_same_points(dataset, tmp_path):
    embedded, official = (prepare(dataset, tmp_path / source, source) for source in ("embedded", "official"))
    assert (embedded.source, official.source) == ("embedded", "official")
    assert dataset_sha256(embedded) == dataset_sha256(official)


def test_class_sizes(rings_packed, tmp_path):
    assert np.bincount(rings_packed.test.labels).tolist() == [500, 500]
    disc_count, ring_count = np.bincount(rings_packed.train.labels)
    assert (disc_count, ring_count) == rings.TRAIN_COUNTS
    assert disc_count < ring_count, "on balanced data, a sigmoid network could not leave all-zero weights"
    clusters = prepare(points, tmp_path)
    for split in (clusters.train, clusters.test):
        assert np.bincount(split.labels).tolist() == [500, 500]


def test_ring_surrounds_the_disc_and_points_are_distinct(rings_packed):
    for split in (rings_packed.train, rings_packed.test):
        radius = np.hypot(*centred_coordinates(split).T)
        assert radius[split.labels == 0].max() <= 115 < 0.6 * 204 < radius[split.labels == 1].min()
        assert radius.max() <= 204
        for label in (0, 1):
            x, y = centred_coordinates(split)[split.labels == label].T
            quadrants = np.bincount(2 * (x > 0) + (y > 0), minlength=4)
            assert quadrants.min() > 0.15 * len(x), "points on all sides of the centre"
    distinct_points = np.concatenate([centred_coordinates(rings_packed.train), centred_coordinates(rings_packed.test)])
    assert len(np.unique(distinct_points, axis=0)) == len(distinct_points)


def test_clusters_have_positive_means_and_overlap_slightly(tmp_path):
    for split in (packed := prepare(points, tmp_path)).train, packed.test:
        sums = centred_coordinates(split).sum(axis=1)
        accuracy = ((sums > np.median(sums)) == (split.labels == 1)).mean()
        assert 0.9 < accuracy < 1
        assert all((centred_coordinates(split)[split.labels == label].mean(axis=0) > 15).all() for label in (0, 1))


@DATASETS
@pytest.mark.parametrize("split", ["train", "test"])
def test_damaged_or_missing_file_raises_data_error(dataset, split, tmp_path):
    dataset.fetch("embedded", tmp_path)
    file = tmp_path / f"{split}.bin"
    intact = file.read_bytes()
    for data in (b"", intact[:-1], intact + b"\0"):
        file.write_bytes(data)
        with pytest.raises(DataError, match=rf"{split}\.bin: damaged, expected \d+ points.* Remove it"):
            dataset.prepare(tmp_path, "embedded", 0.1, 0)
    file.unlink()
    with pytest.raises(DataError, match=rf"{split}\.bin: not found"):
        dataset.prepare(tmp_path, "embedded", 0.1, 0)


def test_label_out_of_range_raises_data_error(tmp_path):
    rings.fetch("embedded", tmp_path)
    intact = (tmp_path / "train.bin").read_bytes()
    (tmp_path / "train.bin").write_bytes(intact[:-1] + b"\x02")
    with pytest.raises(DataError, match=r"train\.bin: damaged"):
        rings.prepare(tmp_path, "embedded", 0.1, 0)
