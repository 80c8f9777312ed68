"""The one cache of values by key: shared by threads and processes, and never in the way."""

import sqlite3
import subprocess
import sys
import threading

import pytest

from dit_core.errors import DitError
from dit_core.hub.cache import KeyValueCache


def test_values_come_back_in_another_process(tmp_path):
    path = tmp_path / "below" / "kept.sqlite"
    cache = KeyValueCache(path)
    assert cache.get("nothing") is None and not path.exists()
    cache.put({("a", 1): [1.5, "x"], ("a", None): {"b": True}}.items())
    code = f"from dit_core.hub.cache import KeyValueCache as C; print(C({str(path)!r}).get('a', 1))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[1.5, 'x']\n"
    cache.put([(("a", 1), 2)])
    assert cache.get("a", 1) == KeyValueCache(path).get("a", 1) == 2
    assert KeyValueCache(path).get("a", None) == {"b": True}


def test_writers_at_once_lose_nothing(tmp_path):
    caches = [KeyValueCache(tmp_path / "kept") for _ in range(3)]

    def write(cache, name):
        for number in range(15):
            cache.put({(name, number): number}.items())

    threads = [threading.Thread(target=write, args=(caches[n % 3], str(n))) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    fresh = KeyValueCache(tmp_path / "kept")
    assert [fresh.get(str(n), number) for n in range(6) for number in range(15)] == list(range(15)) * 6


def test_a_damaged_file_is_moved_aside_and_a_new_one_begun(tmp_path):
    path = tmp_path / "kept.sqlite"
    path.write_text("somebody's notes, and no database", encoding="utf-8")
    cache = KeyValueCache(path)
    assert cache.get("key") is None
    cache.put({("key",): 1}.items())
    assert KeyValueCache(path).get("key") == 1
    assert (tmp_path / "kept.sqlite.damaged").read_text(encoding="utf-8").startswith("somebody's notes")


def test_a_file_damaged_inside_is_begun_anew_too(tmp_path):
    path = tmp_path / "kept"
    KeyValueCache(path).put({(number,): "x" * 100 for number in range(500)}.items())
    content = bytearray(path.read_bytes())
    content[4096:-4096] = b"\xff" * (len(content) - 2 * 4096)
    path.write_bytes(content)
    cache = KeyValueCache(path)
    assert cache.get(250) is None
    cache.put({(1,): "y"}.items())
    assert KeyValueCache(path).get(1) == "y"


def test_a_value_that_is_no_json_is_none(tmp_path):
    cache = KeyValueCache(tmp_path / "kept")
    cache.put({("key",): 1}.items())
    with sqlite3.connect(cache.path) as database:
        database.execute("UPDATE cache SET value = '{'")
    assert KeyValueCache(cache.path).get("key") is None


def test_what_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    cache = KeyValueCache(tmp_path / "file" / "kept")
    with pytest.raises(DitError, match="can't be used"):
        cache.put({("key",): 1}.items())
    assert cache.get("key") is None
