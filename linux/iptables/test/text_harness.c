// SPDX-License-Identifier: GPL-2.0-only
/*
 * Runs pkd_text_parse() on each line "SIZE TEXT" of standard input. TEXT is in hexadecimal, so it
 * can contain any byte, and may be empty. Prints one line for each:
 *
 *	ok BYTES | Empty | TooLong GIVEN | NotHexadecimal POSITION
 *
 * For "ok", pkd_text_parse() also returned the same bytes for pkd_text_format()'s output.
 */
#include <stdio.h>
#include <stdlib.h>

#include "../pkd_text.h"

#define SIZE_MAX_BYTES 64

static void answer(size_t size, const char *text)
{
	uint8_t bytes[SIZE_MAX_BYTES], again[SIZE_MAX_BYTES];
	char formatted[PKD_TEXT_FORMAT_LEN(SIZE_MAX_BYTES)];
	struct pkd_text_error err;
	size_t i;

	if (pkd_text_parse(text, bytes, size, &err) == 0) {
		pkd_text_format(bytes, size, formatted);
		if (pkd_text_parse(formatted, again, size, &err) != 0 ||
		    memcmp(bytes, again, size) != 0) {
			printf("not preserved by %s\n", formatted);
			return;
		}
		printf("ok ");
		for (i = 0; i < size; i++)
			printf("%02x", bytes[i]);
		printf("\n");
		return;
	}
	switch (err.problem) {
	case PKD_TEXT_EMPTY:
		printf("Empty\n");
		break;
	case PKD_TEXT_TOO_LONG:
		printf("TooLong %zu\n", err.given);
		break;
	case PKD_TEXT_NOT_HEXADECIMAL:
		printf("NotHexadecimal %zu\n", err.position);
		break;
	}
}

int main(void)
{
	char line[4096], text[sizeof(line) / 2], *hex;
	unsigned int byte;
	size_t size, i;

	while (fgets(line, sizeof(line), stdin)) {
		size = strtoul(line, &hex, 10);
		if (size == 0 || size > SIZE_MAX_BYTES || *hex++ != ' ') {
			fprintf(stderr, "text_harness: expected lines of \"SIZE TEXT-AS-HEX\"\n");
			return 1;
		}
		for (i = 0; sscanf(hex + 2 * i, "%2x", &byte) == 1; i++)
			text[i] = byte;
		text[i] = '\0';
		answer(size, text);
	}
	return 0;
}
