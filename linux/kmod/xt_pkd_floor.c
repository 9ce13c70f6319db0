// SPDX-License-Identifier: GPL-2.0-only
/*
 * The floors of keys: those that root has restored before their first rule, and those of caches
 * that were dropped
 *
 * A key's floor is the latest time that it may have accepted. It only rises, and concerns no other
 * key: who sends the greatest time of all locks out nobody but himself.
 */
#include <linux/kernel.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "xt_pkd_net.h"

/* Above it, the smallest floor becomes one that all keys share. */
#define PKD_MAX_FLOORS 1024

struct pkd_floor *pkd_floor_create(enum pkd_format format, u64 id, u64 time)
{
	struct pkd_floor *floor = kmalloc(sizeof(*floor), GFP_KERNEL_ACCOUNT);

	if (floor) {
		floor->format = format;
		floor->is_others = false;
		floor->id = id;
		floor->time = time;
	}
	return floor;
}

void pkd_floors_free(struct list_head *floors)
{
	struct pkd_floor *floor, *next;

	list_for_each_entry_safe(floor, next, floors, node)
		kfree(floor);
}

u64 pkd_floor_of(const struct pkd_net *pn, enum pkd_format format, u64 id)
{
	const struct pkd_floor *floor;

	lockdep_assert_held(&pn->mutex);

	list_for_each_entry(floor, &pn->floors, node)
		if (floor->format == format && floor->id == id)
			return floor->time;
	return 0;
}

void pkd_floor_keep(struct pkd_net *pn, enum pkd_format format, u64 id, u64 time)
{
	struct pkd_floor *floor, *smallest = NULL;

	lockdep_assert_held(&pn->mutex);

	list_for_each_entry(floor, &pn->floors, node) {
		if (floor->format != format)
			continue;
		if (floor->id == id) {
			floor->time = max(floor->time, time);
			return;
		}
		if (!smallest || floor->time < smallest->time)
			smallest = floor;
	}
	if (smallest && pn->floor_count >= PKD_MAX_FLOORS) {
		pkd_baselines_drop(&pn->baselines, format, smallest->time);
		smallest->id = id;
		smallest->time = time;
		return;
	}
	floor = pkd_floor_create(format, id, time);
	if (!floor) {
		pkd_baselines_drop(&pn->baselines, format, time);
		return;
	}
	list_add(&floor->node, &pn->floors);
	pn->floor_count++;
}
