# SPDX-License-Identifier: GPL-2.0-only
# A fake of OpenWrt's kernel.mk.
#   LINUX_DIR            a built kernel, or its headers
#   LINUX_VERSION        its version as in package versions
#   LINUX_VERMAGIC       the hash of its configuration
#   LINUX_UNAME_VERSION  its uname -r

LINUX_KMOD_SUFFIX := ko
LINUX_RELEASE := 1
MODULES_SUBDIR := lib/modules/$(LINUX_UNAME_VERSION)
KERNEL_MAKE = $(MAKE) --no-print-directory -C $(LINUX_DIR) ARCH=$(if $(filter x86_64,$(ARCH)),x86,$(ARCH)) \
	KCFLAGS=-Werror CONFIG_DEBUG_INFO_BTF_MODULES=

ifneq ($(LINUX_DIR),)
  -include $(LINUX_DIR)/.config
endif

# AutoProbe MODULES: priority and boot flag are 0, as for modules that depend on no other.
AutoProbe = 0 0 $(1)

define KernelPackage
  $(eval $(Package/Default))
  FILES :=
  AUTOLOAD :=
  $(eval $(KernelPackage/$(1)))

  define Package/kmod-$(1)
    SECTION := kernel
    CATEGORY := Kernel modules
    EXTRA_DEPENDS := kernel (=$(LINUX_VERSION)~$(LINUX_VERMAGIC)-r$(LINUX_RELEASE))
    VERSION := $(LINUX_VERSION).$(PKG_VERSION)-r$(PKG_RELEASE)
    $(KernelPackage/$(1))
  endef
  Package/kmod-$(1)/description = $$(KernelPackage/$(1)/description)

  define Package/kmod-$(1)/install
	mkdir -p $$(1)/$(MODULES_SUBDIR) $$(1)/etc/modules.d
	$(CP) $(FILES) $$(1)/$(MODULES_SUBDIR)/
	printf '%s\n' $(wordlist 3,99,$(AUTOLOAD)) > $$(1)/etc/modules.d/$(1)
  endef
  $$(eval $$(call BuildPackage,kmod-$(1)))
endef
