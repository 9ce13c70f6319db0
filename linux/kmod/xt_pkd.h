/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The data that iptables and the kernel exchange for the match "pkd".
 *
 * Revision 0 is the layout of ipt_pkd (2007-2014). Revision 1 adds the path of the key file,
 * revision 2 the format of the knocks. Integers are in native byte order; tag and key
 * are padded with zero bytes.
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

/* xt_pkd_mtinfo_v2.format */
#define XT_PKD_CLASSIC 1
#define XT_PKD_FORMAT2 2
/* Bits of xt_pkd_mtinfo_v2.require, as the flags of a knock have them. */
#define XT_PKD_SOURCE 1
#define XT_PKD_DESTINATION 2
/* xt_pkd_mtinfo_v2.request, as a knock has it. */
#define XT_PKD_OPEN 0
#define XT_PKD_CLOSE 1

struct pkd_rule2;

struct xt_pkd_mtinfo_v2 {
	struct xt_pkd_mtinfo rule;
	char key_file[XT_PKD_PATH_LEN];
	__u8 format;
	/* Both are 0 for classic knocks. */
	__u8 require;
	__u8 request;
	/* Must be 0. */
	__u8 reserved[5];

	/* Used internally by the kernel */
	struct pkd_cache *cache __attribute__((aligned(8)));
	struct pkd_rule2 *rule2 __attribute__((aligned(8)));
};

#endif /* _XT_PKD_H */
