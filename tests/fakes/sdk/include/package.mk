# SPDX-License-Identifier: GPL-2.0-only
# A fake of OpenWrt's package.mk and the files it includes. A recipe's text is expanded as often as in OpenWrt: by eval,
# and again when make runs it.
#   make prepare compile    as in OpenWrt; Cargo's earlier output is kept
#   make install            installs each selected package into OUT/installed/NAME
#   make dump               writes OUT/meta/NAME, the fields of the package's control file, NAME.postinst, NAME.prerm, NAME.postrm and NAME.conffiles
#   make BUILT=1 install    installs what is in PKG_BUILD_DIR already
#   make show-VARIABLE      prints a variable of the recipe

PKG_BUILD_DIR ?= $(BUILD_DIR)/$(PKG_NAME)-$(PKG_VERSION)
PKG_INSTALL_DIR ?= $(PKG_BUILD_DIR)/ipkg-install
PKG_JOBS ?=

.PHONY: all prepare compile install dump
all: dump prepare compile install

show-%:
	@printf '%s\n' '$(subst ','\'',$($*))'

define Package/Default
  SECTION :=
  CATEGORY :=
  TITLE :=
  DEPENDS :=
  EXTRA_DEPENDS :=
  PKGARCH := $(ARCH_PACKAGES)
  VERSION := $(PKG_VERSION)-r$(PKG_RELEASE)
  LICENSE := $(PKG_LICENSE)
endef

define PrepareAndCompile
  prepare:
	mkdir -p $(PKG_BUILD_DIR)
	find $(PKG_BUILD_DIR) -mindepth 1 -maxdepth 1 ! -name target -exec rm -rf {} +
	$(Build/Prepare)

  compile: prepare
	$(Build/Compile)

  define PrepareAndCompile
  endef
endef

# BuildPackage NAME. In DEPENDS, @ is a condition on the configuration, and + also selects the package.
define BuildPackage
  $(eval $(Package/Default))
  $(eval $(Package/$(1)))
  $(foreach field,TITLE SECTION CATEGORY VERSION,$(if $($(field)),,$(error Package/$(1) has no $(field))))
  $(PrepareAndCompile)

  META_$(1) := Package: $(1)|Version: $(VERSION)|Depends: $(if $(EXTRA_DEPENDS),$(EXTRA_DEPENDS) )$(patsubst +%,%,$(filter-out @%,$(DEPENDS)))|Architecture: $(PKGARCH)|License: $(LICENSE)|Title: $(TITLE)
  dump: dump-$(1)
  dump-$(1): export META := $$(META_$(1))
  dump-$(1): export POSTINST = $$(Package/$(1)/postinst)
  dump-$(1): export PRERM = $$(Package/$(1)/prerm)
  dump-$(1): export POSTRM = $$(Package/$(1)/postrm)
  dump-$(1): export CONFFILES = $$(Package/$(1)/conffiles)
  dump-$(1):
	@mkdir -p $(OUT)/meta
	@printf '%s\n' "$$$$META" | tr '|' '\n' > $(OUT)/meta/$(1)
	@printf '%s' "$$$$POSTINST" > $(OUT)/meta/$(1).postinst
	@printf '%s' "$$$$PRERM" > $(OUT)/meta/$(1).prerm
	@printf '%s' "$$$$POSTRM" > $(OUT)/meta/$(1).postrm
	@printf '%s' "$$$$CONFFILES" > $(OUT)/meta/$(1).conffiles

  $(if $(CONFIG_PACKAGE_$(1)),install: install-$(1))
  install-$(1): $(if $(BUILT),,compile)
	rm -rf $(OUT)/installed/$(1)
	mkdir -p $(OUT)/installed/$(1)
	$(call Package/$(1)/install,$(OUT)/installed/$(1))
endef
