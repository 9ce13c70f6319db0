# The verbs people type; each is a verb of xtask. They install what they need, or say what it is.
CARGO ?= cargo

.PHONY: demo test bench packages firmware test-firmware demo-firmware fuzz seeded test-kernel-debug differential deny clients need
demo test bench deny clients firmware test-firmware demo-firmware seeded test-kernel-debug differential: need
	@$(CARGO) xtask $@

# ARCH: one of OpenWrt's architectures, or several; none: all. KERNEL: the built kernel that a module is packed for.
packages: need
	@$(CARGO) xtask packages $(if $(KERNEL),--kernel $(KERNEL)) $(ARCH)

# HOURS: how long each target runs; without it, a minute. TARGET: one of them, or several; none: all.
fuzz: need
	@$(CARGO) xtask fuzz $(if $(HOURS),--hours $(HOURS)) $(TARGET)

# What xtask itself is built with.
need:
	@command -v $(CARGO) >/dev/null || { echo "pkd: cargo is missing: rustup brings it, or Debian's cargo-web and rustc-web" >&2; exit 1; }
	@command -v cc >/dev/null || { echo "pkd: cargo links with a C compiler: sudo apt-get install gcc libc6-dev" >&2; exit 1; }
	@$(CARGO) --version | awk '{ split($$2, v, "."); if (v[1] == 1 && v[2] < 91) { \
	  print "pkd: cargo " $$2 " is too old, 1.91 is the oldest: rustup brings a newer one, or cargo-web and rustc-web" > "/dev/stderr"; exit 1 } }'
