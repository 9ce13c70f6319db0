// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a rule of format 2 knows besides its match data: its derived keys, and the hints that knocks
 * may begin with around the present. Each rule has its own, because hints depend on its window.
 *
 * The packet path never computes hints. A work of each namespace looks every two seconds whether
 * they are due: once in 65.536 s, in advance, and when the clock was set. Until then, a packet at a
 * time that they are not for is refused.
 *
 * Locking: pkd_net.mutex protects the list of rules, and lets one refresh at a time. The packet
 * path reads the current one of two sets of hints under RCU. The other is written only when a grace
 * period has passed since it was current.
 */
#include <linux/jiffies.h>
#include <linux/slab.h>

#include "xt_pkd_net.h"

/* Also how long the gateway is closed after the clock was set. */
#define PKD_HINTS_INTERVAL (2 * HZ)

static void pkd_rule2_refresh(struct pkd_rule2 *rule2, u64 now)
{
	unsigned int spare = !rule2->current_hints;

	cond_synchronize_rcu(rule2->grace);
	if (!pkd_hints_refresh(&rule2->secrets, &rule2->hints[!spare], &rule2->hints[spare], now))
		return;
	/* Pairs with smp_load_acquire() in pkd_rule2_hints(): the hints are whole. */
	smp_store_release(&rule2->current_hints, spare);
	rule2->grace = get_state_synchronize_rcu();
}

void pkd_rules2_refresh(struct pkd_net *pn)
{
	u64 now = pkd_now(PKD_FORMAT2);
	struct pkd_rule2 *rule2;

	lockdep_assert_held(&pn->mutex);

	list_for_each_entry(rule2, &pn->rules2, node)
		pkd_rule2_refresh(rule2, now);
}

/* Called with pn->mutex held. Does nothing if the work is waiting already. */
static void pkd_hints_schedule(struct pkd_net *pn)
{
	if (!pn->exiting && !list_empty(&pn->rules2))
		queue_delayed_work(system_power_efficient_wq, &pn->hints_work,
				   round_jiffies_relative(PKD_HINTS_INTERVAL));
}

static void pkd_hints_work(struct work_struct *work)
{
	struct pkd_net *pn = container_of(to_delayed_work(work), struct pkd_net, hints_work);

	mutex_lock(&pn->mutex);
	pkd_rules2_refresh(pn);
	pkd_hints_schedule(pn);
	mutex_unlock(&pn->mutex);
}

struct pkd_rule2 *pkd_rule2_create(struct pkd_net *pn, const struct xt_pkd_mtinfo_v2 *info)
{
	struct pkd_rule2 *rule2;

	rule2 = kzalloc(sizeof(*rule2), GFP_KERNEL_ACCOUNT);
	if (!rule2)
		return NULL;
	pkd_secrets_init(&rule2->secrets, &info->rule, info->require,
			 info->request == XT_PKD_CLOSE);
	pkd_hints_init(&rule2->hints[0]);
	pkd_hints_init(&rule2->hints[1]);
	/* No packet has seen the rule, so there is nothing to wait for. */
	rule2->current_hints = pkd_hints_refresh(&rule2->secrets, &rule2->hints[0],
						 &rule2->hints[1], pkd_now(PKD_FORMAT2));
	rule2->grace = get_state_synchronize_rcu();

	mutex_lock(&pn->mutex);
	list_add(&rule2->node, &pn->rules2);
	pkd_hints_schedule(pn);
	mutex_unlock(&pn->mutex);
	return rule2;
}

void pkd_rule2_destroy(struct pkd_net *pn, struct pkd_rule2 *rule2)
{
	mutex_lock(&pn->mutex);
	list_del(&rule2->node);
	mutex_unlock(&pn->mutex);
	kfree_sensitive(rule2);
}

void pkd_rules2_init(struct pkd_net *pn)
{
	INIT_LIST_HEAD(&pn->rules2);
	INIT_DELAYED_WORK(&pn->hints_work, pkd_hints_work);
}

/* Called after pn->exiting was set under pn->mutex, so nothing starts the work again. */
void pkd_rules2_exit(struct pkd_net *pn)
{
	cancel_delayed_work_sync(&pn->hints_work);
}
