# A thin wrapper around cargo for packagers.
#
#   make [SLURM_VERSION=26.05.5]     target/dist/{namespace_linux.so,namespace_tmpfs.so,jobns-remover,jobns}
#   make install DESTDIR= PREFIX=/usr PLUGINDIR=/usr/lib/slurm-jobns [BINDIR=/usr/bin] [DATADIR=/usr/share]
#                [ZSHDIR=/usr/share/zsh/site-functions]
#   make install-doc [DOCDIR=...]    README.md, SECURITY.md, CHANGELOG.md, docs/ and examples/; the packages do this themselves
#   make check                       the tests that need no root and no Slurm
#   make check-root                  also the tests that need root
#   make abi-check SLURM_SRC=DIR     compares the plugin with the configured source of Slurm in DIR; CC may be a cross compiler
#   make deb                         target/package/*.deb, see packaging/build
#   make rpm                         target/package/*.rpm
#   make dsc                         target/package/*.dsc, Debian's source package
#
# RUSTFLAGS, CARGO and CARGOFLAGS (such as --offline) are honoured. For another architecture:
#
#   make CARGO_BUILD_TARGET=aarch64-unknown-linux-gnu CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
#                                    target/aarch64-unknown-linux-gnu/dist; `make install` needs CARGO_BUILD_TARGET as well
#   make deb DEB_HOST_ARCH=arm64     with gcc-aarch64-linux-gnu, libc6-dev:arm64 and Rust's standard library for it
#   make rpm CARGO_BUILD_TARGET=...

CARGO ?= cargo
CARGOFLAGS ?= --locked
PREFIX ?= /usr/local
# Not lib/slurm, where a Slurm of the same prefix has its own plugins of the same names. The plugins look for
# jobns-remover in their own directory.
PLUGINDIR ?= $(PREFIX)/lib/slurm-jobns
BINDIR ?= $(PREFIX)/bin
DATADIR ?= $(PREFIX)/share
MANDIR ?= $(DATADIR)/man
ZSHDIR ?= $(DATADIR)/zsh/site-functions
DOCDIR ?= $(DATADIR)/doc/slurm-jobns
TARGET := $(or $(CARGO_TARGET_DIR),target)
# Cargo puts what is for a target that it was told into a directory of that name.
RELEASE := $(if $(CARGO_BUILD_TARGET),$(CARGO_BUILD_TARGET)/)release
DIST := target/$(if $(CARGO_BUILD_TARGET),$(CARGO_BUILD_TARGET)/)dist
ifneq ($(filter --target --target=%,$(CARGOFLAGS)),)
$(error --target is in CARGOFLAGS: set CARGO_BUILD_TARGET instead)
endif

export SLURM_VERSION

# Remove the names of local directories from the results, so that a build in another directory, or with vendored crates,
# gives the same files. Each registry has a directory below registry/src, which may not be there yet. The options are added
# to RUSTFLAGS. Cargo ignores the rustflags of its own configuration if RUSTFLAGS is set; use `make REMAP=` to keep them. If
# several prefixes match, rustc uses the last one.
CARGO_HOME ?= $(HOME)/.cargo
REMAP ?= --remap-path-prefix=$(CURDIR)=/usr/src/slurm-jobns \
	$(foreach crates,$(CARGO_HOME)/registry/src $(wildcard $(CARGO_HOME)/registry/src/*) $(CURDIR)/vendor, \
		--remap-path-prefix=$(crates)=/usr/src/crates)
ifneq ($(strip $(REMAP)),)
ifdef CARGO_ENCODED_RUSTFLAGS
between := $(shell printf '\037')
flags := $(CARGO_ENCODED_RUSTFLAGS)$(foreach flag,$(REMAP),$(between)$(flag))
# foreach joins with spaces. An encoded flag can contain spaces, but none before a separator.
linux tmpfs: override export CARGO_ENCODED_RUSTFLAGS := $(subst $() $(between),$(between),$(flags))
else
linux tmpfs: override export RUSTFLAGS := $(strip $(RUSTFLAGS) $(REMAP))
endif
endif

all: linux tmpfs
	@echo "$(DIST): for Slurm $$(packaging/slurm-version $(DIST)/namespace_linux.so)"

# Two target directories, because in one directory each build would replace the library with the other features. They
# build in parallel with `make -j2`. MAKEFLAGS is cleared: it is not for cargo. What an earlier build has left is removed
# first: it must not be installed if this build puts its files elsewhere. Cargo puts back a file that is up to date.
linux: out = $(TARGET)/$(RELEASE)
linux:
	mkdir -p $(DIST)
	rm -f $(out)/libslurm_jobns.so $(out)/jobns-remover $(out)/jobns
	MAKEFLAGS= $(CARGO) build --release $(CARGOFLAGS)
	@test -f $(out)/jobns || { echo '$(no-files)' >&2; exit 1; }
	install -m 0755 $(out)/libslurm_jobns.so $(DIST)/namespace_linux.so
	install -m 0755 $(out)/jobns-remover $(DIST)/jobns-remover
	install -m 0755 $(out)/jobns $(DIST)/jobns

tmpfs: out = $(TARGET)/tmpfs/$(RELEASE)
tmpfs:
	mkdir -p $(DIST)
	rm -f $(out)/libslurm_jobns.so
	MAKEFLAGS= $(CARGO) build --release $(CARGOFLAGS) --lib --features tmpfs --target-dir $(TARGET)/tmpfs
	@test -f $(out)/libslurm_jobns.so || { echo '$(no-files)' >&2; exit 1; }
	install -m 0755 $(out)/libslurm_jobns.so $(DIST)/namespace_tmpfs.so
no-files = make: cargo built nothing in $(out): if its configuration names a target, set CARGO_BUILD_TARGET to that

check:
	$(CARGO) test $(CARGOFLAGS)

check-root:
	$(CARGO) test $(CARGOFLAGS) -- --include-ignored

# Build for the release in DIR: its version selects the structures that the plugin expects.
abi-check:
	@test -f "$(SLURM_SRC)/slurm/slurm_version.h" || { \
		echo "make abi-check: SLURM_SRC must be Slurm's source, after ./configure: no $(SLURM_SRC)/slurm/slurm_version.h" >&2; \
		exit 2; }
	number=$$(sed -n 's/^#define SLURM_VERSION_NUMBER *//p' "$(SLURM_SRC)/slurm/slurm_version.h") && \
	SLURM_SRC="$(abspath $(SLURM_SRC))" \
	SLURM_VERSION=$$((number >> 16)).$$((number >> 8 & 255)).$$((number & 255)) \
		$(CARGO) test $(CARGOFLAGS) --test abi_check -- --nocapture

install: install-man install-completions
	install -d $(DESTDIR)$(PLUGINDIR) $(DESTDIR)$(BINDIR)
	install -m 0755 $(DIST)/namespace_linux.so $(DESTDIR)$(PLUGINDIR)/namespace_linux.so
	install -m 0755 $(DIST)/namespace_tmpfs.so $(DESTDIR)$(PLUGINDIR)/namespace_tmpfs.so
	install -m 0755 $(DIST)/jobns-remover $(DESTDIR)$(PLUGINDIR)/jobns-remover
	install -m 0755 $(DIST)/jobns $(DESTDIR)$(BINDIR)/jobns

# Slurm's own packages have namespace.yaml(5) and job_container.conf(5), so these pages are in section 5jobns.
install-man:
	install -d $(DESTDIR)$(MANDIR)/man1 $(DESTDIR)$(MANDIR)/man5 $(DESTDIR)$(MANDIR)/man7
	install -m 0644 man/namespace.yaml.5 $(DESTDIR)$(MANDIR)/man5/namespace.yaml.5jobns
	install -m 0644 man/job_container.conf.5 $(DESTDIR)$(MANDIR)/man5/job_container.conf.5jobns
	install -m 0644 man/slurm-jobns.7 $(DESTDIR)$(MANDIR)/man7/slurm-jobns.7
	install -m 0644 man/jobns.1 $(DESTDIR)$(MANDIR)/man1/jobns.1

install-completions:
	install -d $(DESTDIR)$(DATADIR)/bash-completion/completions $(DESTDIR)$(ZSHDIR) \
		$(DESTDIR)$(DATADIR)/fish/vendor_completions.d
	install -m 0644 completions/jobns.bash $(DESTDIR)$(DATADIR)/bash-completion/completions/jobns
	install -m 0644 completions/_jobns $(DESTDIR)$(ZSHDIR)/_jobns
	install -m 0644 completions/jobns.fish $(DESTDIR)$(DATADIR)/fish/vendor_completions.d/jobns.fish

install-doc:
	install -d $(DESTDIR)$(DOCDIR)/docs/performance $(DESTDIR)$(DOCDIR)/examples
	install -m 0644 README.md SECURITY.md CHANGELOG.md LICENSE $(DESTDIR)$(DOCDIR)
	install -m 0644 docs/*.md $(DESTDIR)$(DOCDIR)/docs
	install -m 0644 docs/performance/* $(DESTDIR)$(DOCDIR)/docs/performance
	install -m 0644 examples/* $(DESTDIR)$(DOCDIR)/examples

deb rpm dsc:
	packaging/build $@

clean:
	$(CARGO) clean

.PHONY: all linux tmpfs check check-root abi-check install install-man install-completions install-doc deb rpm dsc clean
