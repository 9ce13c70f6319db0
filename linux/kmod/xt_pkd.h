/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The data that iptables and the kernel exchange for the match "pkd".
 *
 * Revision 0 is the layout of ipt_pkd (2007-2014). Revision 1 adds the path of the key file.
 * Integers are in native byte order; tag and key are padded with zero bytes.
 */
#ifndef _XT_PKD_H
#define _XT_PKD_H

#include <linux/types.h>

#define XT_PKD_KEY_LEN 40
#define XT_PKD_TAG_LEN 4
/* Bytes of a key file's path, including the terminating zero. */
#define XT_PKD_PATH_LEN 256

#define XT_PKD_DEFAULT_TAG "PKD0"
/* Seconds to either side; 0 means that the gateway has no clock. */
#define XT_PKD_DEFAULT_WINDOW 10

struct xt_pkd_mtinfo {
	__u8 key[XT_PKD_KEY_LEN];
	__u8 tag[XT_PKD_TAG_LEN];
	__u32 window;
};

struct pkd_cache;

struct xt_pkd_mtinfo_v1 {
	struct xt_pkd_mtinfo rule;
	/* Empty if the key was given directly. Stored only for iptables-save. */
	char key_file[XT_PKD_PATH_LEN];

	/* Used internally by the kernel */
	struct pkd_cache *cache __attribute__((aligned(8)));
};

#endif /* _XT_PKD_H */
