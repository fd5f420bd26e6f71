"""How long does a look at the inbox take that holds 500 new files among 100,000, and how much of it is the listing?

A look reads the intake and what the last look left, lists the inbox, and sorts its files. Nothing is taken in. The bare
listing of a bucket asks for the same pages with the library of the server's makers, and keeps only their number.
"""

from __future__ import annotations

import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import timing
from benchmarks.bucket import KEY, SECRET, BucketServer, served
from benchmarks.record import Check, Result
from selftrain import config
from selftrain.data.intake_table import IntakeRow, append_intake, intake_path
from selftrain.data.store.dataset import open_dataset
from selftrain.retraining.collecting import inbox_of, look_at_inbox, open_inbox

FOLDER_FILES, OBJECTS, NEW = 100_000, 10_000, 500
SECONDS, RATIO = 5.0, 1.2
REPETITIONS, IN_BUCKET = 9, 21
PER_FOLDER = 1_000


def measure(*, quick: bool) -> Result:
    """Looks at a folder, then looks at a bucket in turns with bare listings of it."""
    scale = 50 if quick else 1
    repetitions, new = 2 if quick else REPETITIONS, NEW // scale
    with tempfile.TemporaryDirectory() as root:
        inbox, buckets = Path(root) / "inbox", Path(root) / "buckets"
        fill(inbox, FOLDER_FILES // scale)
        fill(buckets / "cameras", OBJECTS // scale)
        in_folder = experiment(Path(root), {"url": str(inbox)}, "folder")
        taken_before(in_folder, new)
        of_folder = timing.in_turns({"look": lambda: look_once(in_folder, new)}, repetitions=repetitions)
        server = served(buckets)
        try:
            storage = {"endpoint_url": server.endpoint, "key": KEY, "secret": SECRET}
            in_bucket = experiment(Path(root), {"url": "s3://cameras", "storage": storage}, "bucket")
            taken_before(in_bucket, new)
            calls = {"look": lambda: look_once(in_bucket, new), "bare": lambda: bare_listing(server)}
            of_bucket = timing.in_turns(calls, repetitions=2 if quick else IN_BUCKET)
        finally:
            server.stop()
    seconds = timing.median(of_folder["look"]).wall
    ratio = timing.median(of_bucket["look"]).wall / timing.median(of_bucket["bare"]).wall
    return Result(
        checks=(
            Check(what="a folder of 100,000 with 500 new", measured=seconds, relation="<", target=SECONDS, unit="s"),
            Check(what="a bucket, look over bare listing", measured=ratio, relation="<=", target=RATIO),
        ),
        details={
            "files": FOLDER_FILES // scale,
            "objects": OBJECTS // scale,
            "new": new,
            "folder": timing.as_json(of_folder),
            "bucket": timing.as_json(of_bucket),
        },
    )


def fill(folder: Path, count: int) -> None:
    """Small files with an image's name, a thousand in each sub-folder, written an hour ago by their own time."""
    for number in range(count):
        path = folder / f"{number // PER_FOLDER:03d}" / f"{number:06d}.jpg"
        if number % PER_FOLDER == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(b"%d" % number)
        os.utime(path, (1_700_000_000, 1_700_000_000))


def experiment(root: Path, inbox: dict[str, object], name: str) -> config.Experiment:
    """An experiment with that inbox, whose files have settled."""
    return config.parse({"name": name, "workspace": str(root / "workspace"), "inbox": {**inbox, "settle_s": 0}})


def taken_before(e: config.Experiment, new: int) -> None:
    """Write down all files but the last `new` as taken in."""
    files = open_inbox(inbox_of(e), str).list().files[:-new]
    now = datetime.now(UTC)
    rows = [IntakeRow(*file.identity, f"{n:064x}", None, now, "") for n, file in enumerate(files)]
    append_intake(intake_path(open_dataset(e.place).store.root), rows)


def look_once(e: config.Experiment, new: int) -> None:
    """One look, which must find what is new."""
    found = len(look_at_inbox(e, now=datetime.now(UTC), resolve=str).sorting.ready)
    if found != new:
        raise ValueError(f"a look found {found} new files, not {new}")


def bare_listing(server: BucketServer) -> int:
    """The number of objects, by botocore's own pages, with a new connection as a look has."""
    import botocore.session

    client = botocore.session.get_session().create_client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
    )
    pages = client.get_paginator("list_objects_v2").paginate(Bucket="cameras")
    return sum(len(page.get("Contents", ())) for page in pages)
