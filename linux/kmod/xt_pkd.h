/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What iptables and the kernel pass each other for the match "pkd".
 *
 * Revision 0 is the layout of ipt_pkd (2007-2014); revision 1 adds the path that a key was read from.
 * All integers are in the machine's own byte order; tag and key are filled with zero bytes.
 */
#ifndef _XT_PKD_H
#define _XT_PKD_H

#include <linux/types.h>

#define XT_PKD_KEY_LEN 40
#define XT_PKD_TAG_LEN 4
/* Bytes of a key file's path, the ending zero included. */
#define XT_PKD_PATH_LEN 256

#define XT_PKD_DEFAULT_TAG "PKD0"
/* Seconds, plus and minus; 0 means that the gateway has no clock. */
#define XT_PKD_DEFAULT_WINDOW 10

struct xt_pkd_mtinfo {
	__u8 key[XT_PKD_KEY_LEN];
	__u8 tag[XT_PKD_TAG_LEN];
	__u32 window;
};

struct pkd_cache;

struct xt_pkd_mtinfo_v1 {
	struct xt_pkd_mtinfo rule;
	/* Empty: the key was given as it is. Only kept for iptables-save. */
	char key_file[XT_PKD_PATH_LEN];

	/* Used internally by the kernel */
	struct pkd_cache *cache __attribute__((aligned(8)));
};

#endif /* _XT_PKD_H */
