/* SPDX-License-Identifier: GPL-2.0-only */
/* What a network namespace knows: its replay caches, counters and baseline. See xt_pkd_cache.c for the locking. */
#ifndef _XT_PKD_NET_H
#define _XT_PKD_NET_H

#include <linux/hashtable.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/siphash.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/u64_stats_sync.h>
#include <linux/workqueue.h>
#include <net/net_namespace.h>

#include "pkd_verify.h"

/* Eight keys per bucket with the default of max_keys. */
#define PKD_HASH_BITS 8

/* Most that a cache takes besides its struct pkd_replay, which rust/ keeps within the rest of 4 KiB. */
#define PKD_CACHE_HEAD 192

struct seq_file;

/* The replay cache of all rules with one format, tag and key in one network namespace. */
struct pkd_cache {
	struct hlist_node node;
	struct list_head idle;		/* in pkd_net.idle while there are no rules */
	struct rcu_head rcu;
	spinlock_t lock;		/* protects replay */
	unsigned int rules;
	enum pkd_format format;
	u32 window;			/* widest of any rule so far */
	u64 id;				/* names the cache for people and floors, without its key */
	u8 key[XT_PKD_KEY_LEN];
	u8 tag[XT_PKD_TAG_LEN];
	u64 replay[];			/* struct pkd_replay */
};

/* The floor of a key, see xt_pkd_floor.c. A cache of the key knows it, too, and may have a later one. */
struct pkd_floor {
	struct list_head node;		/* in pkd_net.floors */
	enum pkd_format format;
	bool is_others;			/* while it is read: that of all keys without a line */
	u64 id;
	u64 time;
};

/* Finds the replay cache of a packet's rule. */
struct pkd_lookup {
	const struct pkd_net *pn;
	const struct xt_pkd_mtinfo *rule;
	struct pkd_cache *cache;	/* NULL: not looked up yet, of a classic rule */
};

/* What a rule of format 2 knows besides its match data, see xt_pkd_rule2.c. */
struct pkd_rule2 {
	struct list_head node;		/* in pkd_net.rules2 */
	unsigned int current_hints;	/* index in hints */
	unsigned long grace;		/* RCU state when current_hints changed */
	struct pkd_hints hints[2];
	struct pkd_secrets secrets;
};

struct pkd_stats {
	u64_stats_t count[PKD_VERDICTS];
	struct u64_stats_sync syncp;
};

struct pkd_net {
	struct mutex mutex;		/* see xt_pkd_cache.c */
	DECLARE_HASHTABLE(caches, PKD_HASH_BITS);
	siphash_key_t hash_key;
	unsigned int keys;		/* caches that have rules */
	struct list_head idle;
	unsigned int idle_count;
	struct list_head floors;
	unsigned int floor_count;
	bool exiting;
	struct {
		bool floor_known;	/* there was a rule, or root has set the floor */
		u32 widest;		/* widest window of any rule so far */
	} formats[PKD_FORMATS];
	struct pkd_baselines baselines;
	struct list_head rules2;
	struct delayed_work hints_work;
	struct pkd_stats __percpu *stats;
};

static inline struct pkd_replay *pkd_replay(struct pkd_cache *cache)
{
	return (struct pkd_replay *)cache->replay;
}

void pkd_caches_init(struct pkd_net *pn);

/* The clock as of the last tick, in the unit of the format's times. */
u64 pkd_now(enum pkd_format format);

struct pkd_net *pkd_pernet(const struct net *net);

/* Returns the cache for a new rule, creating it if needed; -ENOMEM, or -EUSERS above max_keys. May sleep. */
struct pkd_cache *pkd_cache_get(struct pkd_net *pn, const struct xt_pkd_mtinfo *rule,
				enum pkd_format format);

/* Releases the cache of a removed rule. May sleep. May run after the namespace's pkd_net_exit(). */
void pkd_cache_put(struct pkd_net *pn, const struct xt_pkd_mtinfo *rule,
		   enum pkd_format format);

/* Derives the keys and hints of a new rule of format 2; NULL without memory. May sleep. */
struct pkd_rule2 *pkd_rule2_create(struct pkd_net *pn, const struct xt_pkd_mtinfo_v2 *info);

/* Wipes them. The packet path must have left the rule. May sleep. */
void pkd_rule2_destroy(struct pkd_net *pn, struct pkd_rule2 *rule2);

/* Brings the hints of all rules up to date. May sleep. Called with pn->mutex held. */
void pkd_rules2_refresh(struct pkd_net *pn);

/* Starts and ends the work that does so. */
void pkd_rules2_init(struct pkd_net *pn);
void pkd_rules2_exit(struct pkd_net *pn);

/* The hints for a packet. Called under RCU, which they stay for. */
static inline const struct pkd_hints *pkd_rule2_hints(const struct pkd_rule2 *rule2)
{
	/* Pairs with smp_store_release() in pkd_rule2_refresh(). */
	return &rule2->hints[smp_load_acquire(&rule2->current_hints)];
}

/* Drops idle caches whose knocks have all left their window. Called with pn->mutex held. */
void pkd_drop_expired(struct pkd_net *pn);

/* Returns NULL without memory. May sleep. */
struct pkd_floor *pkd_floor_create(enum pkd_format format, u64 id, u64 time);

/*
 * Keeps a key's floor, or raises the one that is kept. Without memory for it, the floor of all keys
 * is raised. May sleep. Called with pn->mutex held.
 */
void pkd_floor_keep(struct pkd_net *pn, enum pkd_format format, u64 id, u64 time);

/* Returns the floor that is kept for a key, or 0. Called with pn->mutex held. */
u64 pkd_floor_of(const struct pkd_net *pn, enum pkd_format format, u64 id);

void pkd_floors_free(struct list_head *floors);

/* /proc/net/xt_pkd */
int pkd_proc_show(struct seq_file *seq, void *v);
int pkd_proc_write(struct file *file, char *text, size_t size);

#endif /* _XT_PKD_NET_H */
