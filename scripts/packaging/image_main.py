#!/usr/bin/python3.11 -I
"""``cotun-trio`` in the image."""

from cotun_trio.__main__ import main

main()
