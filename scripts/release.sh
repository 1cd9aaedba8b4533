#!/usr/bin/env bash
# The checks before a release, from a clean checkout: scripts/release.sh [VERSION]. Changes nothing in the checkout; wheel, sdist
# and their hashes are left in dist/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-.venv/bin/python}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() { echo "release: $*" >&2; exit 1; }
step() { printf '\n=== %s\n' "$1"; }

step "checkout"
[ -z "$(git status --porcelain)" ] || fail "the checkout has changes that are not committed"

step "version"
version=$("$python" -c 'import tomllib; print(tomllib.load(open("pyproject.toml", "rb"))["project"]["version"])')
[ "$version" = "${1:-$version}" ] || fail "pyproject.toml says $version, expected $1"
grep -q "^version: $version\$" CITATION.cff || fail "CITATION.cff says another version than $version"
grep -q "__version__ = \"$version\"" ravecodec/__init__.py || fail "ravecodec/__init__.py says another version than $version"

step "changelog"
section=$(awk -v head="## [$version]" 'index($0, head) == 1 {on = 1; next} on && /^## / {exit} on' CHANGELOG.md)
[ -n "$section" ] || fail "CHANGELOG.md has no section for $version"
for line in Format Models; do grep -q "^\*\*$line:\*\*" <<<"$section" || fail "the section of $version has no **$line:** line"; done

step "golden vectors"
last=$(git describe --tags --abbrev=0 2>/dev/null || true)
if [ -n "$last" ]; then
    changed=$(git diff --name-only --diff-filter=MD "$last" -- tests/vectors/ ':!tests/vectors/*.py')
    [ -z "$changed" ] || fail "golden vectors changed since $last: $changed"
fi
"$python" -m pytest -q tests/bitstream/test_vectors.py tests/bitstream/test_spec.py

step "model ids"
for model in models/pretrained/*.safetensors; do
    id=$(sha256sum "$model" | cut -c1-16)
    grep -q "$id" "${model%.safetensors}.md" || fail "the card of $model does not name its id $id"
    grep -q "$id" <<<"$section" || fail "the changelog of $version does not name $model, $id"
    echo "$model $id"
done

step "wheel and sdist"
git archive HEAD | tar -x -C "$work"
rm -rf dist
"$python" -m pip wheel --quiet --no-deps --wheel-dir dist "$work"
wheel=$(echo dist/ravecodec-"$version"-*.whl)
[ -f "$wheel" ] || fail "no wheel of version $version was built"
"$python" - "$wheel" <<'PYTHON'
import pathlib, sys, zipfile

names = zipfile.ZipFile(sys.argv[1]).namelist()
top = {name.split("/")[0] for name in names}
assert {name for name in top if not name.endswith(".dist-info")} == {"ravecodec"}, top
for folder, package in (("ravecodec", "ravecodec"), ("bitstream", "ravecodec/bitstream"), ("models", "ravecodec/models")):
    for path in pathlib.Path(folder).rglob("*"):
        inside = path.relative_to(folder)
        if path.is_file() and "__pycache__" not in inside.parts and path.suffix != ".pyc":
            assert f"{package}/{inside}" in names, f"{path} is not in the wheel"
odd = [name for name in names if name.endswith((".pyc", ".part", ".rvc", ".wav")) or "test" in name.split("/")[1:2]]
assert not odd, odd
print(f"{len(names)} files")
PYTHON

step "hashes"
(cd dist && sha256sum ./*.whl | tee SHA256SUMS)
echo "now: .ci/run, then tag v$version"
