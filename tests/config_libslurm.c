/*
 * What libslurm says about hostlists: reads lines "LIST<TAB>NODE<TAB>OURS" and writes for each of them what
 * hostlist_find says: y (the node is in the list), n (it is not) or e (the list is refused). Where that is y or n and
 * OURS is the other one, a second letter says whether the node is among the names that the list expands to.
 * tests/config_libslurm runs it where Debian's libslurm is.
 *
 *   config_libslurm CASES [FIRST]   FIRST: the line to begin with, from 0
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
	void *lib = dlopen("libslurm.so", RTLD_NOW | RTLD_LOCAL);
	FILE *cases = argc > 1 ? fopen(argv[1], "r") : NULL;
	long first = argc > 2 ? atol(argv[2]) : 0;
	void *(*create)(const char *) = NULL;
	int (*find)(void *, const char *) = NULL;
	void (*destroy)(void *) = NULL;
	char *(*shift)(void *) = NULL;
	char *line = NULL;
	size_t size = 0;

	if (lib) {
		*(void **)&create = dlsym(lib, "slurm_hostlist_create");
		*(void **)&find = dlsym(lib, "slurm_hostlist_find");
		*(void **)&destroy = dlsym(lib, "slurm_hostlist_destroy");
		*(void **)&shift = dlsym(lib, "slurm_hostlist_shift");
	}
	if (!cases || !create || !find || !destroy || !shift) {
		fprintf(stderr, "config_libslurm: %s\n", cases ? dlerror() : "cannot read the cases");
		return 2;
	}
	/* A line at a time: if libslurm ends us, what is there says where. */
	setvbuf(stdout, NULL, _IOLBF, 1 << 16);
	for (long number = 0; getline(&line, &size, cases) > 0; number++) {
		char *rest = line, *list_text = strsep(&rest, "\t"), *node = strsep(&rest, "\t"), *ours = rest;
		char found, *name;
		void *list;

		if (number < first || !ours)
			continue;
		list = create(list_text);
		if (!list) {
			puts("e");
			continue;
		}
		found = find(list, node) >= 0 ? 'y' : 'n';
		putchar(found);
		if (*ours != 'e' && *ours != found) {
			char expanded = 'n';

			while ((name = shift(list))) {
				if (!strcmp(name, node))
					expanded = 'y';
				free(name);
			}
			putchar(expanded);
		}
		putchar('\n');
		destroy(list);
	}
	return 0;
}
