import hashlib
import os
import stat
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selftrain.data.label_map import LabelMap
from selftrain.data.manifest import SCHEMA, LabelSource, Manifest, Split
from selftrain.errors import ManifestError, SourceError

NAMES = LabelMap(("ant", "bee", "cat"))


def image_id(k: int) -> str:
    return hashlib.sha256(str(k).encode()).hexdigest()


def row(k: int, split: str, label: int | None = None, **changes: object) -> dict[str, object]:
    return {
        "image_id": image_id(k),
        "shard": f"{k % 2:032x}.arrayrecord",
        "index": k,
        "origin": f"photos/{k}.jpg",
        "width": 40,
        "height": 30,
        "phash": 2**63 + k,
        "split": split,
        "label": label,
        "label_source": None if label is None else "human",
        "weight": 1.0,
        **changes,
    }


PSEUDO = {"label_source": "pseudo", "confidence": 0.9, "round": 1, "teacher": "a", "probs": [0.9, 0.1, 0.0]}


def build(*rows: dict[str, object]) -> Manifest:
    names = list(dict.fromkeys(name for one in rows for name in one))
    types = {"phash": pa.uint64()}
    columns = {name: pa.array([one.get(name) for one in rows], types.get(name)) for name in names}
    return Manifest.build(pa.table(columns), NAMES)


def small() -> Manifest:
    splits = ["train", "train", "validation", "test", "unlabeled", "unlabeled", "unlabeled"]
    return build(*(row(k, split, None if split == "unlabeled" else k % 3) for k, split in enumerate(splits)))


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    count = draw(st.integers(1, 25))
    splits = draw(st.lists(st.sampled_from(list(Split)), min_size=count, max_size=count))
    rows = []
    for k, split in enumerate(splits):
        label = None if split is Split.UNLABELED else draw(st.integers(0, 2))
        pseudo = PSEUDO if split is Split.TRAIN and draw(st.booleans()) else {}
        rows.append(row(k, split, label, phash=draw(st.integers(0, 2**64 - 1)), **pseudo))
    return build(*rows)


@settings(max_examples=50, deadline=None)
@given(manifests())
def test_a_manifest_survives_parquet(tmp_path_factory, manifest):
    path = tmp_path_factory.mktemp("manifest") / "m.parquet"
    manifest.write(path)
    again = Manifest.read(path)
    assert again.digest == manifest.digest
    assert again.table.equals(manifest.table)
    assert again.label_map == manifest.label_map
    assert again.table.schema.equals(SCHEMA)


@settings(max_examples=50, deadline=None)
@given(manifests(), st.integers(1, 9), st.randoms(use_true_random=False))
def test_the_digest_ignores_order_chunks_offsets_dictionaries_and_where_an_image_is_kept(manifest, cut, random):
    rows = manifest.table.to_pylist()
    random.shuffle(rows)
    for k, one in enumerate(rows):
        one |= {"origin": f"elsewhere/{k}", "shard": f"other-{k // 2}", "index": k % 2}
    pieces = [pa.Table.from_pylist(rows[k : k + cut], SCHEMA) for k in range(0, len(rows), cut)]
    padded = pa.concat_tables([pieces[0], *pieces]).slice(pieces[0].num_rows)
    assert Manifest.build(padded, NAMES).digest == manifest.digest


@pytest.mark.parametrize(
    "change",
    [{"split": "validation"}, {"label": 2}, {"width": 41}, {"weight": 0.5}, {"phash": 7}],
    ids=lambda change: next(iter(change)),
)
def test_the_digest_tells_every_other_column(change):
    rows = [row(0, "train", 0), row(1, "test", 1)]
    changed = [{**rows[0], **change}, rows[1]]
    assert build(*rows).digest != build(*changed).digest


@pytest.mark.parametrize("change", [{"confidence": 0.8}, {"round": 2}, {"teacher": "b"}, {"probs": [0.8, 0.2, 0.0]}])
def test_the_digest_tells_every_pseudo_label(change):
    assert build(row(0, "train", 0, **PSEUDO)).digest != build(row(0, "train", 0, **{**PSEUDO, **change})).digest


def test_the_digest_tells_renamed_classes():
    manifest = small()
    assert Manifest.build(manifest.table, LabelMap(("ant", "bee", "dog"))).digest != manifest.digest


def test_the_digest_is_a_golden_number():
    assert small().digest == "f70241c644efebfa0c13240d5e216ea48ca7fc9b94cd7d6e6abc197d0214d73f"


def test_another_process_finds_the_same_digest(tmp_path):
    small().write(tmp_path / "m.parquet")
    code = (
        "import pathlib, sys; from selftrain.data.manifest import Manifest; "
        "print(Manifest.read(pathlib.Path(sys.argv[1])).digest)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "m.parquet")], capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == small().digest


@pytest.mark.parametrize(
    ("rows", "rule"),
    [
        ([row(0, "train", 0), row(0, "test", 0)], "an image_id comes once"),
        ([row(0, "train", 0, image_id="G" * 64)], "image_id is lower-case hex"),
        ([row(0, "train", 0, image_id="ab")], "sha256 in hex, 64 characters"),
        ([row(0, "training", 0)], "split is one of train, validation"),
        ([row(0, "train")], "a label if and only if"),
        ([row(0, "unlabeled", 0)], "a label if and only if"),
        ([row(0, "train", 3)], "label is below 3 classes"),
        ([row(0, "train", -1)], "label is below 3 classes"),
        ([row(0, "train", 0, label_source=None)], "a label and its source come together"),
        ([row(0, "train", 0, label_source="guess")], "label_source is one of human, pseudo"),
        ([row(0, "validation", 0, **PSEUDO)], "validation and test hold only human labels"),
        ([row(0, "test", 0, **PSEUDO)], "validation and test hold only human labels"),
        ([row(0, "train", 0, **{**PSEUDO, "confidence": None})], "has a confidence"),
        ([row(0, "train", 0, **{**PSEUDO, "round": None})], "has a round"),
        ([row(0, "train", 0, **{**PSEUDO, "teacher": None})], "has a teacher"),
        ([row(0, "train", 0, confidence=0.5)], "has a confidence"),
        ([row(0, "train", 0, probs=[1.0, 0.0, 0.0])], "only a pseudo-label has probs"),
        ([row(0, "train", 0, **{**PSEUDO, "confidence": 1.5})], "confidence is in 0-1"),
        ([row(0, "train", 0, **{**PSEUDO, "confidence": float("nan")})], "confidence is in 0-1"),
        ([row(0, "train", 0, **{**PSEUDO, "probs": [1.0]})], "one probability per class"),
        ([row(0, "train", 0, **{**PSEUDO, "probs": [float("nan"), 0.0, 1.0]})], "one probability per class"),
        ([row(0, "train", 0, weight=-1.0)], "weight is finite"),
        ([row(0, "train", 0, weight=float("inf"))], "weight is finite"),
        ([row(0, "train", 0, width=0)], "width is at least 1"),
        ([row(0, "train", 0, index=-1)], "index is at least 0"),
        ([row(0, "train", 0, shard="../x")], "shard is a plain file name"),
        ([row(0, "train", 0, shard="/etc/passwd")], "shard is a plain file name"),
        ([row(0, "train", 0, shard="..")], "shard is a plain file name"),
        ([row(0, "train", 0, origin=None)], "'origin' has 1 nulls"),
        ([row(0, "train", 0, width="wide")], "'width' must be int32"),
        ([row(0, "train", 0, width=2**40)], "'width' must be int32"),
        ([row(0, "train", 0, colour="red")], r"unknown \['colour'\]"),
    ],
)
def test_a_broken_invariant_is_refused_by_name(rows, rule):
    with pytest.raises(ManifestError, match=rule):
        build(*rows)


def test_a_missing_column_is_named():
    with pytest.raises(ManifestError, match=r"missing \['width'\]"):
        Manifest.build(small().table.drop_columns(["width"]), NAMES)


def test_an_error_names_up_to_five_rows_with_their_origin():
    with pytest.raises(ManifestError, match=r"^8 rows break .*photos/\d\.jpg\), \.\.\.$") as caught:
        build(*(row(k, "train", 0, weight=-1.0) for k in range(8)))
    assert caught.value.message.count("photos/") == 5


def test_rows_are_sorted_by_id_and_split():
    manifest = small()
    assert manifest.image_ids().tolist() == sorted(image_id(k) for k in range(7))
    for split in Split:
        names = manifest.table["split"].take(pa.array(manifest.rows(split))).to_pylist()
        assert names == [split] * len(manifest.rows(split)) != []
    assert manifest.rows(*Split).tolist() == list(range(7))
    assert manifest.rows().tolist() == []


def test_labels_are_minus_one_where_there_is_none():
    manifest = small()
    by_id = dict(zip(manifest.image_ids().tolist(), manifest.labels().tolist(), strict=True))
    assert [by_id[image_id(k)] for k in range(7)] == [0, 1, 2, 0, -1, -1, -1]
    assert manifest.human_labels_used() == 4


def test_a_split_digest_follows_that_split_alone():
    manifest = small()
    labelled = manifest.with_pseudo_labels(
        [image_id(4)], labels=np.array([1]), confidence=np.array([0.9]), probs=None, weight=1.0, round=1, teacher="a"
    )
    assert labelled.split_digest(Split.TEST) == manifest.split_digest(Split.TEST)
    assert labelled.split_digest(Split.TRAIN) != manifest.split_digest(Split.TRAIN)


def pseudo_labelled(manifest: Manifest, *images: int, label: int = 2, round: int = 1) -> Manifest:
    count = len(images)
    probs = np.tile(np.eye(3)[label] * 0.8 + 0.0625, (count, 1))
    return manifest.with_pseudo_labels(
        [image_id(k) for k in images],
        labels=np.full(count, label),
        confidence=np.linspace(0.9, 0.95, count),
        probs=probs,
        weight=np.linspace(0.25, 0.5, count),
        round=round,
        teacher="runs/teacher",
    )


def test_pseudo_labels_enter_training_at_their_own_rows_and_nothing_else_changes():
    before, after = small(), pseudo_labelled(small(), 6, 4)
    rows = {one["image_id"]: one for one in after.table.to_pylist()}
    for k, confidence, weight in ((6, 0.9, 0.25), (4, 0.95, 0.5)):
        found = rows[image_id(k)]
        assert (found["split"], found["label"], found["label_source"]) == ("train", 2, LabelSource.PSEUDO)
        assert (found["round"], found["teacher"], found["weight"]) == (1, "runs/teacher", weight)
        assert found["confidence"] == pytest.approx(confidence)
        assert found["probs"] == [0.0625, 0.0625, pytest.approx(0.8625, abs=1e-3)]
    untouched = [one for one in after.table.to_pylist() if one["label_source"] != "pseudo"]
    assert untouched == [one for one in before.table.to_pylist() if one["image_id"] not in (image_id(4), image_id(6))]
    assert after.human_labels_used() == before.human_labels_used()


def test_a_later_round_starts_from_the_whole_pool_again():
    first = pseudo_labelled(small(), 4, 5)
    second = pseudo_labelled(first, 5, 6, label=1, round=2)
    assert second.digest == pseudo_labelled(small(), 5, 6, label=1, round=2).digest
    assert len(second.rows(Split.UNLABELED)) == 1


def test_without_pseudo_labels_is_what_ingest_made():
    assert pseudo_labelled(small(), 4, 6).without_pseudo_labels().digest == small().digest


def test_no_pseudo_label_at_all_changes_nothing():
    assert pseudo_labelled(small()).digest == small().digest


@pytest.mark.parametrize("image", [0, 2, 3, 99], ids=["train", "validation", "test", "unknown"])
def test_only_the_unlabelled_pool_takes_pseudo_labels(image):
    with pytest.raises(ManifestError, match=f"1 images .* not in the unlabelled pool: {image_id(image)}"):
        pseudo_labelled(small(), 4, image)


def test_an_image_takes_one_pseudo_label():
    with pytest.raises(ManifestError, match="two pseudo-labels"):
        pseudo_labelled(small(), 4, 4)


def test_the_nearest_class_is_named():
    with pytest.raises(SourceError, match=r"unknown class 'beee'; did you mean 'bee'\?"):
        NAMES.index("beee")


@pytest.mark.parametrize("names", [("ant", "ant"), ("ant", "")])
def test_class_names_are_unique_and_not_empty(names):
    with pytest.raises(ManifestError, match="unique and not empty"):
        LabelMap(names)


def test_no_manifest_is_read_from_other_files(tmp_path):
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    (tmp_path / "text.parquet").write_text("hello")
    for name, message in (("other", "not a manifest"), ("text", "cannot read"), ("none", "cannot read")):
        with pytest.raises(ManifestError, match=message):
            Manifest.read(tmp_path / f"{name}.parquet")


def test_a_failed_write_leaves_the_old_file_and_no_part(tmp_path):
    path = tmp_path / "m.parquet"
    small().write(path)
    before = path.read_bytes()
    broken = Manifest(small().table.append_column("extra", pa.array([object_id(k) for k in range(7)])), NAMES)
    with pytest.raises(pa.ArrowNotImplementedError):
        broken.write(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["m.parquet"]


def object_id(k: int) -> pa.Scalar:
    return pa.scalar((1, 2, k), pa.month_day_nano_interval())  # a type that Parquet does not have


def test_a_read_only_file_is_replaced_not_written_into(tmp_path):
    path = tmp_path / "m.parquet"
    small().write(path)
    kept = tmp_path / "kept.parquet"
    os.link(path, kept)  # as DVC's cache holds it
    path.chmod(stat.S_IRUSR)
    before = kept.read_bytes()
    pseudo_labelled(small(), 4).write(path)
    assert kept.read_bytes() == before
    assert Manifest.read(path).digest != Manifest.read(kept).digest


def test_an_empty_manifest_is_possible():
    empty = Manifest.build(SCHEMA.empty_table(), NAMES)
    assert len(empty) == 0
    assert empty.rows(Split.TRAIN).tolist() == []
    assert empty.image_ids().tolist() == []
    assert empty.digest != small().digest


def test_the_labeled_part_stays_the_same_while_the_pool_grows():
    before = build(row(1, "train", 0), row(2, "validation", 1), row(3, "test", 2), row(4, "unlabeled"))
    after = build(
        row(1, "train", 0), row(2, "validation", 1), row(3, "test", 2), row(4, "unlabeled"), row(5, "unlabeled")
    )
    assert before.labeled().digest == after.labeled().digest
    assert before.digest != after.digest
    assert len(after.labeled()) == 3
    assert after.labeled().split_digest(Split.TEST) == after.split_digest(Split.TEST)


def test_pseudo_labels_are_not_in_the_labeled_part():
    plain = build(row(1, "train", 0), row(4, "unlabeled"))
    assert pseudo_labelled(plain, 4).labeled().digest == plain.labeled().digest


DEVELOPMENT = (Split.TRAIN, Split.VALIDATION)


def test_the_development_part_has_neither_pool_nor_test():
    before = build(row(1, "train", 0), row(2, "validation", 1), row(3, "test", 2))
    after = build(row(1, "train", 0), row(2, "validation", 1), row(3, "test", 1), row(4, "unlabeled"))
    assert before.part(*DEVELOPMENT).digest == after.part(*DEVELOPMENT).digest
    assert after.part(*DEVELOPMENT).rows(Split.TRAIN, Split.VALIDATION).tolist() == [0, 1]
    pooled = build(row(1, "train", 0), row(4, "unlabeled"))
    assert len(pseudo_labelled(pooled, 4).part(*DEVELOPMENT)) == 1


def test_class_counts_are_of_one_split():
    manifest = build(row(1, "train", 0), row(2, "train", 2), row(3, "train", 2), row(4, "validation", 1))
    assert manifest.class_counts(Split.TRAIN).tolist() == [1, 0, 2]
