# SPDX-License-Identifier: GPL-2.0-only
# A fake of the luci feed's luci.mk: a package named after its folder.

PKG_NAME ?= $(notdir $(CURDIR))
include $(INCLUDE_DIR)/package.mk

define Package/$(PKG_NAME)
  SECTION := luci
  CATEGORY := LuCI
  TITLE := $(LUCI_TITLE)
  DEPENDS := $(LUCI_DEPENDS)
  PKGARCH := $(LUCI_PKGARCH)
endef

define Package/$(PKG_NAME)/install
	$(INSTALL_DIR) $(1)/www
	$(CP) ./htdocs/* $(1)/www/
	$(CP) root/* $(1)/
endef

$(eval $(call BuildPackage,$(PKG_NAME)))
