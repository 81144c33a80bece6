// litter DIRECTORY DIRS FILES KIND: makes what a job may leave. See `removal`.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void check(int result, const char *what)
{
	if (result >= 0)
		return;
	perror(what);
	exit(1);
}

static void make_files(int dir, int count)
{
	char name[32];
	for (int i = 0; i < count; i++) {
		snprintf(name, sizeof name, "file-%d", i);
		int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL, 0600);
		check(fd, name);
		close(fd);
	}
}

int main(int argc, char **argv)
{
	if (argc != 5)
		return 2;
	int dirs = atoi(argv[2]), files = atoi(argv[3]), top = open(argv[1], O_RDONLY | O_DIRECTORY);
	check(top, argv[1]);
	if (!strcmp(argv[4], "flat")) {
		make_files(top, files);
		return 0;
	}
	for (int i = 0; i < dirs; i++) {
		char name[32];
		snprintf(name, sizeof name, "d%d", i);
		check(mkdirat(top, name, 0700), name);
		int dir = openat(top, name, O_RDONLY | O_DIRECTORY);
		check(dir, name);
		make_files(dir, files);
		if (!strcmp(argv[4], "deep")) {
			close(top);
			top = dir;
		} else {
			close(dir);
		}
	}
	return 0;
}
