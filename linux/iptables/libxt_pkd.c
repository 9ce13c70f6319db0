// SPDX-License-Identifier: GPL-2.0-only
/*
 * The iptables extension for the match "pkd": the options after "-m pkd".
 *
 * Every error is one line that names the invalid part. No message, listing or warning contains a
 * key. Only iptables-save and "iptables -S" print keys, because their output must restore rules.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xtables.h>

#include "pkd_text.h"
#include "xt_pkd.h"

/* Room for the longest valid content: a byte order mark, 0x, two digits per byte, CR, LF. */
#define PKD_FILE_MAX 127

/* Windows editors write this UTF-8 mark at the start of a file; it is not part of the text. */
static const char pkd_byte_order_mark[] = { '\xef', '\xbb', '\xbf' };

enum {
	O_KEY,
	O_KEY_FILE,
	O_TAG,
	O_WINDOW,
};

/* For both revisions, so that revision 0 can explain why it lacks --key-file. */
static const struct xt_option_entry pkd_mt_opts[] = {
	{ .name = "key", .id = O_KEY, .type = XTTYPE_STRING },
	{ .name = "key-file", .id = O_KEY_FILE, .type = XTTYPE_STRING },
	{ .name = "tag", .id = O_TAG, .type = XTTYPE_STRING },
	{ .name = "window", .id = O_WINDOW, .type = XTTYPE_STRING },
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

/* Errors name subject and path as the source of the text; path may be empty. */
static void pkd_parse_text(const char *subject, const char *path, const char *text, uint8_t *out,
			   size_t size)
{
	struct pkd_text_error err;

	if (pkd_text_parse(text, out, size, &err) == 0)
		return;

	switch (err.problem) {
	case PKD_TEXT_EMPTY:
		if (pkd_text_is_hexadecimal(text))
			xtables_error(PARAMETER_PROBLEM, "pkd: %s%s: no digits after 0x",
				      subject, path);
		xtables_error(PARAMETER_PROBLEM, "pkd: %s%s: empty: expected 1 to %zu bytes",
			      subject, path, size);
	case PKD_TEXT_TOO_LONG:
		xtables_error(PARAMETER_PROBLEM, "pkd: %s%s: too long: %zu bytes, maximum %zu",
			      subject, path, err.given, size);
	case PKD_TEXT_NOT_HEXADECIMAL:
		xtables_error(PARAMETER_PROBLEM,
			      "pkd: %s%s: invalid character at offset %zu: expected a hexadecimal digit",
			      subject, path, err.position);
	}
}

/* The length of text up to its first control character, which must not be printed. */
static size_t pkd_printable(const char *text)
{
	size_t i;

	for (i = 0; (unsigned char)text[i] >= ' ' && text[i] != 0x7f; i++)
		;
	return i;
}

static uint32_t pkd_parse_window(const char *arg)
{
	uint64_t seconds = 0;
	const char *p;

	/* Not strtoul(): it accepts signs, spaces and, with base 0, octal. */
	for (p = arg; *p >= '0' && *p <= '9' && seconds <= UINT32_MAX; p++)
		seconds = seconds * 10 + (*p - '0');
	if (p == arg || *p != '\0' || seconds > UINT32_MAX)
		xtables_error(PARAMETER_PROBLEM,
			      "pkd: --window: invalid value '%.*s': expected 0 to %u",
			      (int)pkd_printable(arg), arg, UINT32_MAX);
	return seconds;
}

static void pkd_check_path(const char *path)
{
	size_t length = strlen(path);

	if (length == 0)
		xtables_error(PARAMETER_PROBLEM, "pkd: --key-file: empty path");
	if (length >= XT_PKD_PATH_LEN)
		xtables_error(PARAMETER_PROBLEM,
			      "pkd: --key-file: path too long: %zu bytes, maximum %u",
			      length, XT_PKD_PATH_LEN - 1);
	if (pkd_printable(path) != length)
		xtables_error(PARAMETER_PROBLEM,
			      "pkd: --key-file: control character in the path at offset %zu",
			      pkd_printable(path));
	/* Do not print the path: it may be a key that was given to the wrong option. */
	if (path[0] != '/')
		xtables_error(PARAMETER_PROBLEM, "pkd: --key-file: expected an absolute path");
}

/* Returns the file's length. content has room for PKD_FILE_MAX + 1 characters. */
static size_t pkd_read_file(const char *path, char *content)
{
	struct stat st;
	size_t length = 0;
	ssize_t got;
	int fd;

	/* Without O_NONBLOCK, a FIFO would block iptables, which holds its lock, until someone writes. */
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		xtables_error(PARAMETER_PROBLEM, "pkd: cannot read key file %s: %s",
			      path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		xtables_error(PARAMETER_PROBLEM, "pkd: key file %s: not a regular file", path);

	do {
		got = read(fd, content + length, PKD_FILE_MAX + 1 - length);
		if (got < 0 && errno != EINTR)
			xtables_error(PARAMETER_PROBLEM, "pkd: cannot read key file %s: %s",
				      path, strerror(errno));
		if (got > 0)
			length += got;
	} while (got != 0 && length <= PKD_FILE_MAX);
	close(fd);

	if (length > PKD_FILE_MAX)
		xtables_error(PARAMETER_PROBLEM,
			      "pkd: key file %s: too long: more than %u bytes",
			      path, PKD_FILE_MAX);
	if (st.st_mode & 077)
		fprintf(stderr,
			"Warning: pkd: key file %s: mode %04o gives access to other users: use chmod 600\n",
			path, (unsigned int)(st.st_mode & 07777));
	return length;
}

static void pkd_parse_key_file(const char *path, struct xt_pkd_mtinfo_v1 *info)
{
	char content[PKD_FILE_MAX + 1];
	char *text = content;
	const char *zero;
	size_t length;

	pkd_check_path(path);
	length = pkd_read_file(path, content);

	if (length >= sizeof(pkd_byte_order_mark) &&
	    !memcmp(text, pkd_byte_order_mark, sizeof(pkd_byte_order_mark))) {
		text += sizeof(pkd_byte_order_mark);
		length -= sizeof(pkd_byte_order_mark);
	}
	if (length > 0 && text[length - 1] == '\n') {
		length--;
		if (length > 0 && text[length - 1] == '\r')
			length--;
	}
	if (memchr(text, '\n', length))
		xtables_error(PARAMETER_PROBLEM, "pkd: key file %s: more than one line", path);
	zero = memchr(text, '\0', length);
	if (zero)
		xtables_error(PARAMETER_PROBLEM,
			      "pkd: key file %s: zero byte at offset %zu",
			      path, (size_t)(zero - text));
	text[length] = '\0';

	pkd_parse_text("key file ", path, text, info->rule.key, sizeof(info->rule.key));
	memcpy(info->key_file, path, strlen(path) + 1);
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

static void pkd_mt_parse_v0(struct xt_option_call *cb)
{
	/* Rejects "!" and repeated options. */
	xtables_option_parse(cb);
	if (cb->entry->id == O_KEY_FILE)
		xtables_error(PARAMETER_PROBLEM,
			      "pkd: --key-file needs revision 1 of the match: load the kernel module xt_pkd first");
	pkd_mt_parse_rule(cb, cb->data);
}

static void pkd_mt_parse_v1(struct xt_option_call *cb)
{
	struct xt_pkd_mtinfo_v1 *info = cb->data;

	xtables_option_parse(cb);
	if (cb->entry->id == O_KEY_FILE)
		pkd_parse_key_file(cb->arg, info);
	else
		pkd_mt_parse_rule(cb, &info->rule);
}

static void pkd_mt_check_v0(struct xt_fcheck_call *cb)
{
	if (!(cb->xflags & (1 << O_KEY)))
		xtables_error(PARAMETER_PROBLEM, "pkd: missing key: give --key");
}

static void pkd_mt_check_v1(struct xt_fcheck_call *cb)
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

static void pkd_mt_print_v1(const void *ip, const struct xt_entry_match *match, int numeric)
{
	const struct xt_pkd_mtinfo_v1 *info = (const void *)match->data;

	(void)ip;
	(void)numeric;
	pkd_mt_print_rule(&info->rule);
	if (info->key_file[0] != '\0')
		printf(" key-file:%.*s", (int)sizeof(info->key_file), info->key_file);
	else
		printf(" key:hidden");
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

static void pkd_mt_save_v1(const void *ip, const struct xt_entry_match *match)
{
	const struct xt_pkd_mtinfo_v1 *info = (const void *)match->data;
	/* Another program may have passed the kernel a path without a terminating zero. */
	char path[XT_PKD_PATH_LEN + 1] = "";

	(void)ip;
	memcpy(path, info->key_file, sizeof(info->key_file));
	if (path[0] != '\0') {
		printf(" --key-file");
		xtables_save_string(path);
	} else {
		pkd_save_text("key", info->rule.key, sizeof(info->rule.key));
	}
	pkd_mt_save_rest(&info->rule);
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
