/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Keys and tags in their written form: plain text, or hexadecimal after "0x".
 *
 * Plain C99, independent of iptables. pkd-core has the same parser in Rust; both are tested with
 * tests/vectors/text.json.
 */
#ifndef _PKD_TEXT_H
#define _PKD_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum pkd_text_problem {
	/* The text is empty, or "0x" without digits. */
	PKD_TEXT_EMPTY,
	/* More bytes than fit. */
	PKD_TEXT_TOO_LONG,
	/* A character after "0x" is not a hexadecimal digit. */
	PKD_TEXT_NOT_HEXADECIMAL,
};

struct pkd_text_error {
	enum pkd_text_problem problem;
	/* PKD_TEXT_TOO_LONG: the number of bytes that the text encodes. */
	size_t given;
	/* PKD_TEXT_NOT_HEXADECIMAL: offset in the text; the first digit after "0x" is at 2. */
	size_t position;
};

/* Characters that pkd_text_format() needs for size bytes, including the terminating zero. */
#define PKD_TEXT_FORMAT_LEN(size) (2 + 2 * (size) + 1)

/* The value of a digit, or -1. Not isxdigit(), which depends on the locale. */
static inline int pkd_text_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static inline bool pkd_text_is_hexadecimal(const char *text)
{
	return text[0] == '0' && text[1] == 'x';
}

/*
 * Parses text into the size bytes of out, padded with zero bytes. An odd digit at the end is the
 * high nibble of a last byte.
 *
 * Returns 0, or -1 with the reason in err and out unchanged.
 */
static inline int pkd_text_parse(const char *text, uint8_t *out, size_t size,
				 struct pkd_text_error *err)
{
	const char *digits = text + 2;
	size_t given, i;

	if (pkd_text_is_hexadecimal(text)) {
		for (i = 0; digits[i] != '\0'; i++) {
			if (pkd_text_digit(digits[i]) < 0) {
				err->problem = PKD_TEXT_NOT_HEXADECIMAL;
				err->position = i + 2;
				return -1;
			}
		}
		given = i / 2 + i % 2;
	} else {
		given = strlen(text);
	}

	if (given == 0) {
		err->problem = PKD_TEXT_EMPTY;
		return -1;
	}
	if (given > size) {
		err->problem = PKD_TEXT_TOO_LONG;
		err->given = given;
		return -1;
	}

	memset(out, 0, size);
	if (!pkd_text_is_hexadecimal(text)) {
		memcpy(out, text, given);
		return 0;
	}
	for (i = 0; digits[i] != '\0'; i++)
		out[i / 2] |= pkd_text_digit(digits[i]) << (i % 2 ? 0 : 4);
	return 0;
}

/*
 * True if these bytes as text have the same meaning for pkd_text_parse(), for iptables-restore and,
 * in quotes, for a shell: printable ASCII without spaces, without characters that a shell expands
 * in double quotes, and without a first character that looks like an option or a negation.
 */
static inline bool pkd_text_is_plain(const uint8_t *bytes, size_t length)
{
	size_t i;

	if (length == 0 || bytes[0] == '-')
		return false;
	if (length >= 2 && bytes[0] == '0' && bytes[1] == 'x')
		return false;
	for (i = 0; i < length; i++) {
		if (bytes[i] <= ' ' || bytes[i] > '~')
			return false;
		if (strchr("\"'\\$`!", bytes[i]))
			return false;
	}
	return true;
}

/*
 * Formats bytes so that pkd_text_parse() returns the same bytes: as text where that is safe,
 * otherwise as hexadecimal. Trailing zero bytes are omitted, but one remains if all are.
 *
 * out has room for PKD_TEXT_FORMAT_LEN(size) characters; size is at least 1.
 */
static inline void pkd_text_format(const uint8_t *bytes, size_t size, char *out)
{
	static const char digits[] = "0123456789abcdef";
	size_t length = size, i;

	while (length > 1 && bytes[length - 1] == 0)
		length--;

	if (pkd_text_is_plain(bytes, length)) {
		memcpy(out, bytes, length);
		out[length] = '\0';
		return;
	}

	*out++ = '0';
	*out++ = 'x';
	for (i = 0; i < length; i++) {
		*out++ = digits[bytes[i] >> 4];
		*out++ = digits[bytes[i] & 0x0f];
	}
	*out = '\0';
}

#endif /* _PKD_TEXT_H */
