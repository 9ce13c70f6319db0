// SPDX-License-Identifier: GPL-2.0-only
/*
 * Drives libxt_pkd.so through libxtables as iptables does, without a kernel:
 *
 *	XTABLES_LIBDIR=DIR options_test REVISION [--help | OPTION...]
 *
 * REVISION is the highest revision that the kernel supposedly supports. Prints three lines,
 *
 *	save:OUTPUT OF IPTABLES-SAVE
 *	print:OUTPUT OF IPTABLES -L
 *	info:THE BYTES THAT IPTABLES COMPARES, IN HEXADECIMAL
 *
 * or the help text. Exits with 2 and a message on standard error if the options are invalid, and
 * with 1 if the extension cannot be loaded.
 */
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xtables.h>

static int highest_revision;

static void __attribute__((noreturn, format(printf, 2, 3)))
exit_error(enum xtables_exittype status, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\n");
	exit(status);
}

static int kernel_supports(const char *name, uint8_t revision, int opt)
{
	(void)name;
	(void)opt;
	return revision <= highest_revision;
}

static struct option no_options[] = { { 0 } };

static struct xtables_globals globals = {
	.program_name = "options_test",
	.program_version = "1",
	.orig_opts = no_options,
	.opts = no_options,
	.exit_err = exit_error,
	.compat_rev = kernel_supports,
};

static struct xtables_match *load_match(void)
{
	struct xtables_match *match;
	size_t size;

	match = xtables_find_match("pkd", XTF_LOAD_MUST_SUCCEED, NULL);
	size = XT_ALIGN(sizeof(struct xt_entry_match)) + match->size;
	match->m = xtables_calloc(1, size);
	match->m->u.match_size = size;
	strcpy(match->m->u.user.name, match->name);
	match->m->u.user.revision = match->revision;
	match->init(match->m);
	globals.opts = xtables_options_xfrm(globals.orig_opts, globals.opts, match->x6_options,
					    &match->option_offset);
	return match;
}

static void parse(struct xtables_match *match, int argc, char **argv)
{
	bool invert = false;
	int c;

	/* "-" returns non-option words in order, as 1; iptables finds its "!" among them. */
	while ((c = getopt_long(argc, argv, "-", globals.opts, NULL)) != -1) {
		if (c == 1 && !strcmp(optarg, "!")) {
			invert = true;
			continue;
		}
		if (c == 1 || c == '?')
			exit_error(PARAMETER_PROBLEM, "unknown option");
		xtables_option_mpcall(c, argv, invert, match, NULL);
		invert = false;
	}
	xtables_option_mfcall(match);
}

int main(int argc, char **argv)
{
	struct xtables_match *match;
	size_t i;

	if (argc < 2)
		exit_error(OTHER_PROBLEM, "usage: options_test REVISION [--help | OPTION...]");
	highest_revision = atoi(argv[1]);
	if (xtables_init_all(&globals, NFPROTO_IPV4) < 0)
		exit_error(OTHER_PROBLEM, "cannot initialize libxtables");
	match = load_match();

	if (argc == 3 && !strcmp(argv[2], "--help")) {
		match->help();
		return 0;
	}

	opterr = 0;
	parse(match, argc - 1, argv + 1);
	printf("save:");
	match->save(NULL, match->m);
	printf("\nprint:");
	match->print(NULL, match->m, 1);
	printf("\ninfo:");
	for (i = 0; i < match->userspacesize; i++)
		printf("%02x", match->m->data[i]);
	printf("\n");
	return 0;
}
