# A thin wrapper around cargo for packagers.
#
#   make [SLURM_VERSION=26.05.5]     target/dist/{namespace_linux.so,namespace_tmpfs.so,jobns}
#   make install DESTDIR= PREFIX=/usr PLUGINDIR=/usr/lib/slurm
#   make check                       the tests that need no root and no Slurm
#
# RUSTFLAGS, CARGO and CARGOFLAGS (such as --offline) are honoured.

CARGO ?= cargo
CARGOFLAGS ?= --locked
PREFIX ?= /usr/local
PLUGINDIR ?= $(PREFIX)/lib/slurm
SBINDIR ?= $(PREFIX)/sbin
TARGET := $(or $(CARGO_TARGET_DIR),target)
DIST := target/dist

export SLURM_VERSION

# The default last: what cargo leaves in its directory is then namespace_linux.so.
all:
	mkdir -p $(DIST)
	$(CARGO) build --release $(CARGOFLAGS) --lib --features tmpfs
	install -m 0755 $(TARGET)/release/libnamespace_linux.so $(DIST)/namespace_tmpfs.so
	$(CARGO) build --release $(CARGOFLAGS)
	install -m 0755 $(TARGET)/release/libnamespace_linux.so $(DIST)/namespace_linux.so
	install -m 0755 $(TARGET)/release/jobns $(DIST)/jobns

check:
	$(CARGO) test $(CARGOFLAGS)

install:
	install -d $(DESTDIR)$(PLUGINDIR) $(DESTDIR)$(SBINDIR)
	install -m 0755 $(DIST)/namespace_linux.so $(DESTDIR)$(PLUGINDIR)/namespace_linux.so
	install -m 0755 $(DIST)/namespace_tmpfs.so $(DESTDIR)$(PLUGINDIR)/namespace_tmpfs.so
	install -m 0755 $(DIST)/jobns $(DESTDIR)$(SBINDIR)/jobns

clean:
	$(CARGO) clean

.PHONY: all check install clean
