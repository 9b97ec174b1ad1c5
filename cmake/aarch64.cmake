# Cross-compiles on Debian for aarch64: `tools/need-packages aarch64` installs what that takes. qemu-aarch64 runs
# the tests. Without plm-cloud: Debian's libpq-dev can't stand beside that of another architecture.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64)
set(ENV{PKG_CONFIG_LIBDIR} /usr/lib/aarch64-linux-gnu/pkgconfig)
