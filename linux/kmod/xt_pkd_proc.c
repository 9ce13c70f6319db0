// SPDX-License-Identifier: GPL-2.0-only
/*
 * /proc/net/xt_pkd - counters and replay caches of a network namespace, and its floor
 */
#include <linux/capability.h>
#include <linux/kernel.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/string.h>

#include "xt_pkd_net.h"

/* Each format has its own words, so that nothing takes milliseconds for seconds. */
static const struct {
	const char *cache;
	const char *save;
	const char *restore;
} pkd_words[PKD_FORMATS] = {
	[PKD_CLASSIC] = {
		.cache = "Cache",
		.save = "Floor to save",
		.restore = "floor ",
	},
	[PKD_FORMAT2] = {
		.cache = "Cache of format 2",
		.save = "Floor of format 2 to save, in ms",
		.restore = "floor2-ms ",
	},
};

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

/* The lines about a format's caches, and its floor. Called with pn->mutex held. */
static void pkd_show_format(struct seq_file *seq, struct pkd_net *pn, enum pkd_format format)
{
	u64 now = pkd_now(format), save = 0;
	struct pkd_report report;
	struct pkd_cache *cache;
	int bucket;

	hash_for_each(pn->caches, bucket, cache, node) {
		if (cache->format != format)
			continue;
		spin_lock_bh(&cache->lock);
		pkd_replay_report(pkd_replay(cache), now, &report);
		spin_unlock_bh(&cache->lock);
		save = max(save, report.newest);
		seq_printf(seq, "%s: tag ", pkd_words[format].cache);
		pkd_show_tag(seq, cache->tag);
		seq_printf(seq, " rules %u window %u knocks %u/%u floor %llu newest %llu wait %llu\n",
			   cache->rules, cache->window, report.entries, report.capacity,
			   report.floor, report.newest, report.wait);
	}
	/* Without a restored floor or a rule, it is unknown what earlier rules accepted. */
	save = max(save, pkd_baselines_floor(&pn->baselines, format, pn->formats[format].widest));
	if (pn->formats[format].floor_known)
		seq_printf(seq, "%s: %llu\n", pkd_words[format].save, save);
}

int pkd_proc_show(struct seq_file *seq, void *v)
{
	struct pkd_net *pn = pkd_pernet(seq_file_single_net(seq));

	/* The first three lines are those of ipt_pkd. */
	seq_printf(seq, "Packets outside of time window: %llu\n", pkd_counter(pn, PKD_WINDOW));
	seq_printf(seq, "Good packets: %llu\n", pkd_counter(pn, PKD_ACCEPT));
	seq_printf(seq, "Replayed packets: %llu\n", pkd_counter(pn, PKD_REPLAY));
	seq_printf(seq, "Packets of another length: %llu\n", pkd_counter(pn, PKD_LENGTH));
	seq_printf(seq, "Packets with another tag: %llu\n", pkd_counter(pn, PKD_TAG));
	seq_printf(seq, "Packets with a wrong digest: %llu\n", pkd_counter(pn, PKD_DIGEST));

	mutex_lock(&pn->mutex);
	pkd_drop_expired(pn);
	pkd_rules2_refresh(pn);
	if (pn->formats[PKD_FORMAT2].floor_known) {
		seq_printf(seq, "Packets with a wrong filter: %llu\n",
			   pkd_counter(pn, PKD_FILTER));
		seq_printf(seq, "Packets with another request: %llu\n",
			   pkd_counter(pn, PKD_REQUEST));
		seq_printf(seq, "Good packets that close: %llu\n", pkd_counter(pn, PKD_CLOSE));
	}
	pkd_show_format(seq, pn, PKD_CLASSIC);
	pkd_show_format(seq, pn, PKD_FORMAT2);
	mutex_unlock(&pn->mutex);
	return 0;
}

/* Reads lines of a word and a floor, at most one for each format; negative if that is not all. */
static int pkd_parse_floors(char *text, u64 floors[PKD_FORMATS], bool given[PKD_FORMATS])
{
	int format, error, count = 0;
	char *line;

	while ((line = strsep(&text, "\n"))) {
		/* After the last line end */
		if (!text && !*line)
			break;
		for (format = 0; format < PKD_FORMATS; format++)
			if (strstarts(line, pkd_words[format].restore))
				break;
		if (format == PKD_FORMATS || given[format])
			return -EINVAL;
		error = kstrtou64(line + strlen(pkd_words[format].restore), 10, &floors[format]);
		if (error)
			return error;
		given[format] = true;
		count++;
	}
	return count ? 0 : -EINVAL;
}

/* No knock of this format that is later was accepted before this namespace started. */
static void pkd_restore(struct pkd_net *pn, enum pkd_format format, u64 floor)
{
	struct pkd_cache *cache;
	int bucket;

	pkd_baselines_restore(&pn->baselines, format, floor);
	pn->formats[format].floor_known = true;
	hash_for_each(pn->caches, bucket, cache, node) {
		if (cache->format != format)
			continue;
		spin_lock_bh(&cache->lock);
		pkd_replay_restore(pkd_replay(cache), &pn->baselines);
		spin_unlock_bh(&cache->lock);
	}
}

int pkd_proc_write(struct file *file, char *text, size_t size)
{
	struct net *net = seq_file_single_net(file->private_data);
	struct pkd_net *pn = pkd_pernet(net);
	bool given[PKD_FORMATS] = { false };
	u64 floors[PKD_FORMATS];
	int format, error;

	if (!file_ns_capable(file, net->user_ns, CAP_NET_ADMIN))
		return -EPERM;
	error = pkd_parse_floors(text, floors, given);
	if (error)
		return error;

	mutex_lock(&pn->mutex);
	for (format = 0; format < PKD_FORMATS; format++)
		if (given[format])
			pkd_restore(pn, format, floors[format]);
	mutex_unlock(&pn->mutex);
	return 0;
}
