// SPDX-License-Identifier: GPL-2.0-only
/*
 * xt_pkd - match UDP datagrams that are valid, fresh knocks
 *
 * The shim between netfilter and the verifier in rust/: it registers the match, finds the bytes of
 * the datagram, and reads the clock. All decisions about a datagram are made in Rust.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/module.h>
#include <linux/netdevice.h>
#include <linux/netfilter/x_tables.h>
#include <linux/proc_fs.h>
#include <linux/skbuff.h>
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

static unsigned int pkd_net_id __read_mostly;

struct pkd_net *pkd_pernet(const struct net *net)
{
	return net_generic(net, pkd_net_id);
}

static noinline u64 pkd_now_ms(void)
{
	struct timespec64 now;

	ktime_get_coarse_real_ts64(&now);
	/* tv_nsec is a long, so this is no division of 64 bits on 32-bit machines. */
	return (u64)now.tv_sec * MSEC_PER_SEC + now.tv_nsec / NSEC_PER_MSEC;
}

u64 pkd_now(enum pkd_format format)
{
	return format == PKD_CLASSIC ? ktime_get_real_seconds() : pkd_now_ms();
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

/* Inlined, because a second frame would take stack that SHA-256 needs. */
static __always_inline int pkd_verify_format2(const struct sk_buff *skb, u8 family,
					      const struct pkd_rule2 *rule2,
					      struct pkd_lookup *lookup, const u8 *datagram)
{
	struct pkd_addresses addresses = { .is_ipv6 = family != NFPROTO_IPV4 };
	const struct pkd_hints *hints = pkd_rule2_hints(rule2);
	int noise = pkd_noise2(&rule2->secrets, hints, datagram);

	if (noise)
		return noise;
	if (addresses.is_ipv6) {
		addresses.source = &ipv6_hdr(skb)->saddr;
		addresses.destination = &ipv6_hdr(skb)->daddr;
	} else {
		addresses.source = &ip_hdr(skb)->saddr;
		addresses.destination = &ip_hdr(skb)->daddr;
	}
	return pkd_verify2(&rule2->secrets, hints, lookup, pkd_now_ms(), datagram,
			   &addresses);
}

/*
 * The verdict, or -1 if the packet is not UDP. rule2 is NULL for classic knocks. Called under RCU
 * in softirq, or in process context for locally generated packets.
 */
static int pkd_match(const struct sk_buff *skb, const struct xt_action_param *par,
		     const struct xt_pkd_mtinfo *rule, struct pkd_cache *cache,
		     const struct pkd_rule2 *rule2)
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
		return -1;
	if (offset > 0)
		datagram = skb_header_pointer(skb, offset, sizeof(buffer), buffer);
	if (datagram && rule2)
		verdict = pkd_verify_format2(skb, xt_family(par), rule2, &lookup, datagram);
	else if (datagram)
		verdict = pkd_verify(rule, &lookup, ktime_get_real_seconds(), datagram);
	pkd_count(lookup.pn, verdict);
	return verdict;
}

static bool pkd_mt(const struct sk_buff *skb, struct xt_action_param *par)
{
	return pkd_match(skb, par, par->matchinfo, NULL, NULL) == PKD_ACCEPT;
}

static bool pkd_mt_v1(const struct sk_buff *skb, struct xt_action_param *par)
{
	const struct xt_pkd_mtinfo_v1 *info = par->matchinfo;

	return pkd_match(skb, par, &info->rule, info->cache, NULL) == PKD_ACCEPT;
}

static bool pkd_mt_v2(const struct sk_buff *skb, struct xt_action_param *par)
{
	const struct xt_pkd_mtinfo_v2 *info = par->matchinfo;
	int verdict = pkd_match(skb, par, &info->rule, info->cache, info->rule2);

	return verdict == (info->request == XT_PKD_CLOSE ? PKD_CLOSE : PKD_ACCEPT);
}

static int __cold pkd_mt_check(const struct xt_mtchk_param *par)
{
	return PTR_ERR_OR_ZERO(pkd_cache_get(pkd_pernet(par->net), par->matchinfo, PKD_CLASSIC));
}

static int __cold pkd_mt_check_v1(const struct xt_mtchk_param *par)
{
	struct xt_pkd_mtinfo_v1 *info = par->matchinfo;

	/* The path is returned to user space unchanged. */
	if (strnlen(info->key_file, sizeof(info->key_file)) == sizeof(info->key_file))
		return -ENAMETOOLONG;
	info->cache = pkd_cache_get(pkd_pernet(par->net), &info->rule, PKD_CLASSIC);
	return PTR_ERR_OR_ZERO(info->cache);
}

static enum pkd_format pkd_format(const struct xt_pkd_mtinfo_v2 *info)
{
	return info->format == XT_PKD_FORMAT2 ? PKD_FORMAT2 : PKD_CLASSIC;
}

/* What a later version may give a meaning is refused, because here it would have none. */
static bool pkd_mt_is_known(const struct xt_pkd_mtinfo_v2 *info)
{
	if (memchr_inv(info->reserved, 0, sizeof(info->reserved)))
		return false;
	if (info->format == XT_PKD_CLASSIC)
		return !info->require && !info->request;
	return info->format == XT_PKD_FORMAT2 &&
	       !(info->require & ~(XT_PKD_SOURCE | XT_PKD_DESTINATION)) &&
	       info->request <= XT_PKD_CLOSE;
}

static int __cold pkd_mt_check_v2(const struct xt_mtchk_param *par)
{
	struct pkd_net *pn = pkd_pernet(par->net);
	struct xt_pkd_mtinfo_v2 *info = par->matchinfo;

	if (strnlen(info->key_file, sizeof(info->key_file)) == sizeof(info->key_file))
		return -ENAMETOOLONG;
	if (!pkd_mt_is_known(info))
		return -EINVAL;
	info->rule2 = NULL;
	if (info->format == XT_PKD_FORMAT2) {
		info->rule2 = pkd_rule2_create(pn, info);
		if (!info->rule2)
			return -ENOMEM;
	}
	info->cache = pkd_cache_get(pn, &info->rule, pkd_format(info));
	if (IS_ERR(info->cache) && info->rule2)
		pkd_rule2_destroy(pn, info->rule2);
	return PTR_ERR_OR_ZERO(info->cache);
}

/* xtables frees its tables as they are, so the key is wiped here. */
static void pkd_rule_end(struct pkd_net *pn, struct xt_pkd_mtinfo *rule, enum pkd_format format)
{
	pkd_cache_put(pn, rule, format);
	memzero_explicit(rule->key, sizeof(rule->key));
}

static void __cold pkd_mt_destroy(const struct xt_mtdtor_param *par)
{
	/* Both revisions start with the rule. */
	pkd_rule_end(pkd_pernet(par->net), par->matchinfo, PKD_CLASSIC);
}

static void __cold pkd_mt_destroy_v2(const struct xt_mtdtor_param *par)
{
	struct xt_pkd_mtinfo_v2 *info = par->matchinfo;

	if (info->rule2)
		pkd_rule2_destroy(pkd_pernet(par->net), info->rule2);
	pkd_rule_end(pkd_pernet(par->net), &info->rule, pkd_format(info));
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
	{
		.name = "pkd",
		.revision = 2,
		.family = NFPROTO_IPV4,
		.match = pkd_mt_v2,
		.matchsize = sizeof(struct xt_pkd_mtinfo_v2),
		.usersize = offsetof(struct xt_pkd_mtinfo_v2, cache),
		.checkentry = pkd_mt_check_v2,
		.destroy = pkd_mt_destroy_v2,
		.me = THIS_MODULE,
	},
	{
		.name = "pkd",
		.revision = 2,
		.family = NFPROTO_IPV6,
		.match = pkd_mt_v2,
		.matchsize = sizeof(struct xt_pkd_mtinfo_v2),
		.usersize = offsetof(struct xt_pkd_mtinfo_v2, cache),
		.checkentry = pkd_mt_check_v2,
		.destroy = pkd_mt_destroy_v2,
		.me = THIS_MODULE,
	},
};

static int __cold __net_init pkd_net_init(struct net *net)
{
	struct pkd_net *pn = pkd_pernet(net);

	mutex_init(&pn->mutex);
	pkd_caches_init(pn);
	pkd_rules2_init(pn);
	pkd_baselines_init(&pn->baselines, pkd_now(PKD_CLASSIC), pkd_now(PKD_FORMAT2));
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
static void __cold __net_exit pkd_net_exit(struct net *net)
{
	struct pkd_net *pn = pkd_pernet(net);

	remove_proc_entry("xt_pkd", net->proc_net);
	mutex_lock(&pn->mutex);
	pn->exiting = true;
	pkd_drop_expired(pn);
	mutex_unlock(&pn->mutex);
	pkd_rules2_exit(pn);
	pkd_floors_free(&pn->floors);
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
	/* The same for a kernel of 64 bits and an iptables of 32. */
	BUILD_BUG_ON(sizeof(struct xt_pkd_mtinfo_v2) != 328);

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
