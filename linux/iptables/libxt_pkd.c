// SPDX-License-Identifier: GPL-2.0-only
/*
 * The iptables extension for the match "pkd": the options after "-m pkd".
 *
 * Every error is one line that names the invalid part. No message, listing or warning contains a
 * key. Only iptables-save and "iptables -S" print keys, because their output must restore rules.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <xtables.h>

#include "pkd_arguments.h"
#include "pkd_text.h"
#include "xt_pkd.h"

enum {
	O_KEY,
	O_KEY_FILE,
	O_TAG,
	O_WINDOW,
	O_FORMAT,
	O_REQUIRE,
	O_REQUEST,
};

/* For all revisions, so that the older ones can explain what they lack. */
static const struct xt_option_entry pkd_mt_opts[] = {
	{ .name = "key", .id = O_KEY, .type = XTTYPE_STRING },
	{ .name = "key-file", .id = O_KEY_FILE, .type = XTTYPE_STRING },
	{ .name = "tag", .id = O_TAG, .type = XTTYPE_STRING },
	{ .name = "window", .id = O_WINDOW, .type = XTTYPE_STRING },
	{ .name = "format", .id = O_FORMAT, .type = XTTYPE_STRING },
	{ .name = "require", .id = O_REQUIRE, .type = XTTYPE_STRING },
	{ .name = "request", .id = O_REQUEST, .type = XTTYPE_STRING },
	XTOPT_TABLEEND,
};

static void pkd_mt_help(void)
{
	printf(
"pkd match options (one of the first two is required):\n"
"  --key-file PATH   read KEY from the only line of this file, which only its\n"
"                    owner should be able to read; absolute, at most %u bytes\n"
"  --key KEY         the secret, at most %u bytes; ps shows it to every user\n"
"                    while this command runs, so prefer --key-file\n"
"  --tag TAG         tag that selects this key, at most %u bytes (default %s)\n"
"  --window SECONDS  how far a knock's time may differ from the gateway's clock,\n"
"                    0 to 4294967295 (default %u); 0: the gateway has no clock,\n"
"                    and each knock's time must be later than the last one's\n"
"  --format FORMAT   classic (default), or 2; a rule never matches the other\n"
"  --require LIST    format 2: addresses that a knock must be bound to: source,\n"
"                    destination, or both with a comma (default: neither)\n"
"  --request WHAT    format 2: match only knocks that ask to open (default), or\n"
"                    only those that ask to close\n"
"KEY and TAG are text, or hexadecimal after 0x. An odd digit at the end is the\n"
"high nibble of a last byte (0xa1b is a1 b0). Both are padded with zero bytes.\n",
	       XT_PKD_PATH_LEN - 1, XT_PKD_KEY_LEN, XT_PKD_TAG_LEN, XT_PKD_DEFAULT_TAG,
	       XT_PKD_DEFAULT_WINDOW);
}

static void pkd_mt_init_rule(struct xt_pkd_mtinfo *rule)
{
	memcpy(rule->tag, XT_PKD_DEFAULT_TAG, XT_PKD_TAG_LEN);
	rule->window = XT_PKD_DEFAULT_WINDOW;
}

static void pkd_mt_init_v0(struct xt_entry_match *match)
{
	pkd_mt_init_rule((struct xt_pkd_mtinfo *)match->data);
}

static void pkd_mt_init_v1(struct xt_entry_match *match)
{
	pkd_mt_init_rule(&((struct xt_pkd_mtinfo_v1 *)match->data)->rule);
}

static void pkd_mt_init_v2(struct xt_entry_match *match)
{
	struct xt_pkd_mtinfo_v2 *info = (struct xt_pkd_mtinfo_v2 *)match->data;

	pkd_mt_init_rule(&info->rule);
	info->format = XT_PKD_CLASSIC;
}

static void pkd_mt_parse_rule(struct xt_option_call *cb, struct xt_pkd_mtinfo *rule)
{
	switch (cb->entry->id) {
	case O_KEY:
		pkd_parse_text("--key", "", cb->arg, rule->key, sizeof(rule->key));
		break;
	case O_TAG:
		pkd_parse_text("--tag", "", cb->arg, rule->tag, sizeof(rule->tag));
		break;
	case O_WINDOW:
		rule->window = pkd_parse_window(cb->arg);
		break;
	}
}

/* The options of format 2, for the revisions without it. */
static void pkd_mt_parse_classic(const struct xt_option_call *cb)
{
	switch (cb->entry->id) {
	case O_FORMAT:
		if (pkd_parse_format(cb->arg) == XT_PKD_FORMAT2)
			xtables_error(PARAMETER_PROBLEM,
				      "pkd: --format 2 needs revision 2 of the match: load a kernel module xt_pkd that has it first");
		break;
	case O_REQUIRE:
		pkd_parse_require(cb->arg);
		break;
	case O_REQUEST:
		pkd_parse_request(cb->arg);
		break;
	}
}

static void pkd_mt_parse_v0(struct xt_option_call *cb)
{
	/* Rejects "!" and repeated options. */
	xtables_option_parse(cb);
	if (cb->entry->id == O_KEY_FILE)
		xtables_error(PARAMETER_PROBLEM,
			      "pkd: --key-file needs revision 1 of the match: load the kernel module xt_pkd first");
	pkd_mt_parse_classic(cb);
	pkd_mt_parse_rule(cb, cb->data);
}

static void pkd_mt_parse_v1(struct xt_option_call *cb)
{
	struct xt_pkd_mtinfo_v1 *info = cb->data;

	xtables_option_parse(cb);
	pkd_mt_parse_classic(cb);
	if (cb->entry->id == O_KEY_FILE)
		pkd_parse_key_file(cb->arg, &info->rule, info->key_file);
	else
		pkd_mt_parse_rule(cb, &info->rule);
}

static void pkd_mt_parse_v2(struct xt_option_call *cb)
{
	struct xt_pkd_mtinfo_v2 *info = cb->data;

	xtables_option_parse(cb);
	switch (cb->entry->id) {
	case O_KEY_FILE:
		pkd_parse_key_file(cb->arg, &info->rule, info->key_file);
		break;
	case O_FORMAT:
		info->format = pkd_parse_format(cb->arg);
		break;
	case O_REQUIRE:
		info->require = pkd_parse_require(cb->arg);
		break;
	case O_REQUEST:
		info->request = pkd_parse_request(cb->arg);
		break;
	default:
		pkd_mt_parse_rule(cb, &info->rule);
	}
}

static void pkd_check_format(const struct xt_fcheck_call *cb, bool is_format2)
{
	if (cb->xflags & (1 << O_REQUIRE) && !is_format2)
		xtables_error(PARAMETER_PROBLEM, "pkd: --require needs --format 2");
	if (cb->xflags & (1 << O_REQUEST) && !is_format2)
		xtables_error(PARAMETER_PROBLEM, "pkd: --request needs --format 2");
}

static void pkd_mt_check_v0(struct xt_fcheck_call *cb)
{
	pkd_check_format(cb, false);
	if (!(cb->xflags & (1 << O_KEY)))
		xtables_error(PARAMETER_PROBLEM, "pkd: missing key: give --key");
}

static void pkd_check_keys(const struct xt_fcheck_call *cb)
{
	bool key = cb->xflags & (1 << O_KEY);
	bool key_file = cb->xflags & (1 << O_KEY_FILE);

	if (!key && !key_file)
		xtables_error(PARAMETER_PROBLEM,
			      "pkd: missing key: give --key-file or --key");
	if (key && key_file)
		xtables_error(PARAMETER_PROBLEM,
			      "pkd: --key and --key-file cannot be used together");
}

static void pkd_mt_check_v1(struct xt_fcheck_call *cb)
{
	pkd_check_format(cb, false);
	pkd_check_keys(cb);
}

static void pkd_mt_check_v2(struct xt_fcheck_call *cb)
{
	const struct xt_pkd_mtinfo_v2 *info = cb->data;

	pkd_check_format(cb, info->format == XT_PKD_FORMAT2);
	pkd_check_keys(cb);
}

static void pkd_mt_print_rule(const struct xt_pkd_mtinfo *rule)
{
	char tag[PKD_TEXT_FORMAT_LEN(XT_PKD_TAG_LEN)];

	pkd_text_format(rule->tag, sizeof(rule->tag), tag);
	printf(" pkd tag:%s window:%u", tag, rule->window);
}

static void pkd_mt_print_v0(const void *ip, const struct xt_entry_match *match, int numeric)
{
	(void)ip;
	(void)numeric;
	pkd_mt_print_rule((const struct xt_pkd_mtinfo *)match->data);
	printf(" key:hidden");
}

static void pkd_print_key(const char *key_file)
{
	if (key_file[0] != '\0')
		printf(" key-file:%.*s", XT_PKD_PATH_LEN, key_file);
	else
		printf(" key:hidden");
}

static void pkd_mt_print_v1(const void *ip, const struct xt_entry_match *match, int numeric)
{
	const struct xt_pkd_mtinfo_v1 *info = (const void *)match->data;

	(void)ip;
	(void)numeric;
	pkd_mt_print_rule(&info->rule);
	pkd_print_key(info->key_file);
}

static const char *pkd_request_text(uint8_t request)
{
	return request == XT_PKD_CLOSE ? "close" : "open";
}

static void pkd_mt_print_v2(const void *ip, const struct xt_entry_match *match, int numeric)
{
	const struct xt_pkd_mtinfo_v2 *info = (const void *)match->data;
	const char *require = pkd_require_text(info->require);

	(void)ip;
	(void)numeric;
	pkd_mt_print_rule(&info->rule);
	if (info->format == XT_PKD_FORMAT2) {
		printf(" format:2");
		if (require)
			printf(" require:%s", require);
		printf(" request:%s", pkd_request_text(info->request));
	}
	pkd_print_key(info->key_file);
}

static void pkd_save_text(const char *option, const uint8_t *bytes, size_t size)
{
	char text[PKD_TEXT_FORMAT_LEN(XT_PKD_KEY_LEN)];

	pkd_text_format(bytes, size, text);
	printf(" --%s", option);
	xtables_save_string(text);
}

static void pkd_mt_save_rest(const struct xt_pkd_mtinfo *rule)
{
	pkd_save_text("tag", rule->tag, sizeof(rule->tag));
	printf(" --window %u", rule->window);
}

static void pkd_mt_save_v0(const void *ip, const struct xt_entry_match *match)
{
	const struct xt_pkd_mtinfo *rule = (const void *)match->data;

	(void)ip;
	pkd_save_text("key", rule->key, sizeof(rule->key));
	pkd_mt_save_rest(rule);
}

static void pkd_save_rule(const struct xt_pkd_mtinfo *rule, const char *key_file)
{
	/* Another program may have passed the kernel a path without a terminating zero. */
	char path[XT_PKD_PATH_LEN + 1] = "";

	memcpy(path, key_file, XT_PKD_PATH_LEN);
	if (path[0] != '\0') {
		printf(" --key-file");
		xtables_save_string(path);
	} else {
		pkd_save_text("key", rule->key, sizeof(rule->key));
	}
	pkd_mt_save_rest(rule);
}

static void pkd_mt_save_v1(const void *ip, const struct xt_entry_match *match)
{
	const struct xt_pkd_mtinfo_v1 *info = (const void *)match->data;

	(void)ip;
	pkd_save_rule(&info->rule, info->key_file);
}

/* A classic rule is saved in the words of revision 1, which older versions read too. */
static void pkd_mt_save_v2(const void *ip, const struct xt_entry_match *match)
{
	const struct xt_pkd_mtinfo_v2 *info = (const void *)match->data;
	const char *require = pkd_require_text(info->require);

	(void)ip;
	pkd_save_rule(&info->rule, info->key_file);
	if (info->format != XT_PKD_FORMAT2)
		return;
	printf(" --format 2");
	if (require)
		printf(" --require %s", require);
	if (info->request != XT_PKD_OPEN)
		printf(" --request %s", pkd_request_text(info->request));
}

static struct xtables_match pkd_mt_reg[] = {
	{
		.version	= XTABLES_VERSION,
		.name		= "pkd",
		.revision	= 0,
		.family		= NFPROTO_UNSPEC,
		.size		= XT_ALIGN(sizeof(struct xt_pkd_mtinfo)),
		.userspacesize	= XT_ALIGN(sizeof(struct xt_pkd_mtinfo)),
		.help		= pkd_mt_help,
		.init		= pkd_mt_init_v0,
		.print		= pkd_mt_print_v0,
		.save		= pkd_mt_save_v0,
		.x6_parse	= pkd_mt_parse_v0,
		.x6_fcheck	= pkd_mt_check_v0,
		.x6_options	= pkd_mt_opts,
	},
	{
		.version	= XTABLES_VERSION,
		.name		= "pkd",
		.revision	= 1,
		.family		= NFPROTO_UNSPEC,
		.size		= XT_ALIGN(sizeof(struct xt_pkd_mtinfo_v1)),
		.userspacesize	= offsetof(struct xt_pkd_mtinfo_v1, cache),
		.help		= pkd_mt_help,
		.init		= pkd_mt_init_v1,
		.print		= pkd_mt_print_v1,
		.save		= pkd_mt_save_v1,
		.x6_parse	= pkd_mt_parse_v1,
		.x6_fcheck	= pkd_mt_check_v1,
		.x6_options	= pkd_mt_opts,
	},
	{
		.version	= XTABLES_VERSION,
		.name		= "pkd",
		.revision	= 2,
		.family		= NFPROTO_UNSPEC,
		.size		= XT_ALIGN(sizeof(struct xt_pkd_mtinfo_v2)),
		.userspacesize	= offsetof(struct xt_pkd_mtinfo_v2, cache),
		.help		= pkd_mt_help,
		.init		= pkd_mt_init_v2,
		.print		= pkd_mt_print_v2,
		.save		= pkd_mt_save_v2,
		.x6_parse	= pkd_mt_parse_v2,
		.x6_fcheck	= pkd_mt_check_v2,
		.x6_options	= pkd_mt_opts,
	},
};

/* How many revisions to register, oldest first; tests register fewer to exercise the kernel's. */
#ifndef PKD_REVISIONS
#define PKD_REVISIONS (sizeof(pkd_mt_reg) / sizeof(pkd_mt_reg[0]))
#endif

/* Must not be a name in libxtables (_init, xtables_init): musl would bind its calls to ours. */
static void __attribute__((constructor)) libxt_pkd_init(void)
{
	xtables_register_matches(pkd_mt_reg, PKD_REVISIONS);
}
