# SPDX-License-Identifier: GPL-2.0-only
# A fake of the packages feed's rust-package.mk: uses the host's compiler to build for the host.

CARGO_HOME ?= $(HOME)/.cargo
RUST_ARCH_DEPENDS := @(aarch64||arm||mips||mipsel||x86_64)
# OpenWrt's own profile settings, which override the workspace's.
RUST_PROFILE := CARGO_PROFILE_RELEASE_OPT_LEVEL=z CARGO_PROFILE_RELEASE_LTO=true CARGO_PROFILE_RELEASE_PANIC=unwind

# Build/Compile/Cargo FOLDER ARGUMENTS
define Build/Compile/Cargo
	+CARGO_HOME=$(CARGO_HOME) $(RUST_PROFILE) cargo install --quiet --locked --profile release \
		--root $(PKG_INSTALL_DIR) --path "$(PKG_BUILD_DIR)/$(1)" $(2)
endef
