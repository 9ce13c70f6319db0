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
