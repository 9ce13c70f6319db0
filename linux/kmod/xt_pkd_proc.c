// SPDX-License-Identifier: GPL-2.0-only
/*
 * /proc/net/xt_pkd - counters and replay caches of a network namespace, and its floor
 */
#include <linux/capability.h>
#include <linux/kernel.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/string.h>
#include <linux/timekeeping.h>

#include "xt_pkd_net.h"

static u64 pkd_counter(const struct pkd_net *pn, enum pkd_verdict verdict)
{
	u64 sum = 0;
	int cpu;

	for_each_possible_cpu(cpu) {
		const struct pkd_stats *stats = per_cpu_ptr(pn->stats, cpu);
		unsigned int begin;
		u64 count;

		do {
			begin = u64_stats_fetch_begin(&stats->syncp);
			count = u64_stats_read(&stats->count[verdict]);
		} while (u64_stats_fetch_retry(&stats->syncp, begin));
		sum += count;
	}
	return sum;
}

static void pkd_show_tag(struct seq_file *seq, const u8 tag[XT_PKD_TAG_LEN])
{
	int used, i;

	for (used = XT_PKD_TAG_LEN; used && !tag[used - 1]; used--)
		;
	for (i = 0; i < used && tag[i] > ' ' && tag[i] < 0x7f; i++)
		;
	if (used && i == used && !(used > 1 && tag[0] == '0' && tag[1] == 'x'))
		seq_printf(seq, "%.*s", used, tag);
	else
		seq_printf(seq, "0x%*phN", XT_PKD_TAG_LEN, tag);
}

int pkd_proc_show(struct seq_file *seq, void *v)
{
	struct pkd_net *pn = pkd_pernet(seq_file_single_net(seq));
	u64 now = ktime_get_real_seconds();
	struct pkd_report report;
	struct pkd_cache *cache;
	u64 save = 0;
	int bucket;

	/* The first three lines are those of ipt_pkd. */
	seq_printf(seq, "Packets outside of time window: %llu\n", pkd_counter(pn, PKD_WINDOW));
	seq_printf(seq, "Good packets: %llu\n", pkd_counter(pn, PKD_ACCEPT));
	seq_printf(seq, "Replayed packets: %llu\n", pkd_counter(pn, PKD_REPLAY));
	seq_printf(seq, "Packets of another length: %llu\n", pkd_counter(pn, PKD_LENGTH));
	seq_printf(seq, "Packets with another tag: %llu\n", pkd_counter(pn, PKD_TAG));
	seq_printf(seq, "Packets with a wrong digest: %llu\n", pkd_counter(pn, PKD_DIGEST));

	mutex_lock(&pn->mutex);
	pkd_drop_expired(pn);
	hash_for_each(pn->caches, bucket, cache, node) {
		spin_lock_bh(&cache->lock);
		pkd_replay_report(pkd_replay(cache), now, &report);
		spin_unlock_bh(&cache->lock);
		save = max(save, report.newest);
		seq_puts(seq, "Cache: tag ");
		pkd_show_tag(seq, cache->tag);
		seq_printf(seq, " rules %u window %u knocks %u/%u floor %llu newest %llu wait %llu\n",
			   cache->rules, cache->window, report.entries, report.capacity,
			   report.floor, report.newest, report.wait);
	}
	/* Without a restored floor or a rule, it is unknown what earlier rules accepted. */
	save = max(save, pkd_baseline_floor(&pn->baseline, pn->widest));
	if (pn->floor_known)
		seq_printf(seq, "Floor to save: %llu\n", save);
	mutex_unlock(&pn->mutex);
	return 0;
}

/* "floor SECONDS": no later knock was accepted before this namespace started. */
int pkd_proc_write(struct file *file, char *text, size_t size)
{
	struct net *net = seq_file_single_net(file->private_data);
	struct pkd_net *pn = pkd_pernet(net);
	static const char word[] = "floor ";
	struct pkd_cache *cache;
	int bucket, error;
	u64 floor;

	if (!file_ns_capable(file, net->user_ns, CAP_NET_ADMIN))
		return -EPERM;
	if (strncmp(text, word, strlen(word)))
		return -EINVAL;
	error = kstrtou64(text + strlen(word), 10, &floor);
	if (error)
		return error;

	mutex_lock(&pn->mutex);
	pkd_baseline_restore(&pn->baseline, floor);
	pn->floor_known = true;
	hash_for_each(pn->caches, bucket, cache, node) {
		spin_lock_bh(&cache->lock);
		pkd_replay_restore(pkd_replay(cache), &pn->baseline);
		spin_unlock_bh(&cache->lock);
	}
	mutex_unlock(&pn->mutex);
	return 0;
}
