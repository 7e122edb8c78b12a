"""Delta debugging: the shortest part of a program that still shows a difference of the same class."""

import time


def shrunk(picks, is_red, seconds=60.0, tries=300):
    """A part of `picks` for which `is_red` is true and, if clock and tries allow, of which nothing can be left out.
    `is_red(picks)` must be true of the whole."""
    until = time.monotonic() + seconds
    size = max(1, len(picks) // 2)
    while True:
        n, is_smaller = 0, False
        while n < len(picks) and len(picks) > 1:
            if time.monotonic() > until or tries <= 0:
                return picks
            part = picks[:n] + picks[n + size:]
            tries -= 1
            if part and is_red(part):
                picks, is_smaller = part, True
            else:
                n += size
        if size == 1 and not is_smaller:
            return picks
        if not is_smaller or size > len(picks):
            size = max(1, min(size, len(picks)) // 2)
