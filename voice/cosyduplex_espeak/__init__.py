# SPDX-License-Identifier: GPL-3.0-or-later
"""The embedded voice: espeak-ng as an engine worker, always in a process of its own."""
