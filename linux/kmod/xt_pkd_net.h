/* SPDX-License-Identifier: GPL-2.0-only */
/* What a network namespace knows: its replay caches, counters and baseline. See xt_pkd_cache.c for the locking. */
#ifndef _XT_PKD_NET_H
#define _XT_PKD_NET_H

#include <linux/hashtable.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/u64_stats_sync.h>
#include <net/net_namespace.h>

#include "pkd_verify.h"

#define PKD_HASH_BITS 6

struct seq_file;

/* The replay cache of all rules with one tag and key in one network namespace. */
struct pkd_cache {
	struct hlist_node node;
	struct list_head idle;		/* in pkd_net.idle while there are no rules */
	struct rcu_head rcu;
	spinlock_t lock;		/* protects replay */
	unsigned int rules;
	u32 window;			/* widest of any rule so far */
	u8 key[XT_PKD_KEY_LEN];
	u8 tag[XT_PKD_TAG_LEN];
	u64 replay[];			/* struct pkd_replay */
};

/* Finds the replay cache of a packet's rule. */
struct pkd_lookup {
	const struct pkd_net *pn;
	const struct xt_pkd_mtinfo *rule;
	struct pkd_cache *cache;	/* NULL: not looked up yet */
};

struct pkd_stats {
	u64_stats_t count[PKD_VERDICTS];
	struct u64_stats_sync syncp;
};

struct pkd_net {
	struct mutex mutex;
	DECLARE_HASHTABLE(caches, PKD_HASH_BITS);
	struct list_head idle;
	unsigned int idle_count;
	bool exiting;
	bool floor_known;		/* there was a rule, or root has set the floor */
	u32 widest;			/* widest window of any rule so far */
	struct pkd_baseline baseline;
	struct pkd_stats __percpu *stats;
};

static inline struct pkd_replay *pkd_replay(struct pkd_cache *cache)
{
	return (struct pkd_replay *)cache->replay;
}

struct pkd_net *pkd_pernet(const struct net *net);

/* Returns the cache for a new rule, creating it if needed; NULL without memory. May sleep. */
struct pkd_cache *pkd_cache_get(struct pkd_net *pn, const struct xt_pkd_mtinfo *rule);

/* Releases the cache of a removed rule. May sleep. May run after the namespace's pkd_net_exit(). */
void pkd_cache_put(struct pkd_net *pn, const struct xt_pkd_mtinfo *rule);

/* Drops idle caches whose knocks have all left their window. Called with pn->mutex held. */
void pkd_drop_expired(struct pkd_net *pn);

/* /proc/net/xt_pkd */
int pkd_proc_show(struct seq_file *seq, void *v);
int pkd_proc_write(struct file *file, char *text, size_t size);

#endif /* _XT_PKD_NET_H */
