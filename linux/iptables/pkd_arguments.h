/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What follows an option of "-m pkd": keys, tags, key files, windows, and the words of format 2.
 *
 * Each function returns the value, or ends iptables with one line that names the invalid part. No
 * message contains a key.
 */
#ifndef _PKD_ARGUMENTS_H
#define _PKD_ARGUMENTS_H

#include <errno.h>
#include <fcntl.h>
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

static void __attribute__((noreturn))
pkd_invalid_value(const char *option, const char *arg, const char *expected)
{
	xtables_error(PARAMETER_PROBLEM, "pkd: %s: invalid value '%.*s': expected %s",
		      option, (int)pkd_printable(arg), arg, expected);
}

static uint8_t pkd_parse_format(const char *arg)
{
	if (!strcmp(arg, "classic"))
		return XT_PKD_CLASSIC;
	if (!strcmp(arg, "2"))
		return XT_PKD_FORMAT2;
	pkd_invalid_value("--format", arg, "classic or 2");
}

/* NULL for none, and for what only another program may have passed to the kernel. */
static const char *pkd_require_text(uint8_t require)
{
	switch (require) {
	case XT_PKD_SOURCE:
		return "source";
	case XT_PKD_DESTINATION:
		return "destination";
	case XT_PKD_SOURCE | XT_PKD_DESTINATION:
		return "source,destination";
	}
	return NULL;
}

static uint8_t pkd_parse_require(const char *arg)
{
	uint8_t require;

	for (require = XT_PKD_SOURCE; pkd_require_text(require); require++)
		if (!strcmp(arg, pkd_require_text(require)))
			return require;
	if (!strcmp(arg, "destination,source"))
		return XT_PKD_SOURCE | XT_PKD_DESTINATION;
	pkd_invalid_value("--require", arg, "source, destination or source,destination");
}

static uint8_t pkd_parse_request(const char *arg)
{
	if (!strcmp(arg, "open"))
		return XT_PKD_OPEN;
	if (!strcmp(arg, "close"))
		return XT_PKD_CLOSE;
	pkd_invalid_value("--request", arg, "open or close");
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

static void pkd_parse_key_file(const char *path, struct xt_pkd_mtinfo *rule, char *key_file)
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

	pkd_parse_text("key file ", path, text, rule->key, sizeof(rule->key));
	memcpy(key_file, path, strlen(path) + 1);
}

#endif /* _PKD_ARGUMENTS_H */
