// Shared by slurmd.c and slurmstepd.c.
#include "host.h"
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

// The daemons export these, and libslurmfull and the plugins find them by name.
static char conf_memory[CONF_SIZE] __attribute__((aligned(16)));
void *conf = conf_memory;

struct plugin plugin;
struct slurm slurm;
uint64_t load_ns, init_ns;

uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void die(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fprintf(stderr, "host: ");
	vfprintf(stderr, format, args);
	fprintf(stderr, "\n");
	va_end(args);
	exit(1);
}

bool read_line(int fd, char *line, size_t size)
{
	size_t length = 0;
	for (;;) {
		char c;
		ssize_t n = read(fd, &c, 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		if (c == '\n')
			break;
		if (length + 1 < size)
			line[length++] = c;
	}
	line[length] = 0;
	return true;
}

void reply(int fd, const char *format, ...)
{
	char line[8192];
	va_list args;
	va_start(args, format);
	int n = vsnprintf(line, sizeof line - 1, format, args);
	va_end(args);
	if (n > (int)sizeof line - 2)
		n = sizeof line - 2;
	line[n++] = '\n';
	if (write(fd, line, (size_t)n) != n)
		exit(0);
}

int count_fds(void)
{
	int n = -3; // . .. and its own
	DIR *dir = opendir("/proc/self/fd");
	if (!dir)
		die("/proc/self/fd: %s", strerror(errno));
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

struct step_id extern_step(uint32_t job)
{
	return (struct step_id){.sluid = 0x1234, .job_id = job, .step_het_comp = NO_VAL, .step_id = SLURM_EXTERN_CONT};
}

static void *symbol(void *library, const char *name)
{
	void *address = dlsym(library, name);
	if (!address)
		die("no symbol %s", name);
	return address;
}

// The daemons have several threads by the time they call a plugin.
static _Noreturn void *idle(void *unused)
{
	(void)unused;
	for (;;)
		pause();
}

static void set_conf(size_t offset, const char *text)
{
	char *copy = strdup(text);
	memcpy(conf_memory + offset, &copy, sizeof copy);
}

void load(const char *plugin_path, const char *slurm_conf, const char *version, const char *node)
{
	const char *libslurmfull = getenv("LIBSLURMFULL");
	if (!libslurmfull)
		die("LIBSLURMFULL must name libslurmfull.so");
	void *full = dlopen(libslurmfull, RTLD_LAZY | RTLD_GLOBAL);
	if (!full)
		die("%s", dlerror());
	slurm.conf_init = symbol(full, "slurm_conf_init");
	slurm.list_create = symbol(full, "slurm_list_create");
	slurm.list_pop = symbol(full, "slurm_list_pop");
	slurm.list_append = symbol(full, "slurm_list_append");
	slurm.list_count = symbol(full, "slurm_list_count");
	slurm.list_destroy = symbol(full, "slurm_list_destroy");
	slurm.xfree = symbol(full, "slurm_xfree");
	// The global scope begins with this program, as it does in the daemons.
	if (symbol(RTLD_DEFAULT, "conf") != &conf)
		die("conf is not this program's: link with -rdynamic");

	// slurmstepd alone is asked for it, and calls it before it loads the plugin.
	int (*switch_init)(bool only_default) = symbol(full, "switch_g_init");

	set_conf(CONF_HOSTNAME, "localhost");
	set_conf(CONF_NODE_NAME, node);
	set_conf(CONF_CONFFILE, slurm_conf);
	set_conf(CONF_TMP_FS, "/tmp");
	set_conf(CONF_SPOOLDIR, "/var/spool/slurmd");
	set_conf(CONF_STEPD_LOC, "/usr/sbin/slurmstepd");
	slurm.conf_init(slurm_conf);
	if (slurm_daemon == IS_SLURMSTEPD && switch_init(true))
		die("switch_g_init failed");
	pthread_t thread;
	for (int i = 0; i < 2; i++)
		if (pthread_create(&thread, NULL, idle, NULL))
			die("no thread");

	uint64_t start = now_ns();
	void *so = dlopen(plugin_path, RTLD_LAZY);
	load_ns = now_ns() - start;
	if (!so)
		die("%s", dlerror());
	plugin.version = *(uint32_t *)symbol(so, "plugin_version");
	uint32_t expected = (uint32_t)strtoul(version, NULL, 16);
	if (strncmp(symbol(so, "plugin_type"), "namespace/", 10) || !*(char *)symbol(so, "plugin_name"))
		die("%s: plugin_type is '%s'", plugin_path, (char *)symbol(so, "plugin_type"));
	if ((plugin.version ^ expected) & 0xffffff)
		die("%s: Incompatible Slurm plugin, version %x and not %x", plugin_path, plugin.version, expected);
	plugin.init = dlsym(so, "init");
	plugin.fini = dlsym(so, "fini");
	plugin.restore = symbol(so, "namespace_p_restore");
	plugin.send_stepd = symbol(so, "namespace_p_send_stepd");
	plugin.recv_stepd = symbol(so, "namespace_p_recv_stepd");
	plugin.stepd_create = symbol(so, "namespace_p_stepd_create");
	plugin.stepd_delete = symbol(so, "namespace_p_stepd_delete");
	plugin.join = symbol(so, "namespace_p_join");
	plugin.join_external = symbol(so, "namespace_p_join_external");
	plugin.can_bpf = symbol(so, "namespace_p_can_bpf");
	plugin.setup_bpf_token = symbol(so, "namespace_p_setup_bpf_token");

	start = now_ns();
	int rc = plugin.init ? plugin.init() : 0;
	init_ns = now_ns() - start;
	if (rc)
		die("%s: init gave %d", plugin_path, rc);
}
