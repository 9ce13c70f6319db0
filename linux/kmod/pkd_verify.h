/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The calls between the C shim and the Rust code. rust/src/ffi.rs implements and documents all but
 * pkd_cache_lock() and pkd_cache_unlock().
 *
 * None of them sleeps or allocates. Times are Unix seconds, windows are seconds to either side.
 */
#ifndef _PKD_VERIFY_H
#define _PKD_VERIFY_H

#include <linux/types.h>

#include "xt_pkd.h"

#define PKD_DATAGRAM_LEN 64

enum pkd_verdict {
	PKD_ACCEPT,
	PKD_LENGTH,
	PKD_TAG,
	PKD_WINDOW,
	PKD_REPLAY,
	PKD_DIGEST,
	PKD_VERDICTS,
};

/* What a network namespace knows about knocks accepted earlier; Rust checks that its type fits. */
struct pkd_baseline {
	u64 opaque[4];
};

/* A replay cache in Rust, of pkd_replay_size() bytes. */
struct pkd_replay;

/* Used by C to find and lock the replay cache of a packet's rule. */
struct pkd_lookup;

struct pkd_report {
	u64 floor;
	u64 newest;	/* 0: no knock accepted yet */
	u64 wait;	/* seconds until a knock from a sender with the same clock is accepted */
	u32 entries;
	u32 capacity;
};

void pkd_baseline_init(struct pkd_baseline *baseline, u64 now);
void pkd_baseline_restore(struct pkd_baseline *baseline, u64 floor);
void pkd_baseline_drop(struct pkd_baseline *baseline,
		       const struct pkd_replay *replay);
u64 pkd_baseline_floor(const struct pkd_baseline *baseline, u32 window);

size_t pkd_replay_size(void);
void pkd_replay_init(struct pkd_replay *replay, const struct pkd_baseline *baseline);
void pkd_replay_join(struct pkd_replay *replay, const struct pkd_baseline *baseline,
		     u32 window);
void pkd_replay_restore(struct pkd_replay *replay,
			const struct pkd_baseline *baseline);
bool pkd_replay_past(const struct pkd_replay *replay, u64 now, u32 window);
void pkd_replay_report(const struct pkd_replay *replay, u64 now,
		       struct pkd_report *report);

int pkd_verify(const struct xt_pkd_mtinfo *rule, struct pkd_lookup *lookup,
	       u64 now, const u8 datagram[PKD_DATAGRAM_LEN]);

/* Called by pkd_verify() around each access to the replay cache; NULL if there is none. */
struct pkd_replay *pkd_cache_lock(struct pkd_lookup *lookup);
void pkd_cache_unlock(struct pkd_lookup *lookup);

#endif /* _PKD_VERIFY_H */
