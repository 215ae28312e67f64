"""The cache of all rooms forgets what was used longest ago, and nothing else."""

from __future__ import annotations

from h5fs.lru_cache import LruCache


def test_what_was_used_longest_ago_is_forgotten_first() -> None:
    cache: LruCache[str, int] = LruCache(2)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.get("a") == 1
    cache.put("c", 3)
    assert [cache.get(key) for key in "abc"] == [1, None, 3]


def test_a_value_takes_as_much_as_it_weighs_and_the_newest_one_stays() -> None:
    cache: LruCache[str, bytes] = LruCache(10, len)
    cache.put("a", bytes(4))
    cache.put("b", bytes(4))
    cache.put("a", bytes(6))  # in place of the first
    assert cache.get("b") == bytes(4)
    cache.put("c", bytes(5))
    assert cache.get("a") is None
    cache.put("d", bytes(20))
    assert [cache.get(key) for key in "abcd"] == [None, None, None, bytes(20)]


def test_what_is_removed_takes_nothing() -> None:
    cache: LruCache[str, bytes] = LruCache(10, len)
    cache.put("a", bytes(6))
    cache.remove("a", "never there")
    cache.put("b", bytes(5))
    cache.put("c", bytes(5))
    assert cache.get("b") == bytes(5)
    cache.clear()
    cache.put("d", bytes(10))
    assert [cache.get(key) for key in "bcd"] == [None, None, bytes(10)]
