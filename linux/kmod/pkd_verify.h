/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The calls between the C shim and the Rust code in rust/src/ffi.rs, which implements all but
 * pkd_cache_lock() and pkd_cache_unlock() and describes them.
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

/* What is known at the start of a network namespace; Rust checks that its own fits. */
struct pkd_baseline {
	u64 opaque[4];
};

/* Behind it lies the Rust memory of one cache, of pkd_replay_size() bytes. */
struct pkd_replay;

/* How the memory of a packet's rule is found and locked; C knows what is in it. */
struct pkd_lookup;

struct pkd_report {
	u64 floor;
	u64 newest;	/* 0: nothing accepted yet */
	u64 wait;	/* seconds until a sender with the same clock is heard */
	u32 entries;
	u32 capacity;
};

void pkd_baseline_init(struct pkd_baseline *start, u64 now);
void pkd_baseline_restore(struct pkd_baseline *start, u64 floor);
void pkd_baseline_drop(struct pkd_baseline *start, const struct pkd_replay *memory);
u64 pkd_baseline_floor(const struct pkd_baseline *start, u32 window);

size_t pkd_replay_size(void);
void pkd_replay_init(struct pkd_replay *memory, const struct pkd_baseline *start);
void pkd_replay_join(struct pkd_replay *memory, const struct pkd_baseline *start,
		     u32 window);
void pkd_replay_restore(struct pkd_replay *memory,
			const struct pkd_baseline *start);
bool pkd_replay_past(const struct pkd_replay *memory, u64 now, u32 window);
void pkd_replay_report(const struct pkd_replay *memory, u64 now,
		       struct pkd_report *report);

int pkd_verify(const struct xt_pkd_mtinfo *rule, struct pkd_lookup *lookup,
	       u64 now, const u8 datagram[PKD_DATAGRAM_LEN]);

/* Called by pkd_verify() around each look at the memory; NULL: there is none. */
struct pkd_replay *pkd_cache_lock(struct pkd_lookup *lookup);
void pkd_cache_unlock(struct pkd_lookup *lookup);

#endif /* _PKD_VERIFY_H */
