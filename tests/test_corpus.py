"""The licence rules of scripts/corpus.py: what may enter the training list, and who is named for
it.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


def load_script(name: str) -> ModuleType:
    """A script of this repository as a module."""
    path = Path(__file__).parent.parent / "scripts" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"script_{name}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


corpus = load_script("corpus")

DEP5 = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Source: https://example.org/

Files: *
Copyright: 2010, The Team
License: GPL-2+

Files: dat/music/a.ogg dat/music/b*.ogg
Copyright:
 Ann Author
 Bob Other
License: CC-BY-SA-3.0

Files:
 ./dat/music/b2.ogg
Copyright: Eve
License: GPL-3 or CC-BY-3.0

Files: dat/picture.png
Copyright: Nobody
License:

License: GPL-2+
 A text about http://example.org/
"""

YAML = """- Eve (http://example.org/):
   license: GPLv3 / CC-by 3
   music:
     - c.ogg
- Ann:
   license: CC-by-sa 4.0
   sounds:
     - d.ogg
"""


def test_only_free_content_licences_pass(subtests: pytest.Subtests) -> None:
    for licence, free in [
        ("CC0", True),
        ("CC0-1.0", True),
        ("public-domain", True),
        ("MIT", True),
        ("CC-BY-3.0", True),
        ("CC-BY-SA-4.0", True),
        ("GPL-3 or CC-BY-3.0", True),
        ("GPL-2+ OR CC-BY-SA", True),
        ("CC-BY-4.0 and CC-BY-3.0", True),
        ("GPL-2+", False),
        ("GPL and CC-BY-SA", False),
        ("CC-BY-NC-3.0", False),
        ("CC-BY-ND-3.0", False),
        ("CC-BY-NC-SA-3.0", False),
        ("GPL-3 or CC-BY-NC-3.0", False),
        ("unknown", False),
        ("", False),
    ]:
        with subtests.test(licence=licence, free=free):
            assert corpus.is_free(licence) is free


def test_the_last_matching_paragraph_of_the_copyright_file_wins(subtests: pytest.Subtests) -> None:
    for path, licence, author in [
        ("dat/music/a.ogg", "CC-BY-SA-3.0", "Ann Author; Bob Other"),
        ("dat/music/b1.ogg", "CC-BY-SA-3.0", "Ann Author; Bob Other"),
        ("dat/music/b2.ogg", "GPL-3 or CC-BY-3.0", "Eve"),
        ("dat/music/z.ogg", "GPL-2+", "2010, The Team"),
        ("dat/picture.png", "unknown", "Nobody"),
    ]:
        with subtests.test(path=path, licence=licence, author=author):
            package = corpus.Package("game", "train", "usr/", r"\.ogg$")
            assert corpus.licence_of(package, path, {"copyright": DEP5}) == (licence, author)


def test_the_packages_own_list_wins_over_the_copyright_file():
    package = corpus.Package("game", "train", "usr/", r"\.ogg$")
    texts = {"copyright": DEP5, "SOUND_LICENSE.yaml": YAML}
    assert corpus.licence_of(package, "dat/music/c.ogg", texts) == (
        "GPL-3 or CC-BY-3.0",
        "Eve (http://example.org/)",
    )
    assert corpus.licence_of(package, "dat/music/d.ogg", texts) == ("CC-BY-SA-4.0", "Ann")


def test_the_packages_own_list_is_read_as_yaml(subtests: pytest.Subtests) -> None:
    """What a line-by-line reading would get wrong, and what is no list of authors."""
    flow = "- 'Ann: the first':\n    music: [c.ogg, 'd e.ogg']  # two\n    license: \"CC0\"\n"
    assert corpus.yaml_rules(flow) == [(["*/c.ogg", "*/d e.ogg"], "CC0", "Ann: the first")]
    assert corpus.yaml_rules("- Eve:\n    music: []\n") == [([], "unknown", "Eve")]
    assert corpus.yaml_rules("") == []
    for text in ["a: b", "- Ann", "- Ann: [c.ogg]", "- Ann: [", "text"]:
        with (
            subtests.test(text=text),
            pytest.raises(corpus.CorpusError, match=r"SOUND_LICENSE\.yaml"),
        ):
            corpus.yaml_rules(text)


def test_a_stated_licence_needs_its_wording():
    package = corpus.Package(
        "song", "train", "usr/", r"\.ogg$", stated=("MIT", "Carl", "free of charge")
    )
    assert corpus.licence_of(package, "x.ogg", {"copyright": "granted, free of charge, to"}) == (
        "MIT",
        "Carl",
    )
    with pytest.raises(corpus.CorpusError, match="free of charge"):
        corpus.licence_of(package, "x.ogg", {"copyright": "all rights reserved"})


def test_a_track_that_no_paragraph_covers_stops_the_build():
    package = corpus.Package("game", "train", "usr/", r"\.ogg$")
    with pytest.raises(corpus.CorpusError, match=r"x\.ogg"):
        corpus.licence_of(package, "x.ogg", {"copyright": "Files: y.ogg\nLicense: MIT\n"})


def test_what_each_list_keeps(subtests: pytest.Subtests) -> None:
    for folder, licence, seconds, rate, channels, kept in [
        ("train", "CC0", 30.0, 44100, 2, True),
        ("train", "GPL-2+", 100.0, 44100, 2, False),
        ("train", "CC0", 29.9, 44100, 2, False),
        ("train", "CC0", 100.0, 32000, 2, False),
        ("train", "CC0", 100.0, 44100, 1, False),
        ("eval", "GPL-2+", 100.0, 44100, 2, True),
        ("eval", "CC0", 10.0, 44100, 2, False),
        ("small", "CC0", 0.5, 44100, 1, True),
    ]:
        with subtests.test(
            folder=folder, licence=licence, seconds=seconds, rate=rate, channels=channels, kept=kept
        ):
            assert (corpus.objection(folder, licence, seconds, rate, channels) == "") is kept


def test_stems_and_variants_share_a_piece():
    names = [
        corpus.track_name(corpus.Package("f", "train", "", ""), path)
        for path in ("one/song.ogg", "one/guitar.ogg")
    ]
    assert names == ["one-song.ogg", "one-guitar.ogg"]
    assert {corpus.piece_of(name) for name in names} == {"one"}
    assert corpus.piece_of("celtic_fast.ogg") == corpus.piece_of("celtic.ogg")


def test_no_package_stands_in_two_lists():
    names = [package.name for package in corpus.PACKAGES]
    assert len(names) == len(set(names))
    assert {package.folder for package in corpus.PACKAGES} == {"train", "eval", "small"}
