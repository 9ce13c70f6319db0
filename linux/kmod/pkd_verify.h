/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The calls between the C shim and the Rust code. rust/ implements and documents all but
 * pkd_cache_lock() and pkd_cache_unlock().
 *
 * None of them sleeps or allocates. Windows are seconds to either side. Times are in the unit of
 * the format that they belong to: Unix seconds, or Unix milliseconds for format 2.
 */
#ifndef _PKD_VERIFY_H
#define _PKD_VERIFY_H

#include <linux/types.h>

#include "xt_pkd.h"

#define PKD_DATAGRAM_LEN 64

enum pkd_format {
	PKD_CLASSIC,
	PKD_FORMAT2,
	PKD_FORMATS,
};

enum pkd_verdict {
	PKD_ACCEPT,
	PKD_LENGTH,
	PKD_TAG,
	PKD_WINDOW,
	PKD_REPLAY,
	PKD_DIGEST,
	/* Only of format 2 */
	PKD_FILTER,
	PKD_REQUEST,
	PKD_CLOSE,
	PKD_VERDICTS,
};

/* Rust checks that its types fit into these. */

/* What a network namespace knows about knocks accepted earlier, for each format. */
struct pkd_baselines {
	u64 opaque[8];
};

/* The derived keys of a rule of format 2, and its other terms. */
struct pkd_secrets {
	u64 opaque[24];
};

/* The first bytes that knocks for a rule of format 2 may have around a time. */
struct pkd_hints {
	u64 opaque[8];
};

/* A replay cache in Rust, of pkd_replay_size() bytes. */
struct pkd_replay;

/* Used by C to find and lock the replay cache of a packet's rule. */
struct pkd_lookup;

struct pkd_report {
	u64 floor;
	u64 newest;	/* 0: no knock accepted yet */
	u64 wait;	/* time until a knock from a sender with the same clock is accepted */
	u32 entries;
	u32 capacity;
};

/* The addresses in a packet's IP header, 4 or 16 bytes each. */
struct pkd_addresses {
	const void *source;
	const void *destination;
	bool is_ipv6;
};

void pkd_baselines_init(struct pkd_baselines *baselines, u64 seconds, u64 millis);
void pkd_baselines_restore(struct pkd_baselines *baselines, enum pkd_format format, u64 floor);
void pkd_baselines_drop(struct pkd_baselines *baselines, enum pkd_format format, u64 floor);
u64 pkd_baselines_floor(const struct pkd_baselines *baselines, enum pkd_format format,
			u32 window);

u64 pkd_cache_id(const struct xt_pkd_mtinfo *rule, enum pkd_format format);

size_t pkd_replay_size(void);
void pkd_replay_init(struct pkd_replay *replay, const struct pkd_baselines *baselines,
		     enum pkd_format format);
void pkd_replay_raise(struct pkd_replay *replay, u64 floor);
void pkd_replay_join(struct pkd_replay *replay, const struct pkd_baselines *baselines,
		     u32 window);
void pkd_replay_restore(struct pkd_replay *replay, const struct pkd_baselines *baselines);
bool pkd_replay_past(const struct pkd_replay *replay, u64 now, u32 window);
void pkd_replay_report(const struct pkd_replay *replay, u64 now,
		       struct pkd_report *report);

void pkd_secrets_init(struct pkd_secrets *secrets, const struct xt_pkd_mtinfo *rule, u8 require,
		      bool is_close);
void pkd_hints_init(struct pkd_hints *hints);
bool pkd_hints_refresh(const struct pkd_secrets *secrets, const struct pkd_hints *current_hints,
		       struct pkd_hints *spare, u64 now);

int pkd_verify(const struct xt_pkd_mtinfo *rule, struct pkd_lookup *lookup,
	       u64 now, const u8 datagram[PKD_DATAGRAM_LEN]);
int pkd_noise2(const struct pkd_secrets *secrets, const struct pkd_hints *hints,
	       const u8 datagram[PKD_DATAGRAM_LEN]);
int pkd_verify2(const struct pkd_secrets *secrets, const struct pkd_hints *hints,
		struct pkd_lookup *lookup, u64 now, const u8 datagram[PKD_DATAGRAM_LEN],
		const struct pkd_addresses *addresses);

/* Called by pkd_verify() and pkd_verify2() around each access to the replay cache; NULL if there is none. */
struct pkd_replay *pkd_cache_lock(struct pkd_lookup *lookup);
void pkd_cache_unlock(struct pkd_lookup *lookup);

#endif /* _PKD_VERIFY_H */
