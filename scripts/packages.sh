# Debian packages for setup.sh and test.sh. An argument of need and want is WHAT:PACKAGE, where WHAT is a program, a pkg-config module as NAME.pc,
# or a path. Nothing is installed if everything is there.

have()
{
    case $1 in
        /*) [ -e "$1" ] ;;
        *.pc) command -v pkg-config > /dev/null && pkg-config --exists "${1%.pc}" ;;
        *) command -v "$1" > /dev/null ;;
    esac
}

# Prints the packages of the arguments that are missing.
missing()
{
    for pair; do have "${pair%%:*}" || printf '%s ' "${pair#*:}"; done
}

# Tries to install packages as root, or with sudo where that asks no password or somebody is there to give it.
add()
{
    command -v apt-get > /dev/null || return 1
    as=''
    if [ "$(id -u)" != 0 ]; then
        command -v sudo > /dev/null || return 1
        as='sudo'
        [ -t 0 ] || as='sudo -n'
    fi
    echo "installing: $*"
    export DEBIAN_FRONTEND=noninteractive
    [ -n "${updated:-}" ] || $as apt-get -qq update || echo "apt-get update failed, going on with the lists that are there"
    updated=yes
    $as env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "$@" > /dev/null
}

# Packages without which nothing can be built.
need()
{
    packages=$(missing "$@")
    [ -z "$packages" ] || add $packages || true
    packages=$(missing "$@")
    [ -z "$packages" ] && return
    echo "missing, and they could not be installed (no root or sudo, or no network): $packages"
    echo "as root:  apt-get install $packages"
    exit 1
}

# Packages that are good to have.
want()
{
    packages=$(missing "$@")
    [ -z "$packages" ] || add $packages || echo "going on without: $packages"
}

# What the library and the program are built with, and the data set of the quickstart.
need_build()
{
    need gcc:gcc /usr/include/stdio.h:libc6-dev cmake:cmake ninja:ninja-build pkg-config:pkg-config awk:mawk \
         openblas.pc:libopenblas-dev hdf5-serial.pc:libhdf5-dev yaml-0.1.pc:libyaml-dev zlib.pc:zlib1g-dev stb.pc:libstb-dev "$@"
    want /usr/share/datasets/fashion-mnist:dataset-fashion-mnist
}

# What the presets `asan` and `tsan` are built with, besides: clang with its sanitizers and its OpenMP. False if they cannot be had.
want_clang()
{
    want clang:clang llvm-symbolizer:llvm
    clang_works || { have clang && add libomp-dev libclang-rt-14-dev && clang_works; }
}
clang_works()
{
    probe=$(mktemp)
    echo 'int LLVMFuzzerTestOneInput(const char *p, unsigned long n) { return !p && n; }' > "$probe"
    clang -fopenmp -fsanitize=address,fuzzer -x c "$probe" -o /dev/null 2> /dev/null && works=0 || works=1
    rm -f "$probe"
    return $works
}
