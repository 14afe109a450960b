"""How fast rows and images are read, and what a data set costs in memory.

`python benchmarks/data.py speed` compares `load_questions` and its questions with the least that
could be done with the same rows: `datasets` alone for text, `datasets` and the image processor for
images. `python benchmarks/data.py memory` writes files of 10,000 to 1,000,000 rows and measures, in
a process of its own for each, what reading and then visiting them in random order adds to it.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image

SIZES = (10_000, 100_000, 1_000_000)
VISITS = 5_000  # questions drawn in random order, as training does


def write_rows(path: Path, count: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        for i in range(count):
            question = f"A train has {i} seats and {i % 97} of them are taken. How many are free?"
            row = {"id": f"r{i}", "question": question * 2, "answer": str(i - i % 97)}
            file.write(json.dumps(row) + "\n")


def write_images(folder: Path, count: int, side: int = 512) -> Path:
    """Photographs are neither flat nor noise: noise at a low resolution, enlarged."""
    (folder / "images").mkdir(parents=True)
    path = folder / "images.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for i in range(count):
            small = np.random.default_rng(i).integers(0, 256, (32, 32, 3)).astype(np.uint8)
            image = Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=90)
            (folder / f"images/{i}.jpg").write_bytes(buffer.getvalue())
            row = {"id": f"i{i}", "question": "What is it?", "answer": "a blur"}
            file.write(json.dumps(row | {"images": [f"images/{i}.jpg"]}) + "\n")
    return path


def rate(count: int, work: Callable[[], object], repeats: int = 3) -> float:
    """Items a second of processor time, the best of some repeats: others share this machine."""
    best = 0.0
    for _ in range(repeats):
        start = time.process_time()
        work()
        best = max(best, count / (time.process_time() - start))
    return best


def exhaust(items: Iterable[object]) -> int:
    return sum(1 for _ in items)


def speed(folder: Path, rows: int, images: int) -> None:
    import datasets

    from zppo.algorithm.prompts import Templates
    from zppo.config import DataConfig
    from zppo.data import load_image, load_questions
    from zppo.student.inputs import PromptEncoder
    from zppo.student.loading import load_model
    from zppo.types import GroupKind, Prompt, Question

    datasets.disable_progress_bars()
    text = folder / "rows.jsonl"
    write_rows(text, rows)
    cache = str(folder / "cache")
    table = datasets.Dataset.from_json(str(text), cache_dir=cache)
    questions = load_questions(str(text), DataConfig()).questions
    order = np.random.default_rng(0).permutation(rows)[:VISITS].tolist()
    theirs, ours = rate(rows, lambda: exhaust(table)), rate(rows, lambda: exhaust(questions))
    report("rows in order, rows/s", ours, theirs)
    theirs = rate(VISITS, lambda: [table[i] for i in order])
    ours = rate(VISITS, lambda: [questions[i] for i in order])
    report("rows at random, rows/s", ours, theirs)
    first = rate(rows, lambda: load_questions(str(text), DataConfig()), 1)
    print(f"{'first reading, every row checked, rows/s':<45} {first:>10,.0f}")

    loaded = load_model("lab")
    encoder = PromptEncoder(loaded.tokenizer, loaded.model)
    templates = Templates.default()

    def alone(row: dict[str, str]) -> object:
        turn = [{"role": "user", "content": f"{row['question']}\n\n{closer}"}]
        text = loaded.tokenizer.apply_chat_template(
            turn, tokenize=False, add_generation_prompt=True
        )
        return loaded.tokenizer(text, add_special_tokens=False)

    def prompt(question: Question) -> object:
        return encoder.encode(Prompt(question, GroupKind.PLAIN, templates.plain(question)))

    closer = templates.plain(Question("", "", "")).strip()
    theirs = rate(VISITS, lambda: [alone(table[i]) for i in order])
    ours = rate(VISITS, lambda: [prompt(questions[i]) for i in order])
    report("rows at random to token ids, rows/s", ours, theirs)

    file = write_images(folder, images)
    processor = loaded.image_processor
    bounds = {"shortest_edge": 256 * 256, "longest_edge": 1_024 * 1_024}
    processor.size = type(processor.size)(**bounds)
    pictures = datasets.Dataset.from_dict(
        {"image": [str(folder / f"images/{i}.jpg") for i in range(images)]}
    ).cast_column("image", datasets.Image())
    asked = load_questions(str(file), DataConfig()).questions
    patches = lambda image: processor(images=[image], return_tensors="np")  # noqa: E731
    theirs = rate(images, lambda: exhaust(patches(row["image"]) for row in pictures))
    ours = rate(images, lambda: exhaust(patches(load_image(q.media[0].parts[0])) for q in asked))
    report("512 x 512 JPEG to patches, images/s", ours, theirs)
    first = rate(images, lambda: load_questions(str(file), DataConfig()), 1)
    print(f"{'first reading, every image checked, images/s':<45} {first:>10,.0f}")


def report(what: str, ours: float, theirs: float) -> None:
    print(f"{what:<45} {ours:>10,.0f}   datasets {theirs:>10,.0f}   {ours / theirs:.0%}")


def memory(folder: Path) -> None:
    for count in SIZES:
        path = folder / f"{count}.jsonl"
        write_rows(path, count)
        size = path.stat().st_size / 2**20
        command = [sys.executable, __file__, "one", str(path)]
        found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        print(
            f"{count:>9,} rows, {size:>6.1f} MiB on disk: +{found['peak']:6.1f} MiB at most, "
            f"+{found['held']:6.1f} MiB held, {found['bytes']:.0f} B of index a row, "
            f"{found['seconds']:.1f} s to read"
        )
        path.unlink()


def one(path: str) -> None:
    """What one data set adds to this process."""
    from zppo.config import DataConfig
    from zppo.data import load_questions

    config = DataConfig()
    warm = Path(path).with_suffix(".warm.jsonl")
    write_rows(warm, 300)
    load_questions(str(warm), config)  # modules and threads that any data set needs
    before, peak_before = resident(), peak()
    start = time.perf_counter()
    questions = load_questions(path, config).questions
    seconds = time.perf_counter() - start
    for i in np.random.default_rng(0).integers(0, len(questions), VISITS):
        questions[int(i)]
    index = questions._rows  # type: ignore[attr-defined]
    held = sum(a.nbytes for a in (index.places, index.numbers, index.keys, index.given))
    print(
        json.dumps(
            {
                "held": (resident() - before) / 2**20,
                "peak": (peak() - peak_before) / 2**20,
                "bytes": held / len(questions),
                "seconds": seconds,
            }
        )
    )


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["speed", "memory", "one"], nargs="?", default="speed")
    parser.add_argument("path", nargs="?", help="(for the process that is measured)")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--images", type=int, default=300)
    options = parser.parse_args()
    if options.what == "one":
        one(options.path)
        return
    with tempfile.TemporaryDirectory() as name:
        if options.what == "speed":
            speed(Path(name), options.rows, options.images)
        else:
            memory(Path(name))


if __name__ == "__main__":
    main()
