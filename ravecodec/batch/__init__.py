"""Many files in one call: which there are, what becomes of each, and the record from which an
interrupted call goes on.

    items, problems = collect(
        ["music"], suffixes={".flac"}, recursive=True, name=..., output="archive"
    )
    with closing(run_batch(EncodeWork(...), items, jobs=2, manifest=manifest)) as outcomes:
        for outcome in outcomes: ...

Stands above `encoding.py`, `decoding.py` and `examine.py`, whose functions do the work of one file,
and below `cli`. The processes are those of `pool.py`. Nothing here imports torch; `Work.start`
does, where the work is.

items.py: the files and what became of them. work.py: what is done with one. manifest.py: the
record. run.py: all of them.
"""
