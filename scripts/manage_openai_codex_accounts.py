#!/usr/bin/env python3
"""Manage the accounts that codexrelay uses: the same commands as `codexrelay accounts`."""

from codexrelay.cli.accounts import accounts

if __name__ == "__main__":
    accounts()
