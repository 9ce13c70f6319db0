// SPDX-License-Identifier: GPL-2.0-only
/*
 * xt_pkd - match UDP datagrams that are valid, fresh knocks
 *
 * The shim between netfilter and the verifier in rust/: it registers the match, finds the bytes of
 * the datagram, manages and locks the replay caches of each network namespace, and reads the clock.
 * All decisions about a datagram are made in Rust.
 *
 * Locking: pkd_net.mutex protects the table of caches, their rule counts and the baseline; it is
 * taken only in process context. The packet path finds caches under RCU and holds pkd_cache.lock
 * for each of its two accesses to a replay cache, but not while it hashes.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/jhash.h>
#include <linux/module.h>
#include <linux/netdevice.h>
#include <linux/netfilter/x_tables.h>
#include <linux/proc_fs.h>
#include <linux/skbuff.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>
#include <net/ip.h>
#include <net/ipv6.h>
#include <net/net_namespace.h>
#include <net/netns/generic.h>

#include "xt_pkd_net.h"

MODULE_AUTHOR("The pkd authors");
MODULE_DESCRIPTION("Xtables: match a knock made with a shared key");
MODULE_LICENSE("GPL");
MODULE_VERSION(PKD_VERSION);
MODULE_ALIAS("ipt_pkd");
MODULE_ALIAS("ip6t_pkd");

/*
 * Most caches without rules in a namespace; above it, the one that lost its rules first is dropped
 * early. Otherwise a namespace's own root could fill memory with them.
 */
#define PKD_MAX_IDLE 64

struct pkd_lookup {
	const struct pkd_net *pn;
	const struct xt_pkd_mtinfo *rule;
	struct pkd_cache *cache;	/* NULL: not looked up yet */
};

static unsigned int pkd_net_id __read_mostly;

struct pkd_net *pkd_pernet(const struct net *net)
{
	return net_generic(net, pkd_net_id);
}

static u32 pkd_hash(const struct xt_pkd_mtinfo *rule)
{
	/* Only root sets keys and tags, so the hash needs no secret seed. */
	return jhash(rule->key, sizeof(rule->key) + sizeof(rule->tag), 0);
}

/* Called under RCU or pn->mutex. */
static struct pkd_cache *pkd_cache_find(const struct pkd_net *pn,
					const struct xt_pkd_mtinfo *rule)
{
	struct pkd_cache *cache;

	hash_for_each_possible_rcu(pn->caches, cache, node, pkd_hash(rule),
				   lockdep_is_held(&pn->mutex))
		if (!memcmp(cache->key, rule->key, sizeof(cache->key)) &&
		    !memcmp(cache->tag, rule->tag, sizeof(cache->tag)))
			return cache;
	return NULL;
}

/* Called by Rust in the packet path, under RCU. Rules of revision 0 do not store a pointer. */
struct pkd_replay *pkd_cache_lock(struct pkd_lookup *lookup)
	__acquires(&lookup->cache->lock)
{
	if (!lookup->cache)
		lookup->cache = pkd_cache_find(lookup->pn, lookup->rule);
	if (WARN_ON_ONCE(!lookup->cache))
		return NULL;
	spin_lock_bh(&lookup->cache->lock);
	return pkd_replay(lookup->cache);
}

void pkd_cache_unlock(struct pkd_lookup *lookup)
	__releases(&lookup->cache->lock)
{
	spin_unlock_bh(&lookup->cache->lock);
}

static void pkd_count(const struct pkd_net *pn, enum pkd_verdict verdict)
{
	struct pkd_stats *stats;

	local_bh_disable();
	stats = this_cpu_ptr(pn->stats);
	u64_stats_update_begin(&stats->syncp);
	u64_stats_inc(&stats->count[verdict]);
	u64_stats_update_end(&stats->syncp);
	local_bh_enable();
}

/* The offset of the UDP header; 0 if the packet is not UDP, -1 if it is a fragment. */
static int pkd_udp_offset(const struct sk_buff *skb, u8 family)
{
	unsigned short fragment_offset = 0;
	unsigned int offset = 0;
	int flags = 0;

	if (family == NFPROTO_IPV4) {
		const struct iphdr *iph = ip_hdr(skb);

		if (iph->protocol != IPPROTO_UDP)
			return 0;
		if (ip_is_fragment(iph))
			return -1;
		return skb_network_offset(skb) + ip_hdrlen(skb);
	}
	/* ip6tables finds the header only for rules with -p. */
	if (ipv6_find_hdr(skb, &offset, -1, &fragment_offset, &flags) != IPPROTO_UDP)
		return 0;
	if (flags & IP6_FH_F_FRAG)
		return -1;
	return offset;
}

/* Called under RCU in softirq, or in process context for locally generated packets. */
static bool pkd_match(const struct sk_buff *skb,
		      const struct xt_action_param *par,
		      const struct xt_pkd_mtinfo *rule, struct pkd_cache *cache)
{
	struct pkd_lookup lookup = {
		.pn = pkd_pernet(xt_net(par)),
		.rule = rule,
		.cache = cache,
	};
	int verdict = PKD_LENGTH;
	u8 buffer[PKD_DATAGRAM_LEN];
	const u8 *datagram = NULL;
	int offset;

	offset = pkd_udp_offset(skb, xt_family(par));
	if (!offset)
		return false;
	if (offset > 0)
		datagram = skb_header_pointer(skb, offset, sizeof(buffer), buffer);
	if (datagram)
		verdict = pkd_verify(rule, &lookup, ktime_get_real_seconds(), datagram);
	pkd_count(lookup.pn, verdict);
	return verdict == PKD_ACCEPT;
}

static bool pkd_mt(const struct sk_buff *skb, struct xt_action_param *par)
{
	return pkd_match(skb, par, par->matchinfo, NULL);
}

static bool pkd_mt_v1(const struct sk_buff *skb, struct xt_action_param *par)
{
	const struct xt_pkd_mtinfo_v1 *info = par->matchinfo;

	return pkd_match(skb, par, &info->rule, info->cache);
}

static void pkd_cache_free(struct rcu_head *rcu)
{
	kfree_sensitive(container_of(rcu, struct pkd_cache, rcu));
}

/* Called with pn->mutex held; the cache must be idle. Knocks that it accepted stay refused. */
static void pkd_cache_drop(struct pkd_net *pn, struct pkd_cache *cache)
{
	lockdep_assert_held(&pn->mutex);

	/* There is no rule left, so nothing modifies the replay cache. */
	pkd_baseline_drop(&pn->baseline, pkd_replay(cache));
	list_del(&cache->idle);
	pn->idle_count--;
	hash_del_rcu(&cache->node);
	call_rcu(&cache->rcu, pkd_cache_free);
}

void pkd_drop_expired(struct pkd_net *pn)
{
	u64 now = ktime_get_real_seconds();
	struct pkd_cache *cache, *next;

	lockdep_assert_held(&pn->mutex);

	list_for_each_entry_safe(cache, next, &pn->idle, idle)
		if (pn->exiting || pn->idle_count > PKD_MAX_IDLE ||
		    pkd_replay_past(pkd_replay(cache), now, cache->window))
			pkd_cache_drop(pn, cache);
}

/* Called with pn->mutex held. */
static struct pkd_cache *pkd_cache_create(struct pkd_net *pn,
					const struct xt_pkd_mtinfo *rule)
{
	struct pkd_cache *cache;

	lockdep_assert_held(&pn->mutex);

	cache = kzalloc(sizeof(*cache) + pkd_replay_size(), GFP_KERNEL_ACCOUNT);
	if (!cache)
		return NULL;
	spin_lock_init(&cache->lock);
	INIT_LIST_HEAD(&cache->idle);
	memcpy(cache->key, rule->key, sizeof(cache->key));
	memcpy(cache->tag, rule->tag, sizeof(cache->tag));
	pkd_replay_init(pkd_replay(cache), &pn->baseline);
	hash_add_rcu(pn->caches, &cache->node, pkd_hash(rule));
	return cache;
}

/* Returns the cache for a new rule, creating it if needed. May sleep. */
static struct pkd_cache *pkd_cache_get(struct pkd_net *pn,
				       const struct xt_pkd_mtinfo *rule)
{
	struct pkd_cache *cache;

	mutex_lock(&pn->mutex);
	cache = pkd_cache_find(pn, rule) ?: pkd_cache_create(pn, rule);
	if (cache) {
		if (!list_empty(&cache->idle)) {
			list_del_init(&cache->idle);
			pn->idle_count--;
		}
		cache->rules++;
		cache->window = max(cache->window, rule->window);
		pn->widest = max(pn->widest, rule->window);
		pn->floor_known = true;
		spin_lock_bh(&cache->lock);
		pkd_replay_join(pkd_replay(cache), &pn->baseline, rule->window);
		spin_unlock_bh(&cache->lock);
	}
	pkd_drop_expired(pn);
	mutex_unlock(&pn->mutex);
	return cache;
}

/* Releases the cache of a removed rule. May sleep. May run after the namespace's pkd_net_exit(). */
static void pkd_cache_put(struct pkd_net *pn, const struct xt_pkd_mtinfo *rule)
{
	struct pkd_cache *cache;

	mutex_lock(&pn->mutex);
	cache = pkd_cache_find(pn, rule);
	if (!WARN_ON_ONCE(!cache) && !--cache->rules) {
		list_add_tail(&cache->idle, &pn->idle);
		pn->idle_count++;
		pkd_drop_expired(pn);
	}
	mutex_unlock(&pn->mutex);
}

static int pkd_mt_check(const struct xt_mtchk_param *par)
{
	return pkd_cache_get(pkd_pernet(par->net), par->matchinfo) ? 0 : -ENOMEM;
}

static int pkd_mt_check_v1(const struct xt_mtchk_param *par)
{
	struct xt_pkd_mtinfo_v1 *info = par->matchinfo;

	/* The path is returned to user space unchanged. */
	if (strnlen(info->key_file, sizeof(info->key_file)) == sizeof(info->key_file))
		return -ENAMETOOLONG;
	info->cache = pkd_cache_get(pkd_pernet(par->net), &info->rule);
	return info->cache ? 0 : -ENOMEM;
}

static void pkd_mt_destroy(const struct xt_mtdtor_param *par)
{
	/* Both revisions start with the rule. */
	pkd_cache_put(pkd_pernet(par->net), par->matchinfo);
}

static struct xt_match pkd_mt_reg[] __read_mostly = {
	{
		.name = "pkd",
		.revision = 0,
		.family = NFPROTO_IPV4,
		.match = pkd_mt,
		.matchsize = sizeof(struct xt_pkd_mtinfo),
		.checkentry = pkd_mt_check,
		.destroy = pkd_mt_destroy,
		.me = THIS_MODULE,
	},
	{
		.name = "pkd",
		.revision = 0,
		.family = NFPROTO_IPV6,
		.match = pkd_mt,
		.matchsize = sizeof(struct xt_pkd_mtinfo),
		.checkentry = pkd_mt_check,
		.destroy = pkd_mt_destroy,
		.me = THIS_MODULE,
	},
	{
		.name = "pkd",
		.revision = 1,
		.family = NFPROTO_IPV4,
		.match = pkd_mt_v1,
		.matchsize = sizeof(struct xt_pkd_mtinfo_v1),
		.usersize = offsetof(struct xt_pkd_mtinfo_v1, cache),
		.checkentry = pkd_mt_check_v1,
		.destroy = pkd_mt_destroy,
		.me = THIS_MODULE,
	},
	{
		.name = "pkd",
		.revision = 1,
		.family = NFPROTO_IPV6,
		.match = pkd_mt_v1,
		.matchsize = sizeof(struct xt_pkd_mtinfo_v1),
		.usersize = offsetof(struct xt_pkd_mtinfo_v1, cache),
		.checkentry = pkd_mt_check_v1,
		.destroy = pkd_mt_destroy,
		.me = THIS_MODULE,
	},
};

static int __net_init pkd_net_init(struct net *net)
{
	struct pkd_net *pn = pkd_pernet(net);

	mutex_init(&pn->mutex);
	hash_init(pn->caches);
	INIT_LIST_HEAD(&pn->idle);
	pkd_baseline_init(&pn->baseline, ktime_get_real_seconds());
	pn->stats = netdev_alloc_pcpu_stats(struct pkd_stats);
	if (!pn->stats)
		return -ENOMEM;
	if (!proc_create_net_single_write("xt_pkd", 0644, net->proc_net, pkd_proc_show,
					  pkd_proc_write, NULL)) {
		free_percpu(pn->stats);
		return -ENOMEM;
	}
	return 0;
}

/*
 * Rules may still exist, because tables may be removed after this runs. The namespace has no more
 * packets, and struct pkd_net stays allocated until the last rule is gone.
 */
static void __net_exit pkd_net_exit(struct net *net)
{
	struct pkd_net *pn = pkd_pernet(net);

	remove_proc_entry("xt_pkd", net->proc_net);
	mutex_lock(&pn->mutex);
	pn->exiting = true;
	pkd_drop_expired(pn);
	mutex_unlock(&pn->mutex);
	free_percpu(pn->stats);
}

static struct pernet_operations pkd_net_ops = {
	.init = pkd_net_init,
	.exit = pkd_net_exit,
	.id = &pkd_net_id,
	.size = sizeof(struct pkd_net),
};

static int __init pkd_mt_init(void)
{
	int error;

	BUILD_BUG_ON(sizeof(struct xt_pkd_mtinfo) != 48);

	error = register_pernet_subsys(&pkd_net_ops);
	if (error)
		return error;
	error = xt_register_matches(pkd_mt_reg, ARRAY_SIZE(pkd_mt_reg));
	if (error)
		unregister_pernet_subsys(&pkd_net_ops);
	return error;
}

static void __exit pkd_mt_exit(void)
{
	xt_unregister_matches(pkd_mt_reg, ARRAY_SIZE(pkd_mt_reg));
	unregister_pernet_subsys(&pkd_net_ops);
	/* Wait for pending calls of pkd_cache_free(), which is in this module. */
	rcu_barrier();
}

module_init(pkd_mt_init);
module_exit(pkd_mt_exit);
