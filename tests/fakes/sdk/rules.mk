# SPDX-License-Identifier: GPL-2.0-only
# A fake of OpenWrt's rules.mk: the variables that recipes use, for building on the host. This folder is TOPDIR.
#   OUT       folder to build and install into
#   ARCH      OpenWrt's name for the CPU
#   ARCH_PACKAGES  its name for packages, if that is another
#   TOOLS     folder with cargo and rustc, put first in PATH
#   SELECTED  packages to build

INCLUDE_DIR := $(TOPDIR)/include
ARCH ?= x86_64
ARCH_PACKAGES ?= $(ARCH)
BUILD_DIR := $(OUT)/build
export PATH := $(if $(TOOLS),$(TOOLS):)$(PATH)

comma := ,
qstrip = $(strip $(subst ",,$(1)))

TARGET_CC := gcc
TARGET_AR := gcc-ar
TARGET_NM := gcc-nm
TARGET_CROSS :=
TARGET_CFLAGS := -Os -pipe
TARGET_CPPFLAGS :=
# OpenWrt's hardening flags; the recipe must override RELRO.
TARGET_LDFLAGS := -Wl,-z,now -Wl,-z,relro

INSTALL_DIR := install -d -m0755
INSTALL_BIN := install -m0755
INSTALL_DATA := install -m0644
INSTALL_CONF := install -m0600
CP := cp -fpR
SED := sed -i -e

$(foreach name,$(SELECTED),$(eval CONFIG_PACKAGE_$(name) := m))
