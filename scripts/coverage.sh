#!/bin/sh
# Counts the lines that the tests run, in float, with gcc's gcov, and prints the share of each folder. Fails where a folder that must not is below
# 90 %. Processes that tests start count too, unless they are killed. Slow tests are left out where they run no line of those folders that others
# do not, so src/kernels, src/cli and src/report have more than is printed; paths for instructions that the CPU lacks count as not run.
#   scripts/coverage.sh              the folders, and the files with most lines that no test runs
#   scripts/coverage.sh FOLDER ...   also those lines themselves, of these folders or files
set -eu
cd "$(dirname "$0")/.."
. scripts/packages.sh
need_build cmocka.pc:libcmocka-dev gcov:gcc
build=build/coverage
cmake --preset coverage > /dev/null
cmake --build --preset coverage --target qtape_cli $(ctest --preset coverage -N | sed -n 's/.*: \(test_\)/\1/p') > /dev/null
find $build -name '*.gcda' -delete
OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive ctest --preset coverage -j 2 > $build/tests.txt 2>&1 || { tail -40 $build/tests.txt; exit 1; }

# A line counts where gcov gives it a number: '#####' and '=====' are lines that never ran. Of headers each object file has a version.
find $build -path '*/qtape_*.gcno' | xargs gcov -t -r -s "$PWD" 2> /dev/null | awk -v wanted="$*" -v must='src/base src/autograd src/qat src/export' '
    function percent(part, all) { return all ? 100 * part / all : 0 }
    function row(name, all, run) { return sprintf("%-28s %6d %6d %7.1f %%", name, all, run, percent(run, all)) }
    { n = split($0, part, ":"); count = part[1]; at = part[2] + 0; gsub(/ /, "", count) }
    at == 0 && part[3] == "Source" { file = part[4]; next }
    at == 0 || count == "-" || file !~ /^(src|datasets)\// { next }
    !((file, at) in text) { text[file, at] = substr($0, index($0, ":") + 1); lines[file]++; last[file] = at > last[file] ? at : last[file] }
    count !~ /^[#=]/ && !((file, at) in ran) { ran[file, at] = 1; run[file]++ }
    END {
        for (f in lines) { d = f; sub(/\/[^\/]*$/, "", d); all[d] += lines[f]; hit[d] += run[f] }
        printf "%-28s %6s %6s %9s\n", "folder", "lines", "run", "share"
        for (d in all) { print row(d, all[d], hit[d]) | "sort"; total += all[d]; ran_of_all += hit[d] }
        fflush(); close("sort")
        print row("all", total, ran_of_all)
        printf "\n%-28s %6s %6s %9s\n", "file", "lines", "run", "share"
        worst = "sort -rn | head -10 | cut -f 2"
        for (f in lines) if (lines[f] > run[f]) print lines[f] - run[f] "\t" row(f, lines[f], run[f]) | worst
        fflush(); close(worst)
        for (i = split(wanted, w, " "); i > 0; i--)
            for (f in lines) if (index(f, w[i]) == 1)
                for (l = 1; l <= last[f]; l++) if ((f, l) in text && !((f, l) in ran)) print f ":" text[f, l]
        for (i = split(must, w, " "); i > 0; i--)
            if (percent(hit[w[i]], all[w[i]]) < 90) { print w[i] " is below 90 %"; low = 1 }
        exit low
    }'
