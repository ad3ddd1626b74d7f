#!/bin/sh
# cppcheck over all sources: warnings and portability, none allowed. Skipped where it is not installed.
command -v cppcheck > /dev/null || { echo "cppcheck is not installed"; exit 77; }
cd "$QTAPE_SOURCE" || exit 1
cppcheck -q -j 2 --std=c11 --library=posix --enable=warning,portability --inline-suppr --error-exitcode=1 --suppressions-list=tests/cppcheck.txt \
    -Iinclude -Isrc -Idatasets -I"$QTAPE_BUILD/include" -D__GNUC__ -D__x86_64__ -D__linux__ src datasets tests/fuzz
