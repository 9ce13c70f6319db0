// SPDX-License-Identifier: GPL-2.0-only
/*
 * The replay caches of a network namespace: one for all rules with one format, tag and key
 *
 * Locking: pkd_net.mutex protects the table of caches, their rule counts and the baseline; it is
 * taken only in process context. The packet path finds caches under RCU and holds pkd_cache.lock
 * for each of its two accesses to a replay cache, but not while it hashes.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/err.h>
#include <linux/moduleparam.h>
#include <linux/random.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/timekeeping.h>

#include "xt_pkd_net.h"

/*
 * Most caches without rules in a namespace; above it, the one that lost its rules first is dropped
 * early. Otherwise a namespace's own root could fill memory with them.
 */
#define PKD_MAX_IDLE 64

/*
 * Maximum number of keys in use per namespace. Unprivileged users can be root of a namespace, and a
 * packet traverses all of its rules with bottom halves off, so the hash chains must stay short.
 */
static unsigned int pkd_max_keys __read_mostly = 8 << PKD_HASH_BITS;
module_param_named(max_keys, pkd_max_keys, uint, 0444);
MODULE_PARM_DESC(max_keys, "maximum number of keys in use per network namespace");

/* Keyed, so that a user who sets the keys of rules cannot make them collide. */
static u32 pkd_hash(const struct pkd_net *pn, const struct xt_pkd_mtinfo *rule)
{
	return siphash(rule->key, sizeof(rule->key) + sizeof(rule->tag), &pn->hash_key);
}

void pkd_caches_init(struct pkd_net *pn)
{
	hash_init(pn->caches);
	INIT_LIST_HEAD(&pn->idle);
	INIT_LIST_HEAD(&pn->floors);
	get_random_bytes(&pn->hash_key, sizeof(pn->hash_key));
}

/* Called under RCU or pn->mutex. */
static struct pkd_cache *pkd_cache_find(const struct pkd_net *pn,
					const struct xt_pkd_mtinfo *rule, enum pkd_format format)
{
	struct pkd_cache *cache;

	hash_for_each_possible_rcu(pn->caches, cache, node, pkd_hash(pn, rule),
				   lockdep_is_held(&pn->mutex))
		if (cache->format == format &&
		    !memcmp(cache->key, rule->key, sizeof(cache->key)) &&
		    !memcmp(cache->tag, rule->tag, sizeof(cache->tag)))
			return cache;
	return NULL;
}

/* Called by Rust in the packet path, under RCU. Rules of revision 0 do not store a pointer. */
struct pkd_replay *pkd_cache_lock(struct pkd_lookup *lookup)
	__acquires(&lookup->cache->lock)
{
	if (!lookup->cache)
		lookup->cache = pkd_cache_find(lookup->pn, lookup->rule, PKD_CLASSIC);
	if (WARN_ON_ONCE(!lookup->cache)) {
		/* Keeps sparse's lock count balanced: the caller does not unlock NULL. */
		__acquire(&lookup->cache->lock);
		return NULL;
	}
	spin_lock_bh(&lookup->cache->lock);
	return pkd_replay(lookup->cache);
}

void pkd_cache_unlock(struct pkd_lookup *lookup)
	__releases(&lookup->cache->lock)
{
	spin_unlock_bh(&lookup->cache->lock);
}

static void pkd_cache_free(struct rcu_head *rcu)
{
	kfree_sensitive(container_of(rcu, struct pkd_cache, rcu));
}

/* Called with pn->mutex held; the cache must be idle. Knocks that it accepted stay refused. */
static void pkd_cache_drop(struct pkd_net *pn, struct pkd_cache *cache)
{
	struct pkd_report report;

	lockdep_assert_held(&pn->mutex);

	if (!pn->exiting) {
		/* There is no rule left, so nothing modifies the replay cache. */
		pkd_replay_report(pkd_replay(cache), 0, &report);
		pkd_floor_keep(pn, cache->format, cache->id, max(report.floor, report.newest));
	}
	list_del(&cache->idle);
	pn->idle_count--;
	hash_del_rcu(&cache->node);
	call_rcu(&cache->rcu, pkd_cache_free);
}

void pkd_drop_expired(struct pkd_net *pn)
{
	struct pkd_cache *cache, *next;

	lockdep_assert_held(&pn->mutex);

	list_for_each_entry_safe(cache, next, &pn->idle, idle)
		if (pn->exiting || pn->idle_count > PKD_MAX_IDLE ||
		    pkd_replay_past(pkd_replay(cache), pkd_now(cache->format), cache->window))
			pkd_cache_drop(pn, cache);
}

/* Called with pn->mutex held. */
static struct pkd_cache *pkd_cache_create(struct pkd_net *pn,
					  const struct xt_pkd_mtinfo *rule,
					  enum pkd_format format)
{
	struct pkd_cache *cache;

	/* A kernel that watches its locks has larger ones, and memory for them. */
	BUILD_BUG_ON(!IS_ENABLED(CONFIG_DEBUG_SPINLOCK) && sizeof(*cache) > PKD_CACHE_HEAD);
	lockdep_assert_held(&pn->mutex);

	cache = kzalloc(sizeof(*cache) + pkd_replay_size(), GFP_KERNEL_ACCOUNT);
	if (!cache)
		return ERR_PTR(-ENOMEM);
	spin_lock_init(&cache->lock);
	INIT_LIST_HEAD(&cache->idle);
	cache->format = format;
	cache->id = pkd_cache_id(rule, format);
	memcpy(cache->key, rule->key, sizeof(cache->key));
	memcpy(cache->tag, rule->tag, sizeof(cache->tag));
	pkd_replay_init(pkd_replay(cache), &pn->baselines, format);
	pkd_replay_raise(pkd_replay(cache), pkd_floor_of(pn, format, cache->id));
	hash_add_rcu(pn->caches, &cache->node, pkd_hash(pn, rule));
	return cache;
}

struct pkd_cache *pkd_cache_get(struct pkd_net *pn, const struct xt_pkd_mtinfo *rule,
				enum pkd_format format)
{
	struct pkd_cache *cache;

	mutex_lock(&pn->mutex);
	cache = pkd_cache_find(pn, rule, format);
	if (pn->keys >= pkd_max_keys && (!cache || !cache->rules)) {
		pr_info_ratelimited("rule refused: %u keys are in use, see the parameter max_keys\n",
				    pn->keys);
		cache = ERR_PTR(-EUSERS);
	} else if (!cache) {
		cache = pkd_cache_create(pn, rule, format);
	}
	if (!IS_ERR(cache)) {
		if (!list_empty(&cache->idle)) {
			list_del_init(&cache->idle);
			pn->idle_count--;
		}
		if (!cache->rules++)
			pn->keys++;
		cache->window = max(cache->window, rule->window);
		pn->formats[format].widest = max(pn->formats[format].widest, rule->window);
		pn->formats[format].floor_known = true;
		spin_lock_bh(&cache->lock);
		pkd_replay_join(pkd_replay(cache), &pn->baselines, rule->window);
		spin_unlock_bh(&cache->lock);
	}
	pkd_drop_expired(pn);
	mutex_unlock(&pn->mutex);
	return cache;
}

void pkd_cache_put(struct pkd_net *pn, const struct xt_pkd_mtinfo *rule,
		   enum pkd_format format)
{
	struct pkd_cache *cache;

	mutex_lock(&pn->mutex);
	cache = pkd_cache_find(pn, rule, format);
	if (!WARN_ON_ONCE(!cache) && !--cache->rules) {
		pn->keys--;
		list_add_tail(&cache->idle, &pn->idle);
		pn->idle_count++;
		pkd_drop_expired(pn);
	}
	mutex_unlock(&pn->mutex);
}
