// A plugin around a plugin, for tests/bench: it loads the real one as Slurm does, forwards every call, and appends the time
// of each to a file, as a line "NAME NANOSECONDS" with one write; outside slurmstepd NAME is NAME(slurmd). It has the type
// and version of the real one, so Slurm accepts it.
//
// Built with -DREAL="PATH" -DLOG="PATH" -DVERSION=WORD. As usual, the daemon resolves the undefined symbols of the real
// plugin: its symbols are in the global scope, which is searched first. Slurm loads plugins with RTLD_LAZY: if a plugin
// allows it, the first call of a function includes its lookup.
#include <dlfcn.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

const char plugin_name[] = "proxy of a namespace plugin", plugin_type[] = "namespace/linux";
const uint32_t plugin_version = VERSION;

enum { SLURM_ERROR = -1, IS_SLURMSTEPD = 0x20 };
extern uint32_t slurm_daemon __attribute__((weak)); // of slurmd and slurmstepd

static struct {
	int (*init)(void);
	void (*fini)(void);
	int (*restore)(char *, bool);
	int (*send_stepd)(int);
	int (*recv_stepd)(int);
	int (*stepd_create)(void *);
	int (*stepd_delete)(void *);
	int (*join)(void *, unsigned, bool);
	int (*join_external)(void *, void *);
	bool (*can_bpf)(void *);
	int (*setup_bpf_token)(void *);
} real;

static uint64_t now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

// Before the call: after a join, the file may not be there.
static int open_log(void) { return open(LOG, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644); }

static void append(int log, const char *name, uint64_t took, int rc)
{
	char line[64];
	const char *where = &slurm_daemon && slurm_daemon == IS_SLURMSTEPD ? "" : "(slurmd)";
	int size = snprintf(line, sizeof line, "%s%s%s %lu\n", rc ? "failed_" : "", name, where, took);
	if (write(log, line, (size_t)size) != size)
		perror("proxy: " LOG);
	close(log);
}

#define TIMED(name, call)                                                                                              \
	do {                                                                                                           \
		int log = open_log();                                                                                  \
		uint64_t start = now();                                                                                \
		int rc = call;                                                                                         \
		uint64_t took = now() - start;                                                                         \
		append(log, name, took, rc);                                                                           \
		return rc;                                                                                             \
	} while (0)

int init(void)
{
	static const char *const names[] = {
		"init", "fini", "namespace_p_restore", "namespace_p_send_stepd", "namespace_p_recv_stepd",
		"namespace_p_stepd_create", "namespace_p_stepd_delete", "namespace_p_join", "namespace_p_join_external",
		"namespace_p_can_bpf", "namespace_p_setup_bpf_token"};
	_Static_assert(sizeof real == sizeof names, "a name for each");
	void **entries = (void **)&real;
	int log = open_log();
	uint64_t start = now();
	void *handle = dlopen(REAL, RTLD_LAZY | RTLD_LOCAL);
	uint64_t took = now() - start;
	append(log, "load", took, handle ? 0 : -1);
	if (!handle) {
		fprintf(stderr, "proxy: %s\n", dlerror());
		return SLURM_ERROR;
	}
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		entries[i] = dlsym(handle, names[i]);
		if (!entries[i]) {
			fprintf(stderr, "proxy: %s\n", dlerror());
			return SLURM_ERROR;
		}
	}
	TIMED("init", real.init());
}

void fini(void)
{
	if (real.fini)
		real.fini();
}

int namespace_p_restore(char *directory, bool recover) { TIMED("restore", real.restore(directory, recover)); }
int namespace_p_recv_stepd(int fd) { TIMED("recv", real.recv_stepd(fd)); }
int namespace_p_stepd_create(void *step) { TIMED("create", real.stepd_create(step)); }
int namespace_p_stepd_delete(void *step) { TIMED("delete", real.stepd_delete(step)); }
int namespace_p_join(void *step_id, unsigned uid, bool step_create)
{
	TIMED("join", real.join(step_id, uid, step_create));
}

int namespace_p_send_stepd(int fd) { return real.send_stepd(fd); }
int namespace_p_join_external(void *step_id, void *map) { return real.join_external(step_id, map); }
bool namespace_p_can_bpf(void *step) { return real.can_bpf(step); }
int namespace_p_setup_bpf_token(void *step) { return real.setup_bpf_token(step); }
