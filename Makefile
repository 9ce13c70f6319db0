# Each command is one of `cargo xtask`, which installs what the command needs, or says what is missing.
CARGO ?= cargo

.PHONY: demo demo-router picture test test-all test-fresh bench packages docs firmware test-firmware demo-firmware fuzz mutants test-sanitizers differential deny coverage mutants-sample clients debs apt-repo release need
demo demo-router bench deny docs coverage test-firmware demo-firmware mutants test-sanitizers differential: need
	@$(CARGO) xtask $@

picture: need
	@$(CARGO) run --quiet --package xtask --features picture -- $@

# FROM: the step to start at, after one that failed.
test test-all: need
	@$(CARGO) xtask $@ $(if $(FROM),--from $(FROM))

# COMMANDS: commands of this file to run on an empty Debian 12; without it, those that README.md names.
test-fresh: need
	@$(CARGO) xtask test-fresh $(COMMANDS)

# ARCH: one or more of OpenWrt's architectures; without it, all. KERNEL: the built kernel to pack a module for. OPKG_KEY and
# APK_KEY: files with secret keys to sign the feeds with.
packages: need
	@$(CARGO) xtask packages $(if $(KERNEL),--kernel $(KERNEL)) $(if $(OPKG_KEY),--opkg-key $(OPKG_KEY)) \
	  $(if $(APK_KEY),--apk-key $(APK_KEY)) $(ARCH)

# SEED: another sample. CRATE: one or more crates; without it, all.
mutants-sample: need
	@$(CARGO) xtask mutants-sample $(if $(SEED),--seed $(SEED)) $(CRATE)

# BOARD: one or more boards; without it, all.
firmware: need
	@$(CARGO) xtask firmware $(BOARD)

clients: need
	@$(CARGO) xtask clients $(ARCH)

# ARCH: one or more of amd64, arm64 and armhf; without it, all.
debs: need
	@$(CARGO) xtask debs $(ARCH)

# ARCH: as above. KEY: a file with a secret key, as gpg exports it, to sign the repository with.
apt-repo: need
	@$(CARGO) xtask apt-repo $(if $(KEY),--key $(KEY)) $(ARCH)

# TAG: what it is released as, which has to name this version. KEY: as above, to sign the checksums with.
release: need
	@$(CARGO) xtask release $(if $(TAG),--tag $(TAG)) $(if $(KEY),--key $(KEY))

# SECONDS or HOURS: how long each target runs; without either, a minute. TARGET: one or more targets; without it, all.
fuzz: need
	@$(CARGO) xtask fuzz $(if $(HOURS),--hours $(HOURS),$(if $(SECONDS),--seconds $(SECONDS))) $(TARGET)

# What xtask itself is built with. Debian 12's own cargo is too old.
TOOLCHAIN = sudo apt-get install cargo-web rustc-web gcc libc6-dev (Debian 12), or rustup
need:
	@command -v $(CARGO) >/dev/null || { echo "pkd: cargo is missing: $(TOOLCHAIN)" >&2; exit 1; }
	@command -v cc >/dev/null || { echo "pkd: a C compiler is missing, cargo links with it: $(TOOLCHAIN)" >&2; exit 1; }
	@$(CARGO) --version | awk '{ split($$2, v, "."); if (v[1] == 1 && v[2] < 91) { \
	  print "pkd: cargo " $$2 " is too old, at least 1.91 is needed: $(TOOLCHAIN)" > "/dev/stderr"; exit 1 } }'
