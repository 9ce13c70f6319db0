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

/* Digits of a key's number */
#define PKD_ID_DIGITS 16

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

/* What the verdicts are called. The first three lines are those of ipt_pkd. */
static const struct {
	const char *words;
	enum pkd_verdict verdict;
} pkd_lines[] = {
	{ "Packets outside of time window", PKD_WINDOW },
	{ "Good packets", PKD_ACCEPT },
	{ "Replayed packets", PKD_REPLAY },
	{ "Packets of another length", PKD_LENGTH },
	{ "Packets with another tag", PKD_TAG },
	{ "Packets with a wrong digest", PKD_DIGEST },
	{ "Packets with a wrong filter", PKD_FILTER },
	{ "Packets with another request", PKD_REQUEST },
	{ "Good packets that close", PKD_CLOSE },
};

/* The others are shown once there was a rule of format 2. */
#define PKD_CLASSIC_LINES 6

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

static void pkd_show_counters(struct seq_file *seq, const struct pkd_net *pn, int line, int end)
{
	for (; line < end; line++)
		seq_printf(seq, "%s: %llu\n", pkd_lines[line].words,
			   pkd_counter(pn, pkd_lines[line].verdict));
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

static bool pkd_is_root(const struct file *file)
{
	const struct net *net = seq_file_single_net(file->private_data);

	return file_ns_capable(file, net->user_ns, CAP_NET_ADMIN);
}

/*
 * A line to write back, unless the floor of all keys is enough. IDs are for root only: they tell
 * whether a guessed key is right, as a captured knock does.
 */
static u64 pkd_show_floor(struct seq_file *seq, enum pkd_format format, u64 id, u64 time,
			  u64 others)
{
	if (time > others && pkd_is_root(seq->file))
		seq_printf(seq, "Save: %s%016llx %llu\n", pkd_words[format].restore, id, time);
	return max(time, others);
}

/* The lines about a format's caches, and its floors. Called with pn->mutex held. */
static void pkd_show_format(struct seq_file *seq, struct pkd_net *pn, enum pkd_format format)
{
	/* Without a restored floor or a rule, it is unknown what earlier rules accepted. */
	u64 others = pkd_baselines_floor(&pn->baselines, format, pn->formats[format].widest);
	u64 now = pkd_now(format), greatest = others;
	struct pkd_report report;
	struct pkd_floor *floor;
	struct pkd_cache *cache;
	int bucket;

	hash_for_each(pn->caches, bucket, cache, node) {
		if (cache->format != format)
			continue;
		spin_lock_bh(&cache->lock);
		pkd_replay_report(pkd_replay(cache), now, &report);
		spin_unlock_bh(&cache->lock);
		seq_printf(seq, "%s: tag ", pkd_words[format].cache);
		pkd_show_tag(seq, cache->tag);
		seq_printf(seq, " rules %u window %u knocks %u/%u floor %llu newest %llu wait %llu\n",
			   cache->rules, cache->window, report.entries, report.capacity,
			   report.floor, report.newest, report.wait);
		greatest = max(greatest, pkd_show_floor(seq, format, cache->id,
							max(report.floor, report.newest), others));
	}
	list_for_each_entry(floor, &pn->floors, node)
		if (floor->format == format)
			greatest = max(greatest, pkd_show_floor(seq, format, floor->id,
								floor->time, others));
	if (pn->formats[format].floor_known)
		seq_printf(seq, "Save: %s%llu\n%s: %llu\n", pkd_words[format].restore,
			   pkd_is_root(seq->file) ? others : greatest,
			   pkd_words[format].save, greatest);
}

int pkd_proc_show(struct seq_file *seq, void *v)
{
	struct pkd_net *pn = pkd_pernet(seq_file_single_net(seq));

	pkd_show_counters(seq, pn, 0, PKD_CLASSIC_LINES);
	mutex_lock(&pn->mutex);
	pkd_drop_expired(pn);
	pkd_rules2_refresh(pn);
	if (pn->formats[PKD_FORMAT2].floor_known)
		pkd_show_counters(seq, pn, PKD_CLASSIC_LINES, ARRAY_SIZE(pkd_lines));
	pkd_show_format(seq, pn, PKD_CLASSIC);
	pkd_show_format(seq, pn, PKD_FORMAT2);
	mutex_unlock(&pn->mutex);
	return 0;
}

/* Reads "WORD FLOOR", of all keys of a format, or "WORD ID FLOOR", of one. */
static int pkd_parse_floor(char *line, struct list_head *floors)
{
	bool is_others = false;
	struct pkd_floor *floor;
	int format, error = 0;
	u64 id = 0, time;
	char *word;

	for (format = 0; format < PKD_FORMATS; format++)
		if (strstarts(line, pkd_words[format].restore))
			break;
	if (format == PKD_FORMATS)
		return -EINVAL;
	line += strlen(pkd_words[format].restore);
	word = strsep(&line, " ");
	if (line) {
		error = strlen(word) == PKD_ID_DIGITS ? kstrtou64(word, 16, &id) : -EINVAL;
		word = line;
	} else {
		is_others = true;
	}
	if (!error)
		error = kstrtou64(word, 10, &time);
	if (error)
		return error;
	floor = pkd_floor_create(format, id, time);
	if (!floor)
		return -ENOMEM;
	floor->is_others = is_others;
	list_add_tail(&floor->node, floors);
	return 0;
}

static int pkd_parse_floors(char *text, struct list_head *floors)
{
	int error;

	do
		error = pkd_parse_floor(strsep(&text, "\n"), floors);
	while (!error && text && *text); /* There may be nothing after the last line end. */
	return error;
}

/* No later knock of this key, or of any key of this format, was accepted before this namespace started. */
static void pkd_restore(struct pkd_net *pn, const struct pkd_floor *floor)
{
	bool is_done = floor->is_others;
	struct pkd_cache *cache;
	int bucket;

	if (floor->is_others) {
		pkd_baselines_restore(&pn->baselines, floor->format, floor->time);
		pn->formats[floor->format].floor_known = true;
	}
	hash_for_each(pn->caches, bucket, cache, node) {
		if (cache->format != floor->format)
			continue;
		if (!floor->is_others && cache->id != floor->id)
			continue;
		spin_lock_bh(&cache->lock);
		if (floor->is_others)
			pkd_replay_restore(pkd_replay(cache), &pn->baselines);
		else
			pkd_replay_raise(pkd_replay(cache), floor->time);
		spin_unlock_bh(&cache->lock);
		is_done = true;
	}
	if (!is_done)
		pkd_floor_keep(pn, floor->format, floor->id, floor->time);
}

int pkd_proc_write(struct file *file, char *text, size_t size)
{
	struct pkd_net *pn = pkd_pernet(seq_file_single_net(file->private_data));
	struct pkd_floor *floor;
	LIST_HEAD(floors);
	int error;

	if (!pkd_is_root(file))
		return -EPERM;
	error = pkd_parse_floors(text, &floors);
	if (!error) {
		mutex_lock(&pn->mutex);
		list_for_each_entry(floor, &floors, node)
			pkd_restore(pn, floor);
		mutex_unlock(&pn->mutex);
	}
	pkd_floors_free(&floors);
	return error;
}
